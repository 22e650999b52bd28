#!/usr/bin/env bash
# Transfers that last long, through members that don't own the repository and through HAProxy: a blob pushed and one pulled by
# each way at once, as slowly as it takes to last so many seconds. Three processes of `portolan serve` on SeaweedFS and
# dynoxide. Only in `tests/run everything`.
#
# usage: tests/long-transfers.sh [SECONDS]    450 if nothing is said
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/large.sh

seconds=${1:-450}
mib=128
rate=$(((mib << 20) / seconds))

slowly() { ask --max-time $((seconds * 2)) --limit-rate "$rate" "$@"; }

# push ENTRY REPOSITORY, pull ENTRY REPOSITORY: print the digest, at the other end, and the seconds.
push() {
  local at begin=$SECONDS took
  at=$(upload_begin "$2")
  content | slowly -o /dev/null -X PUT -H 'Expect:' -H "Content-Length: $((mib << 20))" -H 'Content-Type: application/octet-stream' \
    -T - "https://$1/${at#*://*/}?digest=$digest" || return
  took=$((SECONDS - begin))
  echo "$(ask_long "https://${members[1]}/v2/$2/blobs/$digest" | sha256sum | cut -d ' ' -f 1) $took"
}
pull() {
  local begin=$SECONDS got
  got=$(slowly "https://$1/v2/$2/blobs/$digest" | sha256sum) || return
  echo "${got%% *} $((SECONDS - begin))"
}

# transfer WHAT ENTRY REPOSITORY: in the background, its two figures in a file.
transfer() {
  "$1" "$2" "$3" >"$scratch/$1-$2" 2>"$logs/$1-$2.log" &
  pids+=("$!")
  transfers+=("$! $1 $2")
}

report_begin long-transfers
need_shared
cluster_start
digest_make
repository=$(repository_owned_by "${members[2]}" long/pulled)
check "$mib MiB are pushed, to be pulled" push_whole "$repository"
transfers=()
for entry in "${members[0]}" "$balancer"; do
  transfer push "$entry" "$(repository_owned_by "${members[2]}" "long/pushed-${entry##*:}")"
  transfer pull "$entry" "$repository"
done
for transfer in "${transfers[@]}"; do
  read -r pid what entry <<<"$transfer"
  status=0 got='' took=0
  wait "$pid" || status=$?
  process_forget "$pid"
  read -r got took <"$scratch/$what-$entry" || true
  equal "$what of $mib MiB through $entry for ${members[2]}, for $took s" "0 $digest" "$status sha256:$got"
  check "that is nearly $seconds s or more" test "$took" -ge $((seconds * 95 / 100))
done
cluster_stop

#!/usr/bin/env bash
# Three processes of `portolan serve` on SeaweedFS and dynoxide. A blob is pulled through a member that doesn't own it,
# again and again; each time its owner is killed with -9 when the client has got so many bytes, any number, and started
# again. The client must get every byte, without an error and without asking twice. Two members own a repository each and
# are killed in turn. Every tenth pull is crane's and every tenth skopeo's, the others are curl's.
#
# Then a chunked upload goes on at its acknowledged offset through another member, each time the one that takes a chunk, or
# the one that owns the repository, is killed.
#
# usage: tests/kill-pulls.sh [TIMES] [MIB]    20 pulls of 256 MiB when nothing is said; PORTOLAN=path tests another binary
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/large.sh
. tests/lib/image.sh

times=${1:-20}
mib=${2:-256}
bytes=$((mib << 20))
# Of the pulls whose owner is killed, the part that must be cut in the middle of the body. The others were killed when all
# of it was on its way already: a few MiB fit between owner and client.
cut_percent=75

# --- Pulls ---

# image_push REPOSITORY: an image whose one layer is the blob, as v1.
image_push() {
  local config='{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["'$digest'"]}}' at
  local config_digest
  config_digest=sha256:$(printf %s "$config" | sha256sum | cut -d ' ' -f 1)
  at=$(upload_begin "$1")
  ask -X PUT -H 'Content-Type: application/octet-stream' --data-binary "$config" "$at?digest=$config_digest"
  ask -X PUT -H "Content-Type: $oci.manifest.v1+json" "https://${members[0]}/v2/$1/manifests/v1" --data-binary @- <<END
{"schemaVersion": 2, "mediaType": "$oci.manifest.v1+json",
 "config": {"mediaType": "$oci.config.v1+json", "digest": "$config_digest", "size": ${#config}},
 "layers": [{"mediaType": "$oci.layer.v1.tar", "digest": "$digest", "size": $bytes}]}
END
}

# counter PATTERN: the sum of the front's counters whose name and labels match.
counter() {
  ask "https://${members[0]}/metrics" | awk -v pattern="^portolan_$1" '$0 ~ pattern { sum += $2 } END { print sum + 0 }'
}

# reached NUMBER REPOSITORY: the front's requests for it are answered by that member.
reached() {
  local answered="forwards_total{peer=\"${members[$1]}\",outcome=\"answered\"}" before
  before=$(counter "$answered")
  ask -o /dev/null --head "https://${members[0]}/v2/$2/blobs/$digest"
  [ "$(counter "$answered")" -gt "$before" ]
}

pull_curl() { ask_long "https://${members[0]}/v2/$1/blobs/$digest" | python3 tests/lib/kill_at.py "$2" "$3"; }
pull_crane() { crane blob "${members[0]}/$1@$digest" | python3 tests/lib/kill_at.py "$2" "$3"; }

# skopeo writes a file that grows, and compares the digest itself, too.
pull_skopeo() {
  local folder=$scratch/skopeo pulling status=0
  rm -rf "$folder"
  skopeo copy --quiet "docker://${members[0]}/$1:v1" "dir:$folder" &
  pulling=$!
  while kill -0 "$pulling" 2>/dev/null && [ "$(folder_bytes "$folder")" -lt "$3" ]; do sleep 0.02; done
  kill -KILL "$2"
  wait "$pulling" || status=$?
  sha256sum <"$folder/${digest#*:}"
  rm -rf "$folder"
  return "$status"
}

folder_bytes() { du -sb "$1" 2>/dev/null | cut -f 1 | grep . || echo 0; }

# pull_cut TURN: one check, that the client has all of it.
pull_cut() {
  local victim=$((1 + $1 % 2)) client=curl asks=1 at got status=0 asked resumed
  local repository=${repositories[victim]}
  case $(($1 % 10)) in 4) client=crane ;; 9) client=skopeo asks=2 ;; esac
  member_ready "$victim"
  wait_for 60 "${member_pids[victim]}" reached "$victim" "$repository" || die "${members[victim]} isn't asked for $repository"
  disown "${member_pids[victim]}" # bash would say that it was killed
  at=$(((RANDOM << 15 | RANDOM) * (bytes >> 15) / (1 << 15) % bytes + 1))
  asked=$(counter 'requests_total{route="blob_get"') resumed=$(counter resumed_pulls_total)
  got=$("pull_$client" "$repository" "${member_pids[victim]}" "$at" 2>"$logs/pull.txt") || status=$?
  asked=$(($(counter 'requests_total{route="blob_get"') - asked)) resumed=$(($(counter resumed_pulls_total) - resumed))
  cut=$((cut + resumed))
  member_killed "$victim"
  member_start "$victim"
  equal "$client, ${members[victim]} killed after $at bytes, finished by the front: $resumed" \
    "status 0, asked $asks, $digest" "status $status, asked $asked, sha256:${got%% *}"
  [ "$status" -eq 0 ] || excerpt <"$logs/pull.txt"
}

pulls() {
  local turn begin=$SECONDS
  cut=0
  for ((turn = 0; turn < times; turn++)); do pull_cut "$turn"; done
  for turn in 1 2; do member_ready "$turn"; done
  check "of $times pulls of $mib MiB $cut were cut in the middle, and finished by the front, in $((SECONDS - begin)) s" \
    test $((cut * 100)) -ge $((times * cut_percent))
}

# --- An upload ---

chunk=$((4 << 20))

# A client's view: $at is where the session is, and $acknowledged how many bytes of it are.
uploads() {
  local at acknowledged=0 content=$scratch/upload owner=1 front=0 other=2 whole repository
  repository=$(repository_owned_by "${members[owner]}" uploads/killed)
  head -c $((7 * chunk)) /dev/urandom >"$content"
  at=$(upload_begin "$repository")
  chunk_through "$other"
  chunk_killed "the one that it sends to" "$other" "$other" "$front"
  chunk_through "$front"
  chunk_killed "the owner" "$front" "$owner" "$other"
  chunk_through "$owner"
  chunk_killed "the owner that it sends to" "$owner" "$owner" "$front"
  while [ "$acknowledged" -lt $((7 * chunk)) ]; do chunk_through "$other"; done
  whole=sha256:$(sha256sum "$content" | cut -d ' ' -f 1)
  check "the upload ends well" ask -X PUT "$(through "$front")?digest=$whole"
  equal "and is whole" "$whole" \
    "sha256:$(ask "https://${members[other]}/v2/$repository/blobs/$whole" | sha256sum | cut -d ' ' -f 1)"
}

# through NUMBER: the session's address at that member.
through() { echo "https://${members[$1]}/${at#*://*/}"; }

# chunk_send NUMBER ARGUMENT...: the next chunk, from the acknowledged byte on; prints the answer's head.
chunk_send() {
  local to=$1
  shift
  dd if="$content" iflag=skip_bytes,count_bytes skip="$acknowledged" count="$chunk" status=none |
    ask "$@" -o /dev/null -D - -X PATCH -H 'Expect:' -H 'Content-Type: application/octet-stream' \
      -H "Content-Range: $acknowledged-$((acknowledged + chunk - 1))" --data-binary @- "$(through "$to")"
}

# range_in: the bytes that an answer's head acknowledges.
range_in() { tr -d '\r' | sed -n 's/^range: 0-//Ip' | awk '{ print $1 + 1 }'; }

# chunk_through NUMBER: one check.
chunk_through() {
  local now
  now=$(chunk_send "$1" | range_in)
  equal "a chunk through ${members[$1]} is taken" "$((acknowledged + chunk))" "$now"
  acknowledged=$now
}

# at_work NUMBER: on some client's request.
at_work() { ask "https://${members[$1]}/metrics" | grep -q '^portolan_requests_in_flight [1-9]'; }

# chunk_killed WHO NUMBER VICTIM OTHER: a chunk is being sent to one member, a victim killed meanwhile, and another one asked
# where to go on; the victim is started again.
chunk_killed() {
  local sending status=0 now
  disown "${member_pids[$3]}"
  chunk_send "$2" --max-time 120 --limit-rate 256k >/dev/null 2>&1 &
  sending=$!
  wait_for 30 "$sending" at_work "$2" || die "${members[$2]} isn't sent the chunk"
  sleep 1
  kill -KILL "${member_pids[$3]}"
  wait "$sending" || status=$?
  member_killed "$3"
  now=$(ask -o /dev/null -D - "$(through "$4")" | range_in)
  check "$1 is killed in the middle of a chunk (curl: $status): of $acknowledged bytes acknowledged ${members[$4]} knows ${now:-none}" \
    test "$status" -ne 0 -a "${now:-0}" -ge "$acknowledged"
  acknowledged=${now:-0}
  member_start "$3"
  member_ready "$3"
}


report_begin kill-pulls
need_kill_pulls
user_settings_none
export SSL_CERT_FILE
cluster_start
SSL_CERT_FILE=$mesh_ca
digest_make
repositories=('' "$(repository_owned_by "${members[1]}" pulls/one)"
  "$(repository_owned_by "${members[2]}" pulls/two)")
check "$mib MiB are pushed" push_whole "${repositories[1]}"
check "and mounted" ask -X POST "https://${members[0]}/v2/${repositories[2]}/blobs/uploads/?mount=$digest&from=${repositories[1]}"
for repository in "${repositories[@]:1}"; do check "$repository has an image of it" image_push "$repository"; done
pulls
uploads
cluster_stop

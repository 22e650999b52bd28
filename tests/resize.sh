#!/usr/bin/env bash
# Members come, go and are restarted while skopeo, crane and containerd's ctr push and pull all the time: processes of
# `portolan serve` on SeaweedFS and dynoxide, behind HAProxy.
#
#   restart  each of three members is ended by SIGTERM and started again, one after the other
#   grow     two more are started
#   shrink   three of the five end
#
# No client may fail, HAProxy may see no answer of 429 or 5xx and no broken one, and what was pushed must be there at the end.
# While the members' number changes, crane goes to a member directly, too. Needs root, for containerd.
#
# usage: tests/resize.sh [san|list]   members are who has a certificate (the default), or who is on a list in files that
#                                     change, which nobody is restarted for
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/image.sh
. tests/lib/containerd.sh

cluster_hosts=(127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.5 127.0.0.6)
case ${1:-san} in
  san) cluster_san=member.registry.internal ;;
  list) cluster_listed=("${cluster_hosts[@]:0:3}") ;;
  *) die "no such way to be a member: $1 (see the head of $0)" ;;
esac

# --- Clients ---

# Each client pushes these in turn, each into the next of its repositories: so nearly every push has something to upload.
images=11
repositories=3

images_make() {
  local n file=$scratch/random
  layer "$scratch/text.tar.gz" etc/os-release
  for ((n = 0; n < images; n++)); do
    head -c $((2 << 20)) /dev/urandom >"$file"
    layer "$file.tar.gz" "${file#/}"
    crane append --oci-empty-base -t "load/image-$n:v1" -f "$scratch/text.tar.gz" -f "$file.tar.gz" -o "$scratch/image-$n.tar" 2>>"$logs/clients.log"
    skopeo copy --quiet "docker-archive:$scratch/image-$n.tar" "oci:$scratch/image-$n:v1"
    ctr images import --all-platforms --no-unpack "$scratch/image-$n.tar" >/dev/null
  done
}

# ctr speaks plain HTTP to addresses of this machine unless it is told.
ctr_hosts() {
  local entry=https://$balancer
  mkdir -p "$scratch/hosts/$balancer"
  printf 'server = "%s"\n[host."%s"]\nca = "%s"\n' "$entry" "$entry" "$scratch/tls/ca.crt" >"$scratch/hosts/$balancer/hosts.toml"
}

# CLIENT_push IMAGE REFERENCE SCRATCH prints the digest of what it pushed, CLIENT_pull of what it got.
skopeo_push() {
  timeout 120 skopeo copy --preserve-digests --digestfile "$3.digest" "oci:$scratch/image-$1:v1" "docker://$2" >&2 &&
    cat "$3.digest"
}
skopeo_pull() {
  rm -rf "$3" && timeout 120 skopeo copy "docker://$2" "dir:$3" >&2 &&
    echo "sha256:$(sha256sum "$3/manifest.json" | cut -d ' ' -f 1)"
}
crane_push() { timeout 120 crane push "$scratch/image-$1" "$2" | sed 's/.*@//'; }
crane_pull() { rm -rf "$3" && timeout 120 crane pull --format oci "$2" "$3" >&2 && layout_digest "$3"; }
ctr_push() {
  local name=docker.io/load/image-$1:v1
  timeout 120 ctr images push --hosts-dir "$scratch/hosts" "$2" "$name" >&2 && ctr_digest "$name"
}
ctr_pull() {
  timeout 120 ctr --namespace pulled images pull --snapshotter native --hosts-dir "$scratch/hosts" "$2" >&2 &&
    ctr_digest "$2" --namespace pulled && ctr --namespace pulled images rm --sync "$2" >&2
}

# load CLIENT ENTRY: pushes and pulls by that way in until told to end. For each a line is written: what, the digest or
# FAILED, repository and tag.
load() {
  local client=$1 entry=$2 round name pushed pulled scratch_here
  scratch_here=$scratch/load-$client-$entry
  for ((round = 0; ; round++)); do
    [ ! -e "$scratch/enough" ] || return 0
    name=load/$client-${entry##*:}-$((round % repositories)):v$round
    pushed=$(tried "${client}_push" $((round % images)) "$entry/$name" "$scratch_here")
    pulled=$(tried "${client}_pull" $((round % images)) "$entry/$name" "$scratch_here")
    [ "$pulled" = FAILED ] || [ "$pulled" = "$pushed" ] || pulled=FAILED
    printf '%s\n' "push $pushed $name" "pull $pulled $name" >>"$scratch/load.txt"
  done
}

# tried COMMAND...: a digest, or FAILED with the reason in a log.
tried() {
  local digest said=$scratch/said.$BASHPID
  if digest=$("$@" 2>"$said") && [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
    echo "$digest"
  else
    { echo "$*: $digest" && tail -n 5 "$said"; } >>"$logs/failures.log"
    echo FAILED
  fi
  rm -f "$said"
}

load_start() { load "$1" "$2" & loads+=("$!") pids+=("$!"); }

load_stop() {
  local pid
  touch "$scratch/enough"
  for pid in "${loads[@]}"; do wait "$pid" && process_forget "$pid"; done
}

loaded() { grep -c "^$1" "$scratch/load.txt" || true; }

# --- Members ---

# given NUMBER: the requests that HAProxy gave the member so far.
given() { balancer_counts | awk -v host="${cluster_hosts[$1]}" '$1 == host { print $2 }'; }
more_given() { [ "$(given "$1")" -gt "$2" ]; }

# member_joins NUMBER: it is there when HAProxy sends it requests.
member_joins() {
  local before
  before=$(given "$1")
  member_start "$1"
  member_ready "$1"
  check "HAProxy sends requests to ${members[$1]}" wait_for 60 "${member_pids[$1]}" more_given "$1" "$before"
}

# live, known: how many members the first one sees alive, and knows.
live_are() { [ "$(live)" -eq "$1" ]; }
live() {
  diagnose 127.0.0.1 Members |
    python3 -c 'import json, sys; print(sum(member.get("live", False) for member in json.load(sys.stdin)["members"]))'
}

known_are() { [ "$(known)" -eq "$1" ]; }
known() { diagnose 127.0.0.1 Members | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["members"]))'; }

# list HOST...: who may be a member from now on, where that is listed.
list() {
  local host
  [ -z "$cluster_san" ] || return 0
  cluster_listed=("$@")
  for host in "${cluster_hosts[@]}"; do member_configuration "$host" >"$scratch/$host.json"; done
  check "the list of $# members is taken up" wait_for 60 "${member_pids[0]}" known_are $#
}

# holders: who holds each of the repositories there are.
holders() {
  local repository
  awk '{ sub(/:.*/, "", $3); print $3 }' "$scratch/load.txt" | sort -u | while read -r repository; do
    echo "$repository $(diagnose 127.0.0.1 Locate "{\"repository\": \"$repository\"}" |
      python3 -c 'import json, sys; print(json.load(sys.stdin).get("holder", ""))')"
  done
}

# phase NAME COMMAND...: and what the clients did meanwhile. The first is to do nothing.
phase() {
  local name=$1 begin=$SECONDS pushes pulls before=${held:-}
  shift
  pushes=$(loaded push) pulls=$(loaded pull)
  "$@"
  sleep 5
  held=$(holders)
  say "  $name$(took "$begin"): $(($(loaded push) - pushes)) pushes and $(($(loaded pull) - pulls)) pulls;" \
    "$(join <(echo "$before") <(echo "$held") | awk '$2 != $3 { n++ } END { print n + 0 }') of" \
    "$(wc -l <<<"$held") repositories have another holder"
}

restart() {
  local i
  for i in 0 1 2; do
    member_stop "$i"
    member_joins "$i"
  done
}

grow() {
  list "${cluster_hosts[@]}"
  for i in 3 4; do member_joins "$i"; done
  check "five members live" wait_for 30 "${member_pids[0]}" live_are 5
}

shrink() {
  for i in 1 2 4; do member_stop "$i"; done
  list 127.0.0.1 127.0.0.5
  check "two members live" wait_for 30 "${member_pids[0]}" live_are 2
}

# --- What must hold ---

# refused_by_balancer: the answers of HAProxy that a client would call a failure.
refused_by_balancer() {
  awk '/ registry~? portolan\// { if ($6 ~ /^(-1|429|5..)$/ || $10 ~ /^[Ss]/) print }' "$logs/haproxy.log"
}

# whole: every tag that was pushed is there, asked of either member that is left in turn.
whole() {
  local what digest name i=0
  while read -r what digest name; do
    [ "$what" = push ] || continue
    i=$((3 - i))
    [ "$(served_digest "${members[i]}" "${name%:*}" "${name##*:}")" = "$digest" ] || { echo "$name" && return 1; }
  done <"$scratch/load.txt"
}

# placed: what a fourth member takes over, by the unit test that counts it.
placed() {
  local log=$logs/placement.log name=placement::tests::a_fourth_member_takes_a_quarter_and_nothing_else_moves figure
  cargo test --locked --lib -- --nocapture --exact "$name" >"$log" 2>&1 || excerpt <"$log"
  figure=$(sed -n 's/^the fourth of four members takes over \([0-9]*\) of 10000 repositories$/\1/p' "$log")
  check "the fourth of four members takes over ${figure:-nobody knows how many} of 10,000 repositories, at most 3,000" \
    test "${figure:-10000}" -le 3000
}

report_begin resize
need_resize
placed # while cargo still finds its home
user_settings_none
export SSL_CERT_FILE=$scratch/tls/ca.crt
containerd_start
ctr_hosts
images_make
cluster_start
loads=()
touch "$scratch/load.txt"
for client in skopeo crane ctr; do load_start "$client" "$balancer"; done
phase "three members" sleep 5
phase "each of three members is restarted" restart
load_start crane "${members[0]}"
phase "two members more" grow
phase "three of five members gone" shrink
load_stop
equal "of $(loaded push) pushes and $(loaded pull) pulls none failed" 0 "$(grep -c FAILED "$scratch/load.txt")"
refused_by_balancer >"$logs/refused.log"
equal "of $(grep -c ' portolan/' "$logs/haproxy.log") requests HAProxy saw none fail" 0 "$(wc -l <"$logs/refused.log")"
check "every tag is there" whole
cluster_stop

#!/usr/bin/env bash
# Three processes of `portolan serve` on SeaweedFS and dynoxide that are killed with -9, stopped and continued, cut
# off from each other and from the stores, and started again, while clients record what they are told:
#
#   survivors  one is killed: the clients of the others notice nothing, and what it owned is written again at once
#   owners     two that don't reach each other both own what hundreds of tags are pushed to: all are there
#   stopped    one is stopped for longer than its lease, with requests pending: it wakes up, and nothing is stale
#   clocks     survivors and owners again, one's clock 20 s ahead and another's 20 s behind
#   toxics     Toxiproxy before both stores makes them slow, cuts, resets, doesn't answer: requests end, nothing is lost,
#              readiness tells
#   mirrored   one is killed amid thirty pulls of what only another registry has, once the owner, once the front of some: nobody
#              who is left fails, and the other registry is asked no oftener than there are members
#   chaos      kills, restarts, stops and cuts in any order, for SECONDS: histories are explainable, acknowledged pushes
#              are there; fsck beside it, again and again, and afterwards finds nothing
#
# What happens when is decided by tests/it/processes, whose `PORTOLAN_SEED` decides it again as far as processes allow; this
# script does it. Root, for members are told apart by their group when iptables drops their packets.
#
# usage: tests/faults.sh [PART]... [SECONDS]    all parts when none is named, and 120 s; tests/faults.sh chaos 1800 is a soak
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh

parts=() chaos_seconds=120
for argument in "$@"; do
  case $argument in
    survivors | owners | stopped | clocks | toxics | mirrored | chaos) parts+=("$argument") ;;
    *[!0-9]* | '') die "no such part: $argument (see the head of $0)" ;;
    *) chaos_seconds=$argument ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(survivors owners stopped mirrored chaos clocks toxics)

chain=PORTOLAN_FAULTS
first_group=20001
clocks=()
# Its variable is the linker's.
# shellcheck disable=SC2016
faketime='/usr/$LIB/faketime/libfaketimeMT.so.1'

# --- What tests ask for, with members by their numbers ---

do_kill() {
  kill -KILL "${member_pids[$1]}"
  wait "${member_pids[$1]}" 2>/dev/null || true
  process_forget "${member_pids[$1]}"
}

do_terminate() { kill -TERM "${member_pids[$1]}"; }

do_ended() {
  answer=no
  kill -0 "${member_pids[$1]}" 2>/dev/null || { process_forget "${member_pids[$1]}" && answer=yes; }
}

do_start() { member_start "$1"; }

# As in cluster.sh: its group, and its wall clock if that is wrong.
member_before() {
  before=(setpriv --regid $((first_group + $1)) --clear-groups)
  [ -z "${clocks[$1]:-}" ] || before+=(env "LD_PRELOAD=$faketime" "FAKETIME=${clocks[$1]}" FAKETIME_DONT_FAKE_MONOTONIC=1)
}

do_stop() { kill -STOP "${member_pids[$1]}"; }
do_continue() { kill -CONT "${member_pids[$1]}"; }

do_apart() { links -A "$@"; }
do_together() { links -D "$@"; }
do_storeless() { stores -A "$1"; }
do_stored() { stores -D "$1"; }

# do_taint TOXIC: what becomes of all connections to the stores until do_cure.
do_taint() {
  local store
  for store in s3 dynamodb; do
    case $1 in
      Slow) taint "$store" downstream latency '"latency": 300, "jitter": 100' ;;
      Narrow) taint "$store" upstream bandwidth '"rate": 100' ;;
      Cut) taint "$store" upstream limit_data '"bytes": 3000' ;;
      Reset) taint "$store" downstream reset_peer '"timeout": 0' ;;
      Unanswered) taint "$store" downstream timeout '"timeout": 0' ;;
      Down) toxiproxy "proxies/$store" -d '{"enabled": false}' ;;
      *) die "no such toxic: $1" ;;
    esac
  done
}

do_cure() { toxiproxy reset -d ''; }

# taint STORE up|downstream TYPE ATTRIBUTES
taint() { toxiproxy "proxies/$1/toxics" -d "{\"stream\": \"$2\", \"type\": \"$3\", \"attributes\": {$4}}"; }

# toxiproxy PATH [CURL ARGUMENT]...
toxiproxy() {
  local path=$1
  shift
  curl -q --noproxy '*' -fsS -o /dev/null "http://127.0.0.1:$toxiproxy_port/$path" "$@"
}

# links -A|-D ONE OTHER: what either sends to the other's mesh port gets lost, or doesn't any more.
links() {
  rule "$1" "$2" -d "${cluster_hosts[$3]}" --dport "$mesh_port"
  rule "$1" "$3" -d "${cluster_hosts[$2]}" --dport "$mesh_port"
}

# stores -A|-D MEMBER: what it sends to the stores gets lost, or doesn't any more.
stores() {
  rule "$1" "$2" --dport "$s3_port"
  rule "$1" "$2" --dport "$dynamodb_port"
}

# rule -A|-D MEMBER ARGUMENT...
rule() {
  local change=$1 group=$((first_group + $2))
  shift 2
  iptables -w "$change" "$chain" -p tcp -m owner --gid-owner "$group" "$@" -j DROP
}

# --- Parts ---

# asks NAME: runs the test of that name in tests/it/processes, and does what it asks for until it has ended.
asks() {
  local status=0 test_pid request answer begin=$SECONDS log=$logs/$1-$SECONDS.log
  rm -rf "$control"
  mkdir "$control"
  mkfifo "$control/asked" "$control/done"
  exec 3<>"$control/asked" 4<>"$control/done"
  process_start "$log" clients "$1"
  test_pid=$started_pid
  while read -r -a request -u 3 && [ "${request[*]}" != over ]; do
    answer=
    "do_${request[1]}" "${request[@]:2}"
    echo "${request[0]} $answer" >&4
  done
  wait "$test_pid" || status=$?
  process_forget "$test_pid"
  exec 3>&- 4>&-
  grep -o 'PORTOLAN_SEED=.*' "$log" || true
  sed -n 's/^figures: //p' "$log"
  # A name that no test has is no failure of cargo's.
  grep -q '^test result: ok. 1 passed' "$log" || [ "$status" -ne 0 ] || status="no test"
  equal "${1##*::}$(took "$begin")" 0 "$status"
  [ "$status" = 0 ] || excerpt <"$log"
  # A rule that a failed test left behind would fail the next one, too.
  iptables -w -F "$chain"
}

# The test's end is the last thing that is asked for.
clients() {
  local status=0
  PORTOLAN_TEST_MEMBERS=$(IFS=, && echo "${members[*]}") PORTOLAN_TEST_CA=$mesh_ca PORTOLAN_TEST_BALANCER=$balancer \
    PORTOLAN_TEST_CONTROL=$control PORTOLAN_TEST_UPSTREAM=${upstream:-} PORTOLAN_TEST_SECONDS=$chaos_seconds RUST_BACKTRACE=0 \
    cargo test --locked --test it -- --ignored --nocapture --exact "processes::$1" 3>&- 4>&- || status=$?
  echo over >"$control/asked"
  return "$status"
}

part_survivors() { asks survivors::survivors_of_a_killed_member_fail_no_request_and_lose_nothing; }
part_owners() { asks owners::two_members_that_both_own_a_repository_lose_no_tag; }
part_stopped() { asks stopped::a_member_that_was_stopped_for_longer_than_its_lease_says_nothing_stale_and_is_a_member_again; }
part_chaos() {
  local looker status
  rm -f "$scratch/calm"
  process_start "$logs/fsck.log" looks
  looker=$started_pid
  asks chaos::what_clients_were_told_is_true_whatever_happens_to_members
  : >"$scratch/calm"
  status=0
  wait "$looker" || status=$?
  process_forget "$looker"
  equal "fsck beside it finds no fault, $(grep -c 'faults are left$' "$logs/fsck.log") times" 0 "$status"
  [ "$status" -eq 0 ] || excerpt <"$logs/fsck.log"
  check "nor does it afterwards" "$portolan" fsck "$scratch/127.0.0.1.json"
}

# looks: fsck until it is calm, at least once, or something is found.
looks() {
  while
    "$portolan" fsck "$scratch/127.0.0.1.json" || return
    [ ! -e "$scratch/calm" ]
  do :; done
}

# Every member is started anew, to mirror what the test serves.
part_mirrored() {
  local i
  upstream=127.0.0.1:$((s3_port + 10))
  for i in 0 1 2; do
    process_stop "${member_pids[i]}" || true
    member_configuration "${cluster_hosts[i]}" | mirroring >"$scratch/${cluster_hosts[i]}.json"
    do_start "$i"
    member_ready "$i"
  done
  asks mirrored::nobody_who_is_left_fails_when_a_member_is_killed_amid_thirty_pulls_from_upstream
}

mirroring() {
  python3 -c 'import json, sys
config = json.load(sys.stdin)
rule = {"urls": ["http://" + sys.argv[1]], "onDemand": True, "content": [{"prefix": "mirrored/*"}]}
config.setdefault("extensions", {})["sync"] = {"registries": [rule]}
json.dump(config, sys.stdout)' "$upstream"
}

part_clocks() {
  local i
  # A clock that is behind must not find that a certificate isn't valid yet.
  while [ $((SECONDS - cluster_started)) -lt 25 ]; do sleep 1; done
  clocks=(+20s -20s '')
  for i in 0 1; do
    process_stop "${member_pids[i]}" || true
    do_start "$i"
    member_ready "$i"
  done
  for i in 0 1 2; do within_2_s "${members[i]} is ${clocks[i]:-0s} ahead" "${clocks[i]:-0s}" "$(ahead "${members[i]}")"; done
  part_survivors
  part_owners
}

# Every member is started anew, to go by Toxiproxy, with the right time. Those that come later would go by it, too.
part_toxics() {
  local i
  clocks=()
  toxiproxy_port=$((s3_port + 7))
  process_start "$logs/toxiproxy.log" "$tools_bin/server" -host 127.0.0.1 -port "$toxiproxy_port"
  wait_for 30 "$started_pid" toxiproxy version || die "Toxiproxy did not become ready"
  member_s3_port=$((s3_port + 8)) member_dynamodb_port=$((s3_port + 9))
  proxy s3 "$member_s3_port" "$s3_port"
  proxy dynamodb "$member_dynamodb_port" "$dynamodb_port"
  for i in 0 1 2; do
    process_stop "${member_pids[i]}" || true
    member_configuration "${cluster_hosts[i]}" >"$scratch/${cluster_hosts[i]}.json"
    do_start "$i"
    member_ready "$i"
  done
  asks toxics::whatever_becomes_of_connections_to_stores_requests_end_and_nothing_is_lost
}

# proxy STORE PORT PORT
proxy() { toxiproxy proxies -d "{\"name\": \"$1\", \"listen\": \"127.0.0.1:$2\", \"upstream\": \"127.0.0.1:$3\", \"enabled\": true}"; }

# ahead MEMBER: by how many seconds the time that it names differs from this machine's.
ahead() {
  local date
  date=$(ask -o /dev/null -D - "https://$1/readyz" | tr -d '\r' | sed -n 's/^date: //Ip')
  echo $(($(date -d "$date" +%s) - $(date +%s)))
}

# within_2_s TEXT WANT GOT
within_2_s() { check "$1" test $(($3 - ${2%s})) -ge -2 -a $(($3 - ${2%s})) -le 2; }

# As in report.sh: nothing may stay behind in the machine's tables.
undo() {
  iptables -w -D OUTPUT -j "$chain"
  iptables -w -F "$chain"
  iptables -w -X "$chain"
} 2>/dev/null

report_begin faults
need_faults
undo || true
iptables -w -N "$chain"
iptables -w -A OUTPUT -j "$chain"
control=$scratch/control
cluster_started=$SECONDS
cluster_start
for part in "${parts[@]}"; do "part_$part"; done
cluster_stop

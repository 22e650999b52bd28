#!/usr/bin/env bash
# Kills members with -9 in the middle of uploads, on three processes of `portolan serve` over an S3 server and dynoxide: in each
# turn the repository's owner or the member that the client sends to. Another member is asked where the upload stands, which is
# never before what was acknowledged; the upload goes on from there through others, and ends with the bytes that were sent.
#
# usage: tests/kill-uploads.sh [TIMES]    10 times unless said; PORTOLAN_TEST_S3_SERVER=rgw tries Ceph, which completes no upload
#                                         that has parts nobody names
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh

times=${1:-10}
# A request sends several parts of 8 MiB.
chunk=$((30 << 20))
pieces=3

# through NUMBER: the session's address at that member.
through() { echo "https://${members[$1]}/${at#*://*/}"; }

# piece_send NUMBER ARGUMENT...: what comes after the acknowledged bytes; prints the answer's head.
piece_send() {
  local to=$1
  shift
  dd if="$content" iflag=skip_bytes,count_bytes skip="$acknowledged" count="$chunk" bs=1M status=none |
    ask --max-time 120 "$@" -o /dev/null -D - -X PATCH -H 'Expect:' -H 'Content-Type: application/octet-stream' \
      -T - "$(through "$to")"
}

# at_work NUMBER: on some client's request.
at_work() { ask "https://${members[$1]}/metrics" | grep -q '^portolan_requests_in_flight [1-9]'; }

# range_in: the bytes that an answer's head acknowledges.
range_in() { tr -d '\r' | sed -n 's/^range: 0-//Ip' | awk '{ print $1 + 1 }'; }

# killed_in_turn TURN: two checks, that nothing acknowledged is gone, and that the upload ends well and is whole.
killed_in_turn() {
  local front=0 owner=2 other=1 victim now stood sending status=0 whole repository at acknowledged=0 before
  victim=$((($1 % 2) * 2)) # the front, or the owner
  [ "$victim" -ne "$front" ] || other=2
  repository=$(repository_owned_by "${members[owner]}" "uploads/turn-$1")
  head -c $((pieces * chunk)) /dev/urandom >"$content"
  whole=sha256:$(sha256sum "$content" | cut -d ' ' -f 1)
  at=$(upload_at "https://${members[front]}" "$repository")
  acknowledged=$(piece_send "$front" | range_in)
  before=$acknowledged
  disown "${member_pids[victim]}" # bash would say that it was killed
  piece_send "$front" --limit-rate 20M >/dev/null 2>&1 &
  sending=$!
  wait_for 30 "$sending" at_work "$front" || die "${members[front]} isn't sent anything"
  sleep "$((RANDOM % 2)).$((RANDOM % 5))"
  kill -KILL "${member_pids[victim]}"
  wait "$sending" || status=$?
  member_killed "$victim"
  now=$(ask -o /dev/null -D - "$(through "$other")" | range_in)
  acknowledged=${now:-0} stood=${now:-nowhere}
  while [ "$acknowledged" -gt 0 ] && [ "$acknowledged" -lt $((pieces * chunk)) ]; do
    now=$(piece_send "$other" | range_in)
    [ "${now:-0}" -gt "$acknowledged" ] || break
    acknowledged=$now
  done
  ask -o /dev/null -X PUT "$(through "$other")?digest=$whole" || true
  check "turn $1: ${members[victim]} is killed (curl: $status); of $before bytes acknowledged ${members[other]} knows $stood" \
    test "${stood/nowhere/0}" -ge "$before"
  equal "  the upload goes on there and ends with what was sent" \
    "$whole" "sha256:$(ask --max-time 120 "https://${members[other]}/v2/$repository/blobs/$whole" | sha256sum | cut -d ' ' -f 1)"
  [ "$status" -eq 0 ] || cut=$((cut + 1))
  member_start "$victim"
  member_ready "$victim"
}

report_begin kill-uploads
need_shared
cluster_start
content=$scratch/content cut=0
for ((turn = 0; turn < times; turn++)); do killed_in_turn "$turn"; done
check "of $times requests $cut were cut" test "$cut" -gt 0
cluster_stop

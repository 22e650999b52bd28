#!/usr/bin/env bash
# Shows what badly behaved clients cost: memory for each stalled one, other people's latency under wrong logins, and what
# becomes of ten thousand idle connections, slow heads and rapid resets. It prints figures and asserts none of them; its
# checks are that it got them, and that the registry serves everyone afterwards. Not part of tests/run.
#
# usage: tests/front-door.sh    PORTOLAN=path measures another binary; a release build gives the figures that count
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh

stalled=64
need_front_door() { need_memory && need_deb htpasswd=apache2-utils; }

# memory PID: KiB in use now.
memory() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status"; }

# figure TEXT COMMAND...: one check, that the command gave a figure, which is shown.
figure() {
  local text=$1 out
  shift
  if out=$("$@" 2>"$logs/door.log"); then pass "$text: $out"; else fail "$text: $(tail -n 3 "$logs/door.log")"; fi
}

door() { python3 tests/lib/door.py "$@"; }

# held TEXT PID COUNT ARGUMENT...: what the process grows by, for each of COUNT, while door.py's clients stay.
held() {
  local text=$1 pid=$2 count=$3 before after said
  shift 3
  before=$(memory "$pid")
  coproc clients { python3 tests/lib/door.py "$@" 2>"$logs/door.log"; }
  read -r said <&"${clients[0]}" || said="nothing: $(tail -n 1 "$logs/door.log")"
  sleep 3
  after=$(memory "$pid")
  if probe; then
    pass "$text: $said; the process grows by $(((after - before) / 1024)) MiB, $(((after - before) / count)) KiB each; others are served"
  else
    fail "$text: $said; others are not served"
  fi
  echo >&"${clients[1]}"
  # shellcheck disable=SC2154 # coproc sets it
  wait "$clients_PID" || true
}

# probe: someone else, from another address, is served.
probe() { ask --interface 127.0.0.99 -o /dev/null "http://${members[0]}/v2/"; }

# --- Stalled clients, through a member that doesn't own the repository: front and owner are in one process here, so the
# figure is the sum of both. ---
stalled_clients() {
  local repository digest content=$scratch/content location
  repository=$(repository_owned_by "${members[2]}" door/stalled)
  head -c $((64 << 20)) /dev/urandom >"$content"
  digest=sha256:$(sha256sum "$content" | cut -d' ' -f1)
  location=$(ask -o /dev/null -D - -X POST "http://${members[2]}/v2/$repository/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  check "a blob of 64 MiB is pushed" ask -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$content" \
    "http://${members[2]}$location?digest=$digest"
  blob=/v2/$repository/blobs/$digest
  # Once round, so that what every transfer needs is there before it is measured.
  ask -o /dev/null "http://${members[0]}$blob"
  sleep 2
  held "$stalled stalled readers, front and owner together" "$mesh_pid" "$stalled" readers "${members[0]}" "$stalled" "$blob"
  sleep 3
  local kib
  for kib in 64 1024 7168; do
    held "$stalled writers stalled after $kib KiB, front and owner together" "$mesh_pid" "$stalled" \
      writers "${members[0]}" "$stalled" "/v2/$repository/blobs/uploads/?digest=$digest" $((kib << 10))
    sleep 3
  done
}

floods() {
  held "10,000 idle connections" "$mesh_pid" 10000 idle "${members[0]}" 10000
  sleep 2
  local before
  before=$(memory "$mesh_pid")
  figure "2,000 slow heads" door slow_heads "${members[0]}" 2000 45
  figure "rapid resets" door resets "${members[0]}" 50 20000 "$blob"
  say "        the process has grown by $((($(memory "$mesh_pid") - before) / 1024)) MiB"
  check "someone else is served" probe
}

# --- Wrong logins: one member with passwords, and a reader whose pulls are measured before and while. ---
wrong_logins() {
  local port other config=$scratch/login.json before during
  read -r port other < <(python3 tests/lib/free_ports.py 127.0.0.1)
  htpasswd -nbBC 10 reader right >"$scratch/htpasswd"
  cat >"$config" <<EOF
{"storage": {"rootDirectory": "$scratch/login"},
 "http": {"address": "127.0.0.1", "port": "$port", "realm": "door", "auth": {"htpasswd": {"path": "$scratch/htpasswd"}},
  "accessControl": {"repositories": {"**": {"policies": [{"users": ["reader"], "actions": ["read", "create"]}]}}}}}
EOF
  process_start "$logs/login.log" "$portolan" serve "$config"
  login_pid=$started_pid
  wait_for 30 "$login_pid" ask "http://127.0.0.1:$port/readyz" || die "the member with passwords did not become ready: ${other:-}"
  local at digest basic
  head -c 100000 /dev/urandom >"$scratch/small"
  digest=sha256:$(sha256sum "$scratch/small" | cut -d' ' -f1)
  at=$(ask -u reader:right -o /dev/null -D - -X POST "http://127.0.0.1:$port/v2/a/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  check "the reader pushes" ask -u reader:right -X PUT -H 'Content-Type: application/octet-stream' \
    --data-binary "@$scratch/small" "http://127.0.0.1:$port$at?digest=$digest"
  basic="Basic $(printf 'reader:right' | base64)"
  before=$(door pulls "127.0.0.1:$port" 300 "/v2/a/blobs/$digest" "$basic")
  door guesses "127.0.0.1:$port" 200 15 >"$logs/guesses.txt" 2>"$logs/door.log" &
  local guessing=$!
  pids+=("$guessing")
  sleep 3
  during=$(door pulls "127.0.0.1:$port" 300 "/v2/a/blobs/$digest" "$basic")
  wait "$guessing" || true
  process_forget "$guessing"
  check "a reader's 300 pulls: median and 95th of a hundred $before ms alone, $during ms beside 200 wrong logins ($(cat "$logs/guesses.txt"))" \
    test -n "$during" -a -s "$logs/guesses.txt"
  process_stop "$login_pid" || true
}

report_begin front-door
need_front_door
ulimit -n "$(ulimit -Hn)"
mesh_start
stalled_clients
floods
mesh_stop
wrong_logins

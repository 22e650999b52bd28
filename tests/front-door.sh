#!/usr/bin/env bash
# Shows what badly behaved clients cost: memory for each stalled one, other people's latency under wrong logins, and what
# becomes of ten thousand idle connections, slow heads and rapid resets. It prints figures and asserts none of them; its
# checks are that it got them, and that the registry serves everyone afterwards. Not part of tests/run.
#
#   stalled   readers and writers that stand still, at a member that passes on and at the one that owns: two processes of
#             three, on SeaweedFS and dynoxide
#   floods    idle connections, slow heads, resets
#   logins    wrong passwords
#
# usage: tests/front-door.sh [stalled|floods|logins]...    all of them when none is named; PORTOLAN=path measures another
#                                                          binary: a release build gives the figures that count
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(stalled floods logins)
for part in "${parts[@]}"; do
  case $part in stalled | floods | logins) ;; *) die "no such part: $part (see the head of $0)" ;; esac
done

stalled=64
# Until what isn't needed any more is out of memory: 5 s until a body that stands still counts as that, and 10 s in which the
# allocator keeps what was freed.
settle=20
need_front_door() { need_shared && need_memory && need_deb htpasswd=apache2-utils; }

# memory PID: KiB in use now.
memory() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status"; }

# figure TEXT COMMAND...: one check, that the command gave a figure, which is shown.
figure() {
  local text=$1 out
  shift
  if out=$("$@" 2>"$logs/door.log"); then pass "$text: $out"; else fail "$text: $(tail -n 3 "$logs/door.log")"; fi
}

door() { python3 tests/lib/door.py "$@"; }

# held TEXT COUNT ARGUMENT...: what the processes of $watched (names and ids) grow by, for each of COUNT, while door.py's
# clients stay.
held() {
  local text=$1 count=$2 name before=() grown=() i=0 said
  shift 2
  for name in "${!watched[@]}"; do before+=("$(memory "${watched[$name]}")"); done
  coproc clients { python3 tests/lib/door.py "$@" 2>"$logs/door.log"; }
  read -r said <&"${clients[0]}" || said="nothing: $(tail -n 1 "$logs/door.log")"
  sleep "$settle"
  for name in "${!watched[@]}"; do
    grown+=("$name $((($(memory "${watched[$name]}") - before[i]) / count)) KiB each")
    i=$((i + 1))
  done
  if probe; then
    pass "$text: $said; memory: $(printf '%s, ' "${grown[@]}")others are served"
  else
    fail "$text: $said; others are not served"
  fi
  echo >&"${clients[1]}"
  # shellcheck disable=SC2154 # coproc sets it
  wait "$clients_PID" || true
  sleep 3
}

# probe: someone else, from another address, is served.
probe() { ask --interface 127.0.0.99 -o /dev/null "$scheme://${members[0]}/v2/"; }

# push_large MEMBER REPOSITORY: a blob of 64 MiB, whose path is then in $blob.
push_large() {
  local digest content=$scratch/content location
  head -c $((64 << 20)) /dev/urandom >"$content"
  digest=sha256:$(sha256sum "$content" | cut -d' ' -f1)
  location=$(upload_at "$scheme://$1" "$2")
  check "a blob of 64 MiB is pushed" ask --max-time 120 -X PUT -H 'Content-Type: application/octet-stream' \
    --data-binary "@$content" "$location?digest=$digest"
  blob=/v2/$2/blobs/$digest
}

# --- Stalled clients, through a member that doesn't own the repository. ---
declare -A watched
part_stalled() {
  local repository kib
  cluster_start
  export DOOR_CA=$mesh_ca
  watched=([front]=${member_pids[0]} [owner]=${member_pids[2]})
  repository=$(repository_owned_by "${members[2]}" door/stalled)
  push_large "${members[2]}" "$repository"
  # Once round, so that what every transfer needs is there before it is measured.
  ask -o /dev/null "$scheme://${members[0]}$blob"
  sleep "$settle"
  held "$stalled stalled readers" "$stalled" readers "${members[0]}" "$stalled" "$blob"
  for kib in 64 1024 7168; do
    held "$stalled writers stalled after $kib KiB" "$stalled" \
      writers "${members[0]}" "$stalled" "/v2/$repository/blobs/uploads/?digest=${blob##*/}" $((kib << 10))
  done
  unset DOOR_CA
  cluster_stop
}

part_floods() {
  local before
  mesh_start
  watched=([process]=$mesh_pid)
  push_large "${members[2]}" "$(repository_owned_by "${members[2]}" door/floods)"
  # Sooner, or their heads are late.
  settle=3 held "10,000 idle connections" 10000 idle "${members[0]}" 10000
  before=$(memory "$mesh_pid")
  figure "2,000 slow heads" door slow_heads "${members[0]}" 2000 45
  figure "rapid resets" door resets "${members[0]}" 50 20000 "$blob"
  say "        the process has grown by $((($(memory "$mesh_pid") - before) / 1024)) MiB"
  check "someone else is served" probe
  mesh_stop
}

# --- Wrong logins: one member with passwords, and a reader whose pulls are measured before and while. ---
part_logins() {
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
  at=$(upload_at "http://127.0.0.1:$port" a -u reader:right)
  check "the reader pushes" ask -u reader:right -X PUT -H 'Content-Type: application/octet-stream' \
    --data-binary "@$scratch/small" "$at?digest=$digest"
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
for part in "${parts[@]}"; do "part_$part"; done

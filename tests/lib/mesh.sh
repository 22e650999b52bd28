# shellcheck shell=bash
# A mesh of three members to test against, and questions to it. Sourced, never run.
#
# The questions go by what whoever starts a mesh sets: mesh_start here, cluster_start in cluster.sh.
#   members    the members' names, host:port of their public ports
#   scheme     how those are spoken to, http or https
#   mesh_port  the mesh port of each
#   mesh_ca    the file of the authority of every certificate there is
#   mesh_pair  PATH.crt and PATH.key, which may ask for diagnostics

# The program under test: the one `cargo build` makes, unless another is named.
portolan=${PORTOLAN:-$target/debug/portolan}

# What mesh_start passes on to `portolan dev`.
mesh_options=()

# mesh_start: `portolan dev` on ports that are free, ready when it returns. Its one process is $mesh_pid.
mesh_start() {
  [ -x "$portolan" ] || die "there is no $portolan: run cargo build first"
  read -r port mesh_port < <(python3 tests/lib/free_ports.py 127.0.0.1 127.0.0.2 127.0.0.3)
  members=("127.0.0.1:$port" "127.0.0.2:$port" "127.0.0.3:$port")
  mesh_data=$scratch/mesh
  scheme=http mesh_ca=$mesh_data/tls/ca.crt mesh_pair=$mesh_data/tls/operator
  process_start "$logs/mesh.log" \
    "$portolan" dev --members 3 --port "$port" --mesh-port "$mesh_port" --data "$mesh_data" "${mesh_options[@]}"
  mesh_pid=$started_pid
  wait_for 60 "$mesh_pid" mesh_is_ready || die "the mesh did not become ready"
  wait_for 60 "$mesh_pid" members_know_each_other || die "the members don't know each other"
  say "mesh: three members on port $port are ready"
}

mesh_is_ready() {
  local member
  for member in "${members[@]}"; do ask "$scheme://$member/readyz" || return 1; done
}

# members_know_each_other: each of the three sees them all live. Before, a member does by itself what it can't forward.
members_know_each_other() {
  local member
  for member in "${members[@]:0:3}"; do
    "$portolan" mesh members --server "${member%:*}:$mesh_port" --cacert "$mesh_ca" --cert "$mesh_pair.crt" --key "$mesh_pair.key" --json |
      python3 -c 'import json, sys; sys.exit(sum(member["live"] for member in json.load(sys.stdin)["members"]) != 3)' || return 1
  done
}

# mesh_stop: one check, that the mesh drains on SIGTERM and says so with exit status 0.
mesh_stop() {
  local status=0
  process_stop "$mesh_pid" || status=$?
  equal "on SIGTERM the mesh drains and exits with 0" 0 "$status"
}

# single_start NAME: one member by itself over a folder, ready when it returns. Sets $single, its address, and $single_pid.
single_start() {
  single=127.0.0.1:$(free_port)
  cat >"$scratch/$1.json" <<JSON
{ "http": { "address": "127.0.0.1", "port": "${single#*:}" }, "storage": { "rootDirectory": "$scratch/$1" } }
JSON
  process_start "$logs/$1.log" "$portolan" serve "$scratch/$1.json"
  single_pid=$started_pid
  wait_for 60 "$single_pid" ask "http://$single/readyz" || die "the member by itself did not become ready"
}

# asked_of MEMBER PATTERN: the requests that it has answered so far, of the routes that the pattern matches.
asked_of() {
  ask "http://$1/metrics" | awk -v route="route=\"($2)\"" '/^portolan_requests_total/ && $0 ~ route { sum += $NF } END { print sum + 0 }'
}

free_port() { python3 tests/lib/free_ports.py 127.0.0.1 | cut -d ' ' -f 1; }

# curl without the user's proxy and settings, with a bound. Before there is a mesh, others can be asked.
ask() { curl -q --noproxy '*' -fsS --max-time 10 ${mesh_ca:+--cacert "$mesh_ca"} "$@"; }

# upload_at BASE REPOSITORY [OPTION]...: the address of a new upload session. A registry may say it whole or as a path.
upload_at() {
  local base=$1 repository=$2 at
  shift 2
  at=$(ask "$@" -o /dev/null -D - -X POST "$base/v2/$repository/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  [[ $at != /* ]] || at=$base$at
  echo "$at"
}

# diagnose MESH_HOST METHOD [REQUEST]: an operator's question to a member; the answer is JSON.
diagnose() {
  grpcurl -max-time 10 -cacert "$mesh_ca" -cert "$mesh_pair.crt" -key "$mesh_pair.key" \
    -d "${3:-{\}}" "$1:$mesh_port" "portolan.mesh.v1.Diagnostics/$2"
}

owner_of() {
  diagnose 127.0.0.1 Locate "{\"repository\": \"$1\"}" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["owner"])'
}

# repository_owned_by MEMBER PREFIX [BELOW]: the first of PREFIX-1, PREFIX-2, ... that the member owns, or of which it owns
# what is so named below it.
repository_owned_by() {
  local n
  for ((n = 1; n <= 100; n++)); do
    [ "$(owner_of "$2-$n${3:-}")" != "$1" ] || { echo "$2-$n" && return; }
  done
  die "of 100 repositories $2-N not one is owned by $1"
}

# The requests all members together have forwarded so far.
forwards() {
  local member total=0
  for member in "${members[@]}"; do
    total=$((total + $(diagnose "${member%:*}" Counters | python3 -c '
import json, sys
counters = json.load(sys.stdin).get("counters", {})
print(int(sum(n for name, n in counters.items() if name.startswith("portolan_forwards_total"))))')))
  done
  echo "$total"
}

#!/usr/bin/env bash
# Pushes a large blob through a member that doesn't own its repository and pulls it through another one, and shows what
# memory the mesh (all three members, one process) took for that.
#
# usage: tests/memory.sh [MIB]    the blob's size, 2048 if none is given; PORTOLAN=path tests another binary
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh

mib=${1:-2048}
idle_limit=60
growth_limit=160

# Bytes that don't compress, the same each time, made as fast as they are read.
content() {
  openssl enc -aes-128-ctr -nosalt -K 00000000000000000000000000000001 -iv 00000000000000000000000000000000 \
    -in <(head -c "$((mib << 20))" /dev/zero) 2>/dev/null
}

# memory FIELD: VmRSS (now) or VmHWM (the peak) of the mesh, in MiB.
memory() { awk -v field="$1:" '$1 == field { print int($2 / 1024) }' "/proc/$mesh_pid/status"; }
peak_forget() { echo 5 >"/proc/$mesh_pid/clear_refs"; }

# within TEXT FIGURE LIMIT
within() { check "$1: $2 MiB, at most $3" test "$2" -le "$3"; }

# cpu: seconds the mesh has computed so far.
cpu() { awk -v tick="$(getconf CLK_TCK)" '{ printf "%.1f", ($14 + $15) / tick }' "/proc/$mesh_pid/stat"; }

# measured TEXT COMMAND...: the command's check, its peak of memory and its time of computing.
measured() {
  local text=$1 before
  shift
  peak_forget
  before=$(cpu)
  check "$text" "$@"
  say "        $(awk -v a="$before" -v b="$(cpu)" -v m="$mib" 'BEGIN { printf "%.2f", (b - a) * 1024 / m }') CPU s/GiB"
  within "$text: growth" $(($(memory VmHWM) - idle)) "$growth_limit"
}

push_whole() {
  local at
  at=$(upload_begin "$1")
  content | curl -q --noproxy '*' -fsS -X PUT -H 'Expect:' -H "Content-Length: $((mib << 20))" \
    -H 'Content-Type: application/octet-stream' -T - "$at?digest=$digest"
}

push_streamed() {
  local at
  at=$(upload_begin "$1")
  content | curl -q --noproxy '*' -fsS -X PATCH -H 'Expect:' -H 'Content-Type: application/octet-stream' -T - "$at"
  ask -X PUT "$at?digest=$digest"
}

# upload_begin REPOSITORY: the address of a new session, by the first member.
upload_begin() {
  local path
  path=$(ask -o /dev/null -D - -X POST "http://${members[0]}/v2/$1/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  echo "http://${members[0]}$path"
}

pull() {
  local got
  got=$(curl -q --noproxy '*' -fsS "http://${members[1]}/v2/$1/blobs/$digest" | sha256sum)
  [ "sha256:${got%% *}" = "$digest" ]
}

report_begin memory
need_memory
mesh_start
sleep 1
idle=$(memory VmRSS)
within "idle" "$idle" "$idle_limit"
say "making the digest of $mib MiB"
digest=sha256:$(content | sha256sum | cut -d' ' -f1)
whole=$(repository_owned_by "${members[2]}" memory/whole)
streamed=$(repository_owned_by "${members[2]}" memory/streamed)
measured "a blob of $mib MiB pushed by PUT through ${members[0]} for ${members[2]}" push_whole "$whole"
measured "the same by PATCH without a length" push_streamed "$streamed"
measured "pulled through ${members[1]}, exact" pull "$whole"
say "at rest again: $(memory VmRSS) MiB"
mesh_stop

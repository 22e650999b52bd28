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
. tests/lib/large.sh

mib=${1:-2048}
idle_limit=60
growth_limit=160

# cpu: seconds the mesh has computed so far.
cpu() { awk -v tick="$(getconf CLK_TCK)" '{ printf "%.1f", ($14 + $15) / tick }' "/proc/$mesh_pid/stat"; }

# measured TEXT COMMAND...: the command's check, its peak of memory and its time of computing.
measured() {
  local text=$1 before
  shift
  peak_forget "$mesh_pid"
  before=$(cpu)
  check "$text" "$@"
  say "        $(awk -v a="$before" -v b="$(cpu)" -v m="$mib" 'BEGIN { printf "%.2f", (b - a) * 1024 / m }') CPU s/GiB"
  within "$text: growth" $(($(memory "$mesh_pid" VmHWM) - idle)) "$growth_limit"
}

report_begin memory
need_memory
mesh_start
sleep 1
idle=$(memory "$mesh_pid" VmRSS)
within "idle" "$idle" "$idle_limit"
digest_make
whole=$(repository_owned_by "${members[2]}" memory/whole)
streamed=$(repository_owned_by "${members[2]}" memory/streamed)
measured "a blob of $mib MiB pushed by PUT through ${members[0]} for ${members[2]}" push_whole "$whole"
measured "the same by PATCH without a length" push_streamed "$streamed"
measured "pulled through ${members[1]}, exact" pull "$whole"
say "at rest again: $(memory "$mesh_pid" VmRSS) MiB"
mesh_stop

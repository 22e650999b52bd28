#!/usr/bin/env bash
# Fuzzes routes, ranges, manifests, configurations and the mesh's frames (fuzz/src/main.rs): each target gets its corpus, then inputs made from it.
# What a target finds is shown in base64 and kept with the logs; it belongs into fuzz/corpus once it is mended.
#
# usage: tests/fuzz.sh [SECONDS]    of fuzzing for each target, 30 if none is given
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh

seconds=${1:-30}
targets=(route range manifest configuration mesh_frame)

# build: the targets, compiled so that libFuzzer sees which way they go. What they depend on is that of every other build.
build() { RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc cargo build --locked -p portolan-fuzz; }

# fuzz TARGET: from its corpus on, for so many seconds. An input may take 10 s and 1 GiB.
fuzz() {
  mkdir -p "$scratch/$1"
  PORTOLAN_FUZZ=$1 "$target/debug/portolan-fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -max_len=20000 -print_final_stats=1 -artifact_prefix="$logs/$1-" "$scratch/$1" "fuzz/corpus/$1" >"$logs/fuzz-$1.log" 2>&1
}

# report TARGET PID: one check, that it ended well and that coverage led it; a target that isn't led finds nothing.
report() {
  local status=0 runs features found
  wait "$2" || status=$?
  process_forget "$2"
  runs=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$logs/fuzz-$1.log")
  features=$(sed -n 's/.* ft: \([0-9]*\) .*/\1/p' "$logs/fuzz-$1.log" | tail -n 1)
  check "$1: ${runs:-no} inputs, ${features:-no} features" test "$status" -eq 0 -a "${features:-0}" -gt 50
  for found in "$logs/$1"-*; do
    [ -f "$found" ] || continue
    say "        $(basename "$found"): $(base64 -w 0 "$found" | cut -c 1-2000)"
  done
}

report_begin fuzz
need_rust
need_fuzz
begin=$SECONDS
build >"$logs/fuzz-build.log" 2>&1 || die "the fuzz targets do not build:"$'\n'"$(tail -n 40 "$logs/fuzz-build.log")"
say "fuzz targets: built$(took "$begin")"
# Two at a time, for there are two processors.
running=()
for name in "${targets[@]}"; do
  fuzz "$name" &
  pids+=("$!")
  running+=("$name $!")
  if [ ${#running[@]} -eq 2 ]; then
    for entry in "${running[@]}"; do report "${entry% *}" "${entry#* }"; done
    running=()
  fi
done
for entry in "${running[@]}"; do report "${entry% *}" "${entry#* }"; done

#!/usr/bin/env bash
# The S3 servers that tests/run doesn't install, for they take long: versitygw and s3proxy over folders, and Ceph's gateway.
# Over each of them the tests of the S3 driver, its contract included; then, by tests/shared.sh, the API suite and the
# conformance suite; and members killed in the middle of uploads, by tests/kill-uploads.sh.
#
# usage: tests/stores-extra.sh [versitygw|s3proxy|rgw]... [driver|mesh|kills]...    all of them when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh

servers=()
parts=()
for argument in "$@"; do
  case $argument in
    versitygw | s3proxy | rgw) servers+=("$argument") ;;
    driver | mesh | kills) parts+=("$argument") ;;
    *) die "no server and no part: $argument (see the head of $0)" ;;
  esac
done
[ ${#servers[@]} -gt 0 ] || servers=(versitygw s3proxy rgw)
[ ${#parts[@]} -gt 0 ] || parts=(driver mesh kills)

# What a server is known to refuse, by the names of tests, each with its reason.
declare -A refused=(
  # Ceph 16 knows no checksums behind bodies; they are sent to AWS only.
  [rgw]=stores::s3_environment::aws_is_sent_checksums_behind_unsigned_bodies
)

part_driver() {
  local status=0 passed_here failed_here skip=()
  export PORTOLAN_TEST_S3_SERVER=$1
  . tests/lib/stores.sh
  need_stores
  stores_start
  [ -z "${refused[$1]:-}" ] || skip=(--skip "${refused[$1]}")
  cargo test --locked --test it -- stores::s3 "${skip[@]}" 2>&1 | tee "$logs/$1-driver.txt" || status=$?
  stores_stop
  read -r passed_here failed_here < <(
    awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$logs/$1-driver.txt"
  )
  passed=$((passed + passed_here))
  failed=$((failed + failed_here))
  [ ${#skip[@]} -eq 0 ] || say "  not asked of $1: ${refused[$1]}"
  if [ "$failed_here" -eq 0 ] && [ "$status" -ne 0 ]; then fail "the tests over $1 ended with status $status"; fi
  if [ $((passed_here + failed_here)) -eq 0 ]; then fail "no test of the driver ran over $1"; fi
}

part_mesh() { part_script "$1" tests/shared.sh api conformance; }
part_kills() { part_script "$1" tests/kill-uploads.sh 30; }

# part_script SERVER SCRIPT ARGUMENT...
part_script() {
  local counts=$scratch/$1.counts passed_here=0 failed_here=0 status=0
  export PORTOLAN_TEST_S3_SERVER=$1
  shift
  rm -f "$counts"
  REPORT_COUNTS=$counts "$@" || status=$?
  [ ! -s "$counts" ] || read -r passed_here failed_here <"$counts"
  passed=$((passed + passed_here))
  failed=$((failed + failed_here))
  [ $((passed_here + failed_here)) -gt 0 ] || fail "$1 over $PORTOLAN_TEST_S3_SERVER ended with status $status"
}

report_begin stores-extra
need_rust
cargo build --locked --bins --tests || die "the build failed"
for server in "${servers[@]}"; do
  for part in "${parts[@]}"; do
    say "== $server: $part =="
    "part_$part" "$server"
  done
done

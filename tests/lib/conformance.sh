# shellcheck shell=bash
# The official OCI conformance suite, run and counted. Sourced, after report.sh, tools.sh and mesh.sh; never run.

# What the best registry known reaches. A suite that skips what it can't do has no failure either, so passes are counted.
# A run that can't reach that sets suite_floor.
declare -A floor=([1.1]=691 [dev]=791)

# suite VERSION NAME DOOR REPOSITORY REPOSITORY: one run by that door, counted.
suite() {
  local begin=$SECONDS
  suite_run "$@"
  suite_count "$1" "$2" "$(took "$begin")"
}

# suite_run VERSION NAME DOOR REPOSITORY REPOSITORY: one run; its results go to $logs/NAME. The exit status only says
# that something failed; junit.xml says what.
suite_run() {
  local version=$1 results=$logs/$2 tls=disabled
  [ "$scheme" != https ] || tls=enabled
  mkdir "$results"
  env -i PATH="$PATH" HOME="$results" SSL_CERT_FILE="$mesh_ca" \
    OCI_REGISTRY="$3" OCI_TLS=$tls OCI_REPO1="$4" OCI_REPO2="$5" \
    OCI_VERSION="$version" OCI_RESULTS_DIR="$results" \
    OCI_USERNAME="${OCI_USERNAME:-}" OCI_PASSWORD="${OCI_PASSWORD:-}" \
    timeout 900 conformance >"$results/output.txt" 2>&1 || true
}

# suite_count VERSION NAME [TOOK]: adds up what a run came to.
suite_count() {
  local version=$1 results=$logs/$2 run_passed=0 run_failed=0 run_skipped=0
  if [ ! -s "$results/junit.xml" ]; then
    fail "$2: the suite wrote no result"
    excerpt <"$results/output.txt"
    return
  fi
  python3 tests/lib/junit.py "$results/junit.xml" >"$results/failures.txt"
  head -n -1 "$results/failures.txt"
  read -r run_passed run_failed run_skipped < <(tail -n 1 "$results/failures.txt")
  say "  $run_passed passed, $run_failed failed, $run_skipped skipped${3:-}"
  passed=$((passed + run_passed))
  failed=$((failed + run_failed))
  [ "$run_passed" -ge "${suite_floor:-${floor[$version]}}" ] ||
    fail "$2: $run_passed passes are fewer than the ${suite_floor:-${floor[$version]}} it must have"
}

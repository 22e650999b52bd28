# shellcheck shell=bash
# Counting checks, timing them, and leaving nothing behind: what every script under tests/ shares. Sourced, never run.
#
# A script calls `report_begin NAME`, makes its checks and ends. The exit trap does the rest: it stops what the script
# started, keeps the logs if anything failed, and reports the counts. Alone, a script prints `N passed, N failed` as its
# last line; under tests/run (REPORT_COUNTS names a file) it hands the two numbers over, so that only tests/run says it.

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
passed=0
failed=0
started=$SECONDS

say() { printf '%s\n' "$*"; }
pass() { passed=$((passed + 1)) && say "  ok    $*"; }
fail() { failed=$((failed + 1)) && say "  FAIL  $*"; }

die() {
  say "error: $*" >&2
  exit 1
}

# took BEGIN: " (N s)" when a second or more has passed since BEGIN.
took() {
  local seconds=$((SECONDS - $1))
  [ "$seconds" -eq 0 ] || printf ' (%d s)' "$seconds"
}

# The last 40 lines of what failed, under its name, none of them longer than a reader bears.
excerpt() { tail -n 40 | cut -c 1-300 | sed 's/^/        /'; }

# check TEXT COMMAND...: one check, passed when the command succeeds; its output is shown only when it fails.
check() {
  local text=$1 out begin=$SECONDS
  shift
  if out=$("$@" 2>&1); then
    pass "$text$(took "$begin")"
  else
    fail "$text$(took "$begin")"
    printf '%s\n' "$out" | excerpt
  fi
}

# equal TEXT WANT GOT: one check that two strings are the same and not empty, for two failed commands are not equal.
equal() {
  if [ -n "$2" ] && [ "$2" = "$3" ]; then
    pass "$1"
  else
    fail "$1: expected '$2', got '$3'"
  fi
}

# report_begin NAME: a scratch folder in $scratch, with logs/ in it, and the trap that ends the script.
report_begin() {
  report_name=$1
  pids=()
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/portolan-test.XXXXXX")
  logs=$scratch/logs
  mkdir "$logs"
  trap at_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# What a script undoes at its end, when all its processes have ended. Scripts may have their own.
undo() { :; }

at_exit() {
  local status=$? i
  trap - EXIT
  set +e
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do process_stop "${pids[i]}"; done
  undo
  [ "$status" -eq 0 ] || fail "$report_name broke off with exit status $status"
  [ $((passed + failed)) -gt 0 ] || fail "$report_name checked nothing"
  [ "$failed" -eq 0 ] || logs_keep
  chmod -R u+rwX "$scratch" 2>/dev/null # container storage has folders nobody may write to
  rm -rf "$scratch"
  counts_hand_over
  exit $((failed > 0)) # said outright: within a trap a bare exit has the status from before it
}

# The logs outlive the scratch folder only when something failed; their ends are shown, for a CI has nothing else.
logs_keep() {
  local kept=$target/test-logs/$report_name log
  rm -rf "$kept"
  mkdir -p "$(dirname "$kept")"
  mv "$logs" "$kept"
  for log in "$kept"/*.log; do
    [ -s "$log" ] || continue
    say "--- the end of $log"
    tail -n 25 "$log" | cut -c 1-300
  done
}

counts_hand_over() {
  say "$report_name: $passed passed and $failed failed in $((SECONDS - started)) s"
  if [ -n "${REPORT_COUNTS:-}" ]; then
    echo "$passed $failed" >"$REPORT_COUNTS"
  else
    say "$passed passed, $failed failed"
  fi
}

# process_start LOG COMMAND...: runs it in the background, its id in $started_pid, stopped at exit whatever happens.
process_start() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null &
  started_pid=$!
  pids+=("$started_pid")
}

# process_stop PID: SIGTERM, 20 s of patience, SIGKILL. Returns the exit status of the process.
process_stop() {
  local pid=$1 i status=0
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < 200; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || status=$?
  process_forget "$pid"
  return "$status"
}

# An id that has ended may be given to another process: it must not be stopped again at exit.
process_forget() {
  local pid others=()
  for pid in "${pids[@]}"; do [ "$pid" = "$1" ] || others+=("$pid"); done
  pids=("${others[@]}")
}

# wait_for SECONDS PID COMMAND...: until the command succeeds; fails when the time is over or the process has ended.
wait_for() {
  local patience=$1 pid=$2 begin=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || return 1
    [ $((SECONDS - begin)) -lt "$patience" ] || return 1
    sleep 0.1
  done
}

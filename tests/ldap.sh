#!/usr/bin/env bash
# Logging in by a directory: a mesh of three members and Debian's slapd, by LDAPS and by StartTLS with an authority of their own.
# Users, groups, wrong and empty passwords, who is switched off, names that are written in the language of filters, referrals, a
# server that is killed and comes back, and one of two that isn't there; and what `portolan verify --online` says.
#
# usage: tests/ldap.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh

base=dc=example,dc=org
search_secret=search-9d1f
odd_name='zoë (o*x)\y'

# status CURL-ARGUMENT...: the status of an answer.
status() { ask -o /dev/null -w '%{http_code}' "$@" 2>>"$logs/clients.log" || true; }

# login USER PASSWORD: the status of /v2/ by a member, as somebody.
login() { status -u "$1:$2" "http://${members[0]}/v2/"; }

certificates() {
  mkdir -p "$scratch/slapd/db" "$scratch/tls"
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  {
    openssl req -x509 "${key[@]}" -days 2 -subj '/CN=directory CA' -addext basicConstraints=critical,CA:TRUE \
      -keyout "$scratch/tls/ca.key" -out "$scratch/tls/ca.crt"
    openssl req "${key[@]}" -subj '/CN=directory' -keyout "$scratch/tls/server.key" -out "$scratch/tls/server.csr"
    openssl x509 -req -in "$scratch/tls/server.csr" -CA "$scratch/tls/ca.crt" -CAkey "$scratch/tls/ca.key" -days 2 \
      -extfile <(echo subjectAltName=IP:127.0.0.1) -out "$scratch/tls/server.crt"
  } 2>>"$logs/openssl.log"
}

directory_fill() {
  cat >"$scratch/slapd/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile $scratch/slapd/slapd.pid
TLSCertificateFile $scratch/tls/server.crt
TLSCertificateKeyFile $scratch/tls/server.key
TLSVerifyClient never
# Nothing is said in the clear, and nothing to who hasn't bound.
security simple_bind=1
disallow bind_anon
database mdb
suffix $base
rootdn cn=root,$base
directory $scratch/slapd/db
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=search,$base" read by * none
CONF
  cat >"$scratch/slapd/entries.ldif" <<LDIF
dn: $base
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=search,$base
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: search
userPassword: $search_secret

dn: ou=people,$base
objectClass: organizationalUnit
ou: people

dn: ou=groups,$base
objectClass: organizationalUnit
ou: groups

dn: uid=ann,ou=people,$base
objectClass: inetOrgPerson
uid: ann
cn: ann
sn: ann
userPassword: ann-secret

dn: uid=bob,ou=people,$base
objectClass: inetOrgPerson
uid: bob
cn: bob
sn: bob
userPassword: bob-secret

dn: uid=carl,ou=people,$base
objectClass: inetOrgPerson
uid: carl
cn: carl
sn: carl
employeeType: disabled
userPassword: carl-secret

dn: cn=odd,ou=people,$base
objectClass: inetOrgPerson
uid:: $(printf %s "$odd_name" | base64)
cn: odd
sn: odd
userPassword: odd-secret

dn: cn=team,ou=groups,$base
objectClass: groupOfNames
cn: team
member: uid=ann,ou=people,$base

dn: ou=elsewhere,ou=people,$base
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://127.0.0.1:1/ou=elsewhere,$base
LDIF
  sed 's/^security .*//' "$scratch/slapd/slapd.conf" >"$scratch/slapd/fill.conf"
  python3 - "$scratch/slapd/entries.ldif" <<'PY'
import sys
path = sys.argv[1]
entries = open(path, encoding="utf-8").read().split("\n\n")
groups = [entry for entry in entries if "groupOfNames" in entry]
open(path, "w", encoding="utf-8").write("\n\n".join(entry for entry in entries if entry not in groups))
open(path + ".groups", "w", encoding="utf-8").write("\n\n".join(groups))
PY
  slapadd -f "$scratch/slapd/fill.conf" -l "$scratch/slapd/entries.ldif" >"$logs/slapadd.log" 2>&1 ||
    die "slapadd failed: $(cat "$logs/slapadd.log")"
}

directory_start() {
  process_start "$logs/slapd.log" slapd -d 0 -f "$scratch/slapd/slapd.conf" \
    -h "ldap://127.0.0.1:$ldap_port ldaps://127.0.0.1:$ldaps_port"
  slapd_pid=$started_pid
  wait_for 20 "$slapd_pid" answers || die "slapd did not start"
}

answers() {
  LDAPTLS_CACERT=$scratch/tls/ca.crt ldapsearch -x -H "ldaps://127.0.0.1:$ldaps_port" -D "cn=search,$base" \
    -w "$search_secret" -b "$base" -s base 1.1
}

# With slapadd the overlay sees nothing: groups are added by a server.
groups_add() {
  echo "rootpw root-secret" >"$scratch/slapd/rootpw"
  sed -i "/^rootdn/r $scratch/slapd/rootpw" "$scratch/slapd/slapd.conf"
  directory_start
  LDAPTLS_CACERT=$scratch/tls/ca.crt ldapadd -x -H "ldaps://127.0.0.1:$ldaps_port" -D "cn=root,$base" -w root-secret \
    -f "$scratch/slapd/entries.ldif.groups" >>"$logs/slapadd.log" 2>&1 || die "ldapadd failed: $(cat "$logs/slapadd.log")"
}

# configure FILE KEYS: a configuration whose directory has these keys, beside those that are always the same.
configure() {
  cat >"$1" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "port": 0,
    "auth": {
      "htpasswd": { "path": "$scratch/users" },
      "apikey": true,
      "ldap": { $2, "subtreeSearch": true, "userAttribute": "uid", "userGroupAttribute": "memberOf",
                "userFilter": "(!(employeeType=disabled))" }
    },
    "accessControl": {
      "repositories": {
        "**": { "defaultPolicy": ["read"] },
        "team/**": { "policies": [ { "groups": ["cn=team,ou=groups,$base"], "actions": ["read", "create"] },
                                   { "users": ["$(printf '%s' "${odd_name//\\/\\\\}")"], "actions": ["read"] } ] }
      }
    }
  },
  "log": { "level": "debug", "audit": "$logs/audit.log" }
}
JSON
}

people_log_in() {
  local name
  equal "a user logs in" 200 "$(login ann ann-secret)"
  equal "a user with a wrong password doesn't" 401 "$(login ann bob-secret)"
  equal "nor with an empty one" 401 "$(login ann '')"
  equal "nor who isn't there" 401 "$(login eve ann-secret)"
  equal "nor who is switched off" 401 "$(login carl carl-secret)"
  equal "nor the account that searches, by its place" 401 "$(login "cn=search,$base" "$search_secret")"
  for name in '*' 'a*' 'ann)(uid=*' '*)(objectClass=*' 'ann)(|(uid=*' '\61nn' 'uid=ann,ou=people' 'ａｎｎ' ' ann'; do
    equal "nor by the name $name" 401 "$(login "$name" ann-secret)"
  done
  equal "who has such a name logs in by it" 200 "$(login "$odd_name" odd-secret)"
  equal "who is in a file of passwords, too" 200 "$(login root root-secret)"
}

groups_count() {
  local push=http://${members[1]}/v2/team/app/blobs/uploads/ token key
  equal "a group of the directory may push" 202 "$(status -X POST -u ann:ann-secret "$push")"
  equal "as it is spelled there, whoever spells it otherwise" 202 "$(status -X POST -u ANN:ann-secret "$push")"
  equal "who isn't in it may not" 403 "$(status -X POST -u bob:bob-secret "$push")"
  equal "a name with all signs of filters is its own in policies" 404 \
    "$(status -u "$odd_name:odd-secret" "http://${members[2]}/v2/team/app/tags/list")"
  token=$(ask -u ann:ann-secret "http://${members[0]}/zot/auth/token?scope=repository:team/app:pull,push" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
  equal "so may a token of theirs, at another member" 202 \
    "$(status -X POST -H "Authorization: Bearer $token" "$push")"
  key=$(ask -X POST -d '{"label":"k"}' -u ann:ann-secret "http://${members[0]}/zot/auth/apikey" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["apiKey"])')
  equal "and an API key of theirs" 202 "$(status -X POST -u "ann:$key" "$push")"
  check "the audit calls them what the directory does" \
    sh -c "grep -q '\"user\":\"ann\"' '$logs/audit.log' && ! grep -q '\"user\":\"ANN\"' '$logs/audit.log'"
}

server_is_killed() {
  local begin answer
  kill -KILL "$slapd_pid"
  wait "$slapd_pid" 2>/dev/null || true
  process_forget "$slapd_pid"
  begin=$(date +%s%3N)
  answer=$(curl -q --noproxy '*' -s --max-time 10 -w ' %{http_code}' -u bob:another-secret "http://${members[0]}/v2/")
  check "without the directory the answer says so" grep -q 'knows who may log in.* 503$' <<<"$answer"
  check "at once" test $(($(date +%s%3N) - begin)) -lt 5000
  equal "other ways to log in go on" 200 "$(login root root-secret)"
  equal "who was just there goes on" 200 "$(login ann ann-secret)"
  check "the member is ready, and says who can't log in" \
    sh -c "curl -q --noproxy '*' -fsS 'http://${members[0]}/readyz' | grep -q 'http.auth.ldap'"
  directory_start
  check "when it is back, so are its users" wait_for 20 "$mesh_pid" bob_is_back
  equal "and nothing is left to say" ok "$(ask "http://${members[0]}/readyz")"
}

bob_is_back() { [ "$(login bob bob-secret)" = 200 ]; }

# verified FILE: what `portolan verify --online` prints of it.
verified() { "$portolan" verify --online "$1" 2>&1 || true; }

verify_says() {
  local file=$scratch/verify.json
  configure "$file" "$1"
  check "verify --online: $2" grep -q "$2" <<<"$(verified "$file")"
}

report_begin ldap
need_ldap
need_rust
read -r ldap_port ldaps_port < <(python3 tests/lib/free_ports.py 127.0.0.1)
certificates
directory_fill
groups_add
htpasswd -nbB root root-secret >"$scratch/users"
printf '{"bindDN": "cn=search,%s", "bindPassword": "%s"}' "$base" "$search_secret" >"$scratch/account.json"
account="\"credentialsFile\": \"$scratch/account.json\", \"baseDN\": \"ou=people,$base\", \"caCert\": \"$scratch/tls/ca.crt\""

say "LDAPS"
configure "$scratch/tls.json" "$account, \"address\": \"127.0.0.1\", \"port\": $ldaps_port"
mesh_options=(--config "$scratch/tls.json")
mesh_start
people_log_in
groups_count
server_is_killed
mesh_stop

say "every route by everybody, through owner and another member, with callers of the directory (tests/it/access)"
directory_keys="{ $account, \"address\": \"127.0.0.1\", \"port\": $ldaps_port, \"subtreeSearch\": true, \"userAttribute\": \"uid\",
  \"userGroupAttribute\": \"memberOf\", \"userFilter\": \"(!(employeeType=disabled))\" }"
PORTOLAN_TEST_LDAP="$(tr -d '\n' <<<"$directory_keys")" \
  cargo test --quiet --locked --test it -- access::every_route access::what_may_not access::probes >"$logs/table.txt" 2>&1 || true
check "they may what the policy says" grep '^test result: ok. 3 passed' "$logs/table.txt"

say "StartTLS, and the first of two servers isn't there"
configure "$scratch/start.json" \
  "$account, \"address\": [\"127.0.0.2\", \"127.0.0.1\"], \"port\": $ldap_port, \"insecure\": true, \"startTLS\": true"
mesh_options=(--config "$scratch/start.json")
mesh_start
people_log_in
mesh_stop

server="\"address\": \"127.0.0.1\", \"port\": $ldaps_port"
verify_says "$account, $server" 'ok .*http.auth.ldap.address .*127.0.0.1'
verify_says "\"bindDN\": \"cn=search,$base\", \"bindPassword\": \"wrong\", \"baseDN\": \"$base\", \"caCert\": \"$scratch/tls/ca.crt\", $server" \
  'refuses the password of'
verify_says "\"baseDN\": \"$base\", \"caCert\": \"$scratch/tls/ca.crt\", $server" 'lets nobody search it without a name'
verify_says "${account/ou=people/ou=nowhere}, $server" 'shows no entry'
verify_says "${account/ou=people/ou=elsewhere,ou=people}, $server" 'refers to ldap://127.0.0.1:1/'
verify_says "${account/\/tls\/ca.crt/\/users}, $server" 'there is no certificate in it'
verify_says "$account, \"address\": \"127.0.0.1\", \"port\": $ldap_port, \"insecure\": true" 'confidentialityRequired'
verify_says "$account, \"address\": \"127.0.0.1\", \"port\": 1" 'refused'
for secret in "$search_secret" ann-secret bob-secret odd-secret; do
  check "no log has $secret" sh -c "! grep -rqF '$secret' '$logs'/mesh.log '$logs'/audit.log"
done

# shellcheck shell=bash
# A mesh that wants logins: passwords in a file, tokens of a service, or its own. Sourced, after report.sh, tools.sh and mesh.sh;
# never run.
#
# In all, `pusher` may do everything everywhere, and `reader` only reads (with passwords nothing below `hidden`); in the first two
# nobody may do anything without a login.
service=registry.tests

# logins_prepare: secrets that occur nowhere else, so that they can be looked for afterwards.
logins_prepare() {
  logins=$scratch/logins
  mkdir -p "$logins"
  pusher_secret=pusher-$(openssl rand -hex 12)
  reader_secret=reader-$(openssl rand -hex 12)
}

# mesh_start_with_passwords: by htpasswd, with policies, API keys and an audit.
mesh_start_with_passwords() {
  htpasswd -nbB pusher "$pusher_secret" >"$logins/users"
  htpasswd -nbB reader "$reader_secret" >>"$logins/users"
  cat >"$logins/passwords.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "auth": { "htpasswd": { "path": "$logins/users" }, "apikey": true },
    "accessControl": {
      "repositories": {
        "**": { "policies": [ { "users": ["pusher"], "actions": ["read", "create", "update", "delete"] },
                              { "users": ["reader"], "actions": ["read"] } ] },
        "hidden/**": { "policies": [ { "users": ["pusher"], "actions": ["read", "create", "update", "delete"] } ] }
      },
      "adminPolicy": { "users": ["pusher"], "actions": ["read"] }
    }
  },
  "log": { "level": "debug", "audit": "$logs/audit.log" }
}
JSON
  mesh_options=(--config "$logins/passwords.json")
  mesh_start
}

# mesh_start_with_tokens: by bearer, with a token service on 127.0.0.1.
mesh_start_with_tokens() {
  token_service_start
  cat >"$logins/tokens.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "auth": { "bearer": { "realm": "$realm", "service": "$service", "cert": "$logins/tokens.crt" } }
  },
  "log": { "level": "debug", "audit": "$logs/audit.log" }
}
JSON
  mesh_options=(--config "$logins/tokens.json")
  mesh_start
}

# mesh_start_open_in_part: what lies below `public` anybody may pull. The registry gives tokens itself, for passwords and for the
# tokens of workloads, whose issuer is started. The log says everything, unless $log_level is another.
mesh_start_open_in_part() {
  local pair=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  read -r issuer_port _ < <(python3 tests/lib/free_ports.py 127.0.0.1)
  issuer=https://127.0.0.1:$issuer_port
  {
    openssl req -x509 "${pair[@]}" -days 2 -subj '/CN=issuers' -addext basicConstraints=critical,CA:TRUE \
      -keyout "$logins/ca.key" -out "$logins/ca.crt"
    openssl req "${pair[@]}" -subj /CN=issuer -keyout "$logins/issuer.key" -out "$logins/issuer.csr"
    openssl x509 -req -in "$logins/issuer.csr" -CA "$logins/ca.crt" -CAkey "$logins/ca.key" -days 2 \
      -extfile <(echo subjectAltName=IP:127.0.0.1) -out "$logins/issuer.crt"
    openssl genrsa -out "$logins/signing.key" 2048
  } 2>>"$logs/openssl.log"
  process_start "$logs/issuer.log" python3 tests/lib/issuer.py serve "$issuer" "$logins/issuer.crt" "$logins/issuer.key" \
    "$logins/signing.key"
  wait_for 20 "$started_pid" curl -q --noproxy '*' -fsS --cacert "$logins/ca.crt" "$issuer/keys" || die "the issuer did not start"
  htpasswd -nbB pusher "$pusher_secret" >"$logins/users"
  htpasswd -nbB reader "$reader_secret" >>"$logins/users"
  cat >"$logins/open.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "auth": {
      "htpasswd": { "path": "$logins/users" },
      "apikey": true,
      "bearer": { "oidc": [ { "issuer": "$issuer", "audiences": ["registry.tests"],
        "certificateAuthorityFile": "$logins/ca.crt", "claimMapping": { "username": "'job:' + claims.sub" } } ] }
    },
    "accessControl": {
      "repositories": {
        "**": { "policies": [ { "users": ["reader"], "actions": ["read"] },
                              { "users": ["job:build"], "groups": ["machines"], "actions": ["read", "create"] } ] },
        "public/**": { "anonymousPolicy": ["read"], "defaultPolicy": ["read"] }
      },
      "adminPolicy": { "users": ["pusher"], "actions": ["read", "create", "update", "delete"] }
    }
  },
  "log": { "level": "${log_level:-debug}", "audit": "$logs/audit.log" }
}
JSON
  mesh_options=(--config "$logins/open.json")
  mesh_start
}

# workload AUDIENCE: a token of a workload's.
workload() { python3 tests/lib/issuer.py token "$issuer" "$logins/signing.key" "$1" build 3600; }

token_service_start() {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$logins/tokens.key" -out "$logins/tokens.crt" -days 2 \
    -subj /CN=tokens >"$logs/openssl.log" 2>&1
  cat >"$logins/policy.json" <<JSON
{
  "pusher": { "password": "$pusher_secret", "scopes": ["repository:*:pull,push,delete", "registry:catalog:*"] },
  "reader": { "password": "$reader_secret", "scopes": ["repository:*:pull"] }
}
JSON
  token_address=127.0.0.1:$(python3 tests/lib/free_ports.py 127.0.0.1 | cut -d ' ' -f 1)
  process_start "$logs/tokens.log" \
    python3 tests/lib/token_service.py "$token_address" "$service" "$logins/tokens.key" "$logins/policy.json"
  token_service_pid=$started_pid
  # By address: oras refuses a realm whose name leads to loopback, unless that is where the registry is.
  realm=http://$token_address/token
  wait_for 10 "$token_service_pid" token_service_answers || die "the token service did not start"
}

token_service_answers() {
  ask -u "pusher:$pusher_secret" "$realm?service=$service"
}

token_service_stop() { process_stop "$token_service_pid" || true; }

# no_secrets_in_logs [SECRET]...: one check, that neither the users' secrets nor these are in any log of the mesh.
no_secrets_in_logs() {
  local secret basic found=()
  for secret in "$pusher_secret" "$reader_secret" "$@"; do
    found+=(-e "$secret")
  done
  for basic in "pusher:$pusher_secret" "reader:$reader_secret"; do
    found+=(-e "$(printf %s "$basic" | base64 -w 0)")
  done
  check "the logs of the mesh tell what happened" test -s "$logs/mesh.log"
  # A token is three parts in base64; each begins like this, as JSON does.
  equal "the logs and the audit tell no secret" 0 \
    "$(cat "$logs/mesh.log" "$logs/audit.log" "$logs/diagnostics.json" | grep -c -F "${found[@]}" -e 'eyJ')"
}

# refused TEXT COMMAND...: one check, that the command fails.
refused() {
  local text=$1
  shift
  if "$@" >>"$logs/clients.log" 2>&1; then fail "$text"; else pass "$text"; fi
}

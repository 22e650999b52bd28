#!/usr/bin/env bash
# Logging in at a certified OpenID provider (npm's oidc-provider) at a mesh of three members, in headless Chromium, and by curl and its
# cookies: who is in which group, API keys, logging out, sessions that end, a provider that is down and one with new keys. What
# attackers do is in tests/it/access/openid.rs, where the provider lies.
#
# usage: tests/openid.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh

# web BROWSER CURL-ARGUMENT...: a request with the cookies of a browser.
web() {
  local jar=$scratch/$1.cookies
  shift
  curl -q --noproxy '*' -sS --max-time 20 -b "$jar" -c "$jar" "$@"
}

# status BROWSER CURL-ARGUMENT...
status() { web "$@" -o /dev/null -w '%{http_code}' 2>>"$logs/clients.log" || true; }

# action: where the form of the page leads.
action() { grep -o 'action="[^"]*"' "$scratch/page" | head -n 1 | cut -d '"' -f 2; }

# log_in BROWSER MEMBER USER: through the provider's two forms, who it is and whether the registry may know; the last status.
log_in() {
  : >"$scratch/page"
  web "$1" -L -o "$scratch/page" "http://$2/zot/auth/login?provider=oidc" 2>>"$logs/clients.log" || true
  web "$1" -L -o "$scratch/page" -d prompt=login -d "login=$3" -d password=x "$(action)" 2>>"$logs/clients.log" || true
  web "$1" -L -o "$scratch/answer" -w '%{http_code}' -d prompt=consent "$(action)" 2>>"$logs/clients.log" || true
}

provider_start() {
  local member callbacks=()
  rm -f "$logs/provider.log" # of one before, which was ready, too
  for member in "${members[@]}"; do callbacks+=("http://$member/zot/auth/callback/oidc"); done
  process_start "$logs/provider.log" node tests/lib/openid_provider.mjs "$target/tools/oidc-provider/node_modules" \
    "$provider_port" "$secret" "${callbacks[@]}"
  provider_pid=$started_pid
  wait_for 30 "$provider_pid" grep -q ready "$logs/provider.log" || die "the provider did not start"
}

provider_stop() { process_stop "$provider_pid" || true; }

# registry_start LENGTH: a mesh whose sessions last so long.
registry_start() {
  cat >"$scratch/openid.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "auth": {
      "sessionLength": "$1",
      "openid": { "providers": { "oidc": { "issuer": "http://127.0.0.1:$provider_port", "clientid": "registry", "clientsecret": "$secret" } } }
    },
    "accessControl": {
      "repositories": { "**": {}, "team/**": { "policies": [ { "groups": ["builders"], "actions": ["read", "create"] } ] } }
    }
  },
  "extensions": { "search": { "enable": true }, "ui": { "enable": true } },
  "log": { "level": "debug", "audit": "$logs/audit.log" }
}
JSON
  mesh_options=(--config "$scratch/openid.json")
  mesh_start
}

provider_is_known() { [ "$(status nobody "http://${members[0]}/zot/auth/login?provider=oidc")" = 302 ]; }

# cookie BROWSER: that of the session, to be shown to another member, as a name for all of them would have browsers do.
cookie() { awk '$6 == "portolan-session" { print $6 "=" $7 }' "$scratch/$1.cookies"; }

own=(-H 'Sec-Fetch-Site: same-origin')

# in_a_browser PART [NAME=VALUE]...: each line of tests/lib/openid.mjs is a check.
in_a_browser() {
  local verdict text part=$1
  shift
  while read -r verdict text; do
    case $verdict in
      ok) pass "in a browser: $text" ;;
      FAIL) fail "in a browser: $text" ;;
      *) say "        $verdict $text" ;;
    esac
  done < <(
    env PAGE_MODULES="$page_modules" CHROMIUM="$(command -v chromium)" FRONT="${members[0]}" \
      ISSUER="http://127.0.0.1:$provider_port" REPOSITORY=team/app "$@" \
      timeout 300 node tests/lib/openid.mjs "$part" 2>&1 || echo "FAIL the browser's part came to its end"
  )
}

# image_push KEY: as ann, what the browser is to see.
image_push() {
  image_layers "$scratch/layers"
  crane auth login --insecure -u ann@example.org -p "$1" "${members[1]}" 2>>"$logs/clients.log"
  check "ann's key pushes an image" crane append --insecure --oci-empty-base -t "${members[1]}/team/app:v1" \
    -f "$scratch/layers/text.tar.gz"
}

report_begin openid
need_openid
user_settings_none
mkdir "$scratch/layers"
secret=$(openssl rand -hex 16)
read -r provider_port _ < <(python3 tests/lib/free_ports.py 127.0.0.1)

registry_start 1h
first=http://${members[0]} second=http://${members[1]}
equal "a provider that is down stops nobody's start, and nobody logs in" 503 "$(status nobody "$first/zot/auth/login?provider=oidc")"
check "readiness says so" grep -q '^login by oidc: ' <(ask "$first/readyz")
provider_start
wait_for 30 "$provider_pid" provider_is_known || die "the provider is not known"

equal "ann logs in" 201 "$(log_in ann "${members[0]}" ann)"
equal "and is somebody" 200 "$(status ann "$first/v2/_catalog")"
equal "her group may push" 202 "$(status ann "${own[@]}" -X POST "$first/v2/team/app/blobs/uploads/")"
equal "at every member" 202 \
  "$(status nobody -H "Cookie: $(cookie ann)" "${own[@]}" -X POST "$second/v2/team/app/blobs/uploads/")"
equal "where another site's page asks it is refused" 403 \
  "$(status ann -H 'Sec-Fetch-Site: cross-site' -X POST "$first/v2/team/app/blobs/uploads/")"
equal "what no group may is refused" 403 "$(status ann "${own[@]}" -X POST "$first/v2/other/blobs/uploads/")"
equal "bob logs in" 201 "$(log_in bob "${members[0]}" bob)"
equal "and is refused where ann's group works" 403 "$(status bob "$first/v2/team/app/tags/list")"
key=$(web ann "${own[@]}" -d '{"label": "docker"}' "$first/zot/auth/apikey" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["apiKey"])')
equal "an API key of ann's has her group" 202 \
  "$(status nobody -u "ann@example.org:$key" -X POST "$second/v2/team/app/blobs/uploads/")"

image_push "$key"
in_a_browser logins

was=$(cookie ann)
equal "ann logs out" 200 "$(web ann "${own[@]}" -X POST -o "$scratch/answer" -w '%{http_code}' "$first/zot/auth/logout")"
equal "and at the provider, too" 200 "$(status ann "$(
  python3 -c 'import json, sys; print(json.load(sys.stdin)["endSessionUrl"])' <"$scratch/answer")")"
sleep 3
for member in "${members[@]}"; do
  equal "her session is over at $member" 401 "$(status nobody -H "Cookie: $was" "http://$member/v2/_catalog")"
done
equal "who was bob is" 200 "$(status bob "$first/v2/_catalog")"

provider_stop
equal "while the provider is down bob stays" 200 "$(status bob "$first/v2/_catalog")"
provider_start
equal "with its new keys ann logs in" 201 "$(log_in ann "${members[0]}" ann)"
provider_stop
mesh_stop

registry_start 4s
first=http://${members[0]}
provider_start
wait_for 30 "$provider_pid" provider_is_known || die "the provider is not known"
equal "ann logs in for four seconds" 201 "$(log_in ann "${members[0]}" ann)"
was=$(cookie ann)
equal "and is somebody" 200 "$(status ann "$first/v2/_catalog")"
sleep 5
equal "until they are over" 401 "$(status nobody -H "Cookie: $was" "$first/v2/_catalog")"
in_a_browser expiry SECONDS=4
mesh_stop
provider_stop
check "the audit says who logged in" grep -q '"user":"ann@example.org".*"action":"login".*"outcome":"done"' "$logs/audit.log"
equal "and of nobody that it came to nothing" 0 "$(grep -c '"action":"login","outcome":"[^d]' "$logs/audit.log" || true)"
check "and out" grep -q '"user":"ann@example.org".*"action":"logout".*"outcome":"done"' "$logs/audit.log"
for hidden in "$secret" "$key" "${was#*=}"; do
  if grep -rqF -- "$hidden" "$logs"; then fail "a log has a secret in it"; else pass "no log has a secret in it"; fi
done

#!/usr/bin/env bash
# The page in headless Chromium, on a mesh of three that wants logins, through a member that owns none of what is looked at:
# search, repository, tag, layers, referrers, history, deleting, restoring; a wrong login, a repository one may not see, an API key
# that crane uses. Then, on three processes over real stores, the mesh as it is watched while a member is killed and comes back.
# On every page: axe-core finds nothing, no request leaves the origin, the policy blocks nothing. Pictures of the pages, wide and
# narrow, light and dark, lie in target/page afterwards, to be looked at.
#
# usage: tests/page.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/logins.sh

report_begin page
need_page
need_stores
logins_prepare
mesh_start_with_passwords

owner=${members[0]} front=${members[1]}
image=$(repository_owned_by "$owner" shop/web)
chart=$(repository_owned_by "$owner" charts/web)
key=$scratch/key
pictures=$target/page
mkdir -p "$pictures"

# visit SCRIPT [NAME=VALUE]...: what it prints. Each line is a check, "ok TEXT" or "FAIL TEXT", or the name of something to be done.
visit() {
  local script=$1 verdict text
  shift
  while read -r verdict text; do
    case $verdict in
      ok) pass "$text" ;;
      FAIL) fail "$text" ;;
      kill) kill -KILL "${member_pids[2]}" && member_killed 2 ;;
      start) member_start 2 && member_ready 2 ;;
      *) say "        $verdict $text" ;;
    esac
  done < <(
    env PAGE_MODULES="$page_modules" CHROMIUM="$(command -v chromium)" PICTURES="$pictures" \
      PUSHER_SECRET="$pusher_secret" READER_SECRET="$reader_secret" "$@" \
      timeout 300 node "tests/lib/$script" 2>&1 || echo "FAIL the browser's part came to its end"
  )
}

visit page.mjs KEY_FILE="$key" OWNER="$owner" FRONT="$front" OTHER="${members[2]}" IMAGE="$image" CHART="$chart"

check "crane logs in with the key that the page made" \
  crane auth login --insecure -u pusher -p "$(cat "$key")" "$front"
check "and lists what the key's scope allows" crane ls --insecure "$front/$chart"
mesh_stop

# Addresses of its own, beside other meshes that are tried.
cluster_hosts=(127.0.17.1 127.0.17.2 127.0.17.3)
cluster_sample=$scratch/cluster.json
python3 - "$logins/passwords.json" deploy/cluster.json >"$cluster_sample" <<'EOF'
import json, sys
logins, sample = (json.load(open(path)) for path in sys.argv[1:])
sample["http"] |= logins["http"]
sample["extensions"] = {"search": {"enable": True}, "ui": {"enable": True}}
print(json.dumps(sample))
EOF
cluster_members_start
visit page_mesh.mjs FRONT="https://${members[0]}" OWNERS="${members[*]}" VICTIM=2 NODE_EXTRA_CA_CERTS="$mesh_ca"
cluster_members_stop

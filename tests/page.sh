#!/usr/bin/env bash
# The page in headless Chromium, on a mesh of three that wants logins, through a member that owns none of what is looked at:
# search, repository, tag, layers, referrers, history, deleting; a wrong login, a repository one may not see, an API key
# that crane uses. On every page: axe-core finds nothing, no request leaves the origin, the policy blocks nothing. Pictures of the
# pages, wide and narrow, light and dark, lie in target/page afterwards, to be looked at.
#
# usage: tests/page.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/logins.sh

report_begin page
need_page
logins_prepare
mesh_start_with_passwords

owner=${members[0]} front=${members[1]}
image=$(repository_owned_by "$owner" shop/web)
chart=$(repository_owned_by "$owner" charts/web)
key=$scratch/key
pictures=$target/page
mkdir -p "$pictures"

# Each line is a check: "ok TEXT", or "FAIL TEXT".
while read -r verdict text; do
  case $verdict in
    ok) pass "$text" ;;
    FAIL) fail "$text" ;;
    *) say "        $verdict $text" ;;
  esac
done < <(
  PAGE_MODULES=$page_modules CHROMIUM=$(command -v chromium) PICTURES=$pictures KEY_FILE=$key \
    OWNER=$owner FRONT=$front OTHER=${members[2]} IMAGE=$image CHART=$chart \
    PUSHER_SECRET=$pusher_secret READER_SECRET=$reader_secret \
    timeout 300 node tests/lib/page.mjs 2>&1 || echo "FAIL the browser's part came to its end"
)

check "crane logs in with the key that the page made" \
  crane auth login --insecure -u pusher -p "$(cat "$key")" "$front"
check "and lists what the key's scope allows" crane ls --insecure "$front/$chart"
mesh_stop

#!/usr/bin/env bash
# The official OCI conformance suite against a mesh of three members, entered in five ways under two versions of the
# specification. An entry is where the suite's requests go in:
#
#   owner        by the member that owns both repositories: nothing is forwarded
#   non-owner    by a member that owns neither: everything is forwarded
#   two-owners   by the owner of the first repository, the second belonging to another member
#   alternating  each request by the next member in turn, the two repositories belonging to different members
#   mirroring    as non-owner, of a mesh that looks in another registry, an empty one, for whatever isn't here
#
# usage: tests/conformance.sh [1.1|dev]... [owner|non-owner|two-owners|alternating|mirroring]...    all of them when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/conformance.sh

versions=()
entries=()
for argument in "$@"; do
  case $argument in
    1.1 | dev) versions+=("$argument") ;;
    owner | non-owner | two-owners | alternating | mirroring) entries+=("$argument") ;;
    *) die "no version and no entry: $argument (see the head of $0)" ;;
  esac
done
[ ${#versions[@]} -gt 0 ] || versions=(1.1 dev)
[ ${#entries[@]} -gt 0 ] || entries=(owner non-owner two-owners alternating mirroring)

# run VERSION ENTRY
run() {
  local version=$1 entry=$2 name=$1-$2 before
  choose "$entry" "conformance/$name"
  say "conformance $version, $entry: entering by $door; $repo1 is $owner1's, $repo2 is $owner2's"
  [ "$entry" != alternating ] || relay_start
  before=$(forwards)
  suite "$version" "$name" "$door" "$repo1" "$repo2"
  check_forwards "$entry" $(($(forwards) - before))
  [ "$entry" != alternating ] || relay_stop
}

# choose ENTRY PREFIX: two repositories, their owners, and the door the requests go in by.
choose() {
  owner1=${members[0]}
  owner2=${members[0]}
  door=${members[0]}
  case $1 in
    non-owner | mirroring) door=${members[1]} ;;
    two-owners) owner2=${members[1]} ;;
    alternating) owner2=${members[1]} door=$relay ;;
  esac
  repo1=$(repository_owned_by "$owner1" "$2/first")
  repo2=$(repository_owned_by "$owner2" "$2/second")
}

# Was the entry what it says? check_forwards ENTRY COUNT
check_forwards() {
  case $1 in
    owner) equal "$1: nothing was forwarded" 0 "$2" ;;
    *) check "$1: the members forwarded $2 requests" test "$2" -gt 0 ;;
  esac
}

relay_start() {
  process_start "$logs/relay.log" python3 tests/lib/relay.py "$relay" "${members[@]}"
  relay_pid=$started_pid
  wait_for 10 "$relay_pid" ask "http://$relay/readyz" || die "the relay did not start"
}

# On its way out the relay tells how many requests each member got.
relay_stop() {
  local member count
  process_stop "$relay_pid" || die "the relay failed"
  while read -r member count; do
    check "alternating: $count requests went in by $member" test "$count" -gt 100
  done < <(grep '^127\.' "$logs/relay.log")
}

report_begin conformance
need_conformance
plain=() mirroring=()
for entry in "${entries[@]}"; do
  case $entry in
    mirroring) mirroring=("$entry") ;;
    *) plain+=("$entry") ;;
  esac
done
if [ ${#plain[@]} -gt 0 ]; then
  mesh_start
  relay=127.0.0.1:$(free_port)
  for version in "${versions[@]}"; do
    for entry in "${plain[@]}"; do run "$version" "$entry"; done
  done
  mesh_stop
fi
if [ ${#mirroring[@]} -gt 0 ]; then
  # What a mesh mirrors that has nothing.
  single_start upstream
  cat >"$scratch/mirror.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "extensions": { "sync": { "registries": [{ "urls": ["http://$single"], "onDemand": true }] } }
}
JSON
  mesh_options=(--config "$scratch/mirror.json")
  rm -rf "$scratch/mesh"
  mesh_start
  for version in "${versions[@]}"; do
    asked=$(asked_of "$single" '(manifest|blob)_.*')
    run "$version" mirroring
    asked=$(($(asked_of "$single" '(manifest|blob)_.*') - asked))
    check "mirroring: the other registry was asked $asked times" test "$asked" -gt 100
  done
  mesh_stop
  process_stop "$single_pid" || true
fi

#!/usr/bin/env bash
# The command line of operators against other people's tools, on a mesh of three members: what `portolan mesh --json` tells is what
# grpcurl prints, bash takes the completions, and image layouts by skopeo, crane and oras go in by `portolan import` and come out of
# `portolan export` for each of them with the digests that they had.
#
# usage: tests/operate.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh

# canonical: JSON with its keys in order, and without ages.
canonical() {
  python3 -c '
import json, sys
def still(value):
    if isinstance(value, dict):
        return {key: still(below) for key, below in value.items() if key not in ("viewAgeMs", "unchangedMs", "ageMs")}
    return [still(below) for below in value] if isinstance(value, list) else value
print(json.dumps(still(json.load(sys.stdin)), sort_keys=True))'
}

# in_mesh ARGUMENT...: `portolan mesh` at the first member.
in_mesh() {
  "$portolan" mesh --server "127.0.0.1:$mesh_port" --cacert "$mesh_ca" --cert "$mesh_pair.crt" --key "$mesh_pair.key" "$@"
}

# by_grpcurl METHOD [REQUEST]
by_grpcurl() {
  grpcurl -max-time 10 -emit-defaults -cacert "$mesh_ca" -cert "$mesh_pair.crt" -key "$mesh_pair.key" \
    -d "${2:-{\}}" "127.0.0.1:$mesh_port" "portolan.mesh.v1.Diagnostics/$1"
}

mesh_is_told() {
  equal "members are told as grpcurl tells them" \
    "$(said by_grpcurl Members | canonical)" "$(said in_mesh members --json | canonical)"
  equal "and where a repository lives" \
    "$(said by_grpcurl Locate '{"repository": "library/alpine"}' | canonical)" \
    "$(said in_mesh locate library/alpine --json | canonical)"
  equal "bash takes the completions" "complete -o bashdefault -o default -o nosort -F _portolan portolan" \
    "$(said bash -c "source <('$portolan' completions bash) && complete -p portolan")"
}

# imports TEXT LAYOUT TO REPOSITORY TAG: it is imported through one member, and all have it.
imports() {
  check "$1 goes in" "$portolan" import "$2" "${members[0]}/$3"
  equal_through_all "$4" "$5" "$digest"
}

layouts_go_in() {
  local layers=$scratch/layers layout=$scratch/skopeo
  mkdir -p "$layers"
  image_layers "$layers"
  image_layout "$layers" "$layout"
  digest=$(layout_digest "$layout")
  imports "skopeo's layout" "$layout" by/skopeo by/skopeo v1

  check "skopeo writes an archive" skopeo copy --quiet "oci:$layout:v1" "oci-archive:$scratch/archive.tar:v2"
  imports "skopeo's archive" "$scratch/archive.tar" by/archive by/archive v2

  check "crane writes a layout" crane pull --insecure --format=oci "${members[1]}/by/skopeo:v1" "$scratch/crane"
  # Nothing in it has a name.
  imports "crane's layout" "$scratch/crane" by/crane:v1 by/crane v1
  check "crane writes one with names" crane pull --insecure --format=oci --annotate-ref "${members[1]}/by/skopeo:v1" "$scratch/names"
  imports "it" "$scratch/names" crane crane/by/skopeo v1

  check "oras writes a layout" oras copy --from-plain-http "${members[2]}/by/skopeo:v1" --to-oci-layout "$scratch/oras:v3"
  imports "oras's layout" "$scratch/oras" by/oras by/oras v3

  check "a signature is attached" oras attach --plain-http --artifact-type application/vnd.example.signature \
    "${members[0]}/by/oras:v3" --annotation "who=somebody"
}

layouts_come_out() {
  local one=$scratch/one all=$scratch/all
  check "a repository comes out" "$portolan" export "${members[1]}/by/oras" "$one"
  equal "skopeo reads it" "$digest" "$(said skopeo inspect --format '{{.Digest}}' "oci:$one:v3")"
  equal "oras reads it" "$digest" "$(said oras resolve --oci-layout "$one:v3")"
  equal "and finds the signature" application/vnd.example.signature \
    "$(said oras discover --oci-layout --format go-template --template '{{(index .referrers 0).artifactType}}' "$one:v3")"

  check "an archive comes out" "$portolan" export "${members[2]}/by/skopeo:v1" "$one.tar"
  equal "skopeo reads it" "$digest" "$(said skopeo inspect --format '{{.Digest}}' "oci-archive:$one.tar:v1")"
  check "crane pushes what came out" sh -c "mkdir '$one.crane' && tar -xf '$one.tar' -C '$one.crane' &&
    crane push --insecure '$one.crane' '${members[0]}/back:v1'"
  equal_through_all back v1 "$digest"

  check "everything comes out" "$portolan" export "${members[0]}" "$all"
  equal "skopeo finds an image by its whole name" "$digest" "$(said skopeo inspect --format '{{.Digest}}' "oci:$all:by/oras:v3")"
  equal "and oras" "$digest" "$(said oras resolve --oci-layout-path "$all" by/oras:v3)"
  check "and goes in elsewhere" "$portolan" import "$all" "${members[1]}/copy"
  equal_through_all copy/by/skopeo v1 "$digest"
  equal "with its signature" application/vnd.example.signature \
    "$(said oras discover --plain-http --format go-template --template '{{(index .referrers 0).artifactType}}' "${members[2]}/copy/by/oras:v3")"
}

report_begin operate
need_operate
user_settings_none
mesh_start
mesh_is_told
layouts_go_in
layouts_come_out
mesh_stop

#!/usr/bin/env bash
# Real clients against a mesh of three members: skopeo, podman, buildah, crane and oras each push through one member and
# pull through another, and what arrives has the digest of what was sent. Every repository here is owned by the third
# member, so that push and pull are both forwarded.
#
# usage: tests/clients.sh [crane|skopeo|podman|buildah|oras]...    all of them when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh

# A client that never ends fails like one that fails.
crane() { timeout 180 crane "$@"; }
skopeo() { timeout 180 skopeo "$@"; }
podman() { timeout 180 podman "$@"; }
buildah() { timeout 180 buildah "$@"; }
oras() { timeout 180 oras "$@"; }

# crane makes the image of the layers as it pushes; `validate` reads every blob again and hashes it.
crane_client() {
  local pushed elsewhere
  elsewhere=$(repository_owned_by "$push" clients/elsewhere)
  pushed=$(said crane append --insecure --oci-empty-base -t "$push/$repository:v1" \
    -f "$layers/programs.tar.gz" -f "$layers/libraries.tar.gz" -f "$layers/text.tar.gz")
  check "crane pulls what it pushed" crane pull --insecure --format oci "$pull/$repository:v1" "$scratch/crane"
  equal "its digest is that of the push" "${pushed#*@}" "$(layout_digest "$scratch/crane")"
  check "crane validates it" crane validate --insecure --remote "$pull/$repository:v1"
  check "crane copies it to a repository of another owner" \
    crane copy --insecure "$pull/$repository:v1" "$push/$elsewhere:v1"
  equal_through_all "$repository" v1 "${pushed#*@}"
  equal_through_all "$elsewhere" v1 "${pushed#*@}"
}

skopeo_client() {
  check "skopeo pushes" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:v1"
  check "skopeo pulls what it pushed" skopeo copy --preserve-digests --src-tls-verify=false \
    "docker://$pull/$repository:v1" "oci:$scratch/skopeo:v1"
  equal "its digest is that of the push" "$(layout_digest "$image")" "$(layout_digest "$scratch/skopeo")"
  check "its blobs are those of the push" diff -r "$image/blobs" "$scratch/skopeo/blobs"
  equal_through_all "$repository" v1 "$(layout_digest "$image")"
}

# stored TOOL STORAGE ARGUMENT...: podman or buildah with a storage of its own, so that a pull finds nothing there yet.
stored() {
  local tool=$1 storage=$scratch/$1-$2
  shift 2
  "$tool" --root "$storage" --runroot "$storage-run" --storage-driver vfs "$@"
}

podman_client() {
  local id digest
  id=$(said stored podman pushing pull --quiet "docker-archive:$image.tar")
  check "podman pushes" stored podman pushing push --tls-verify=false \
    --digestfile "$scratch/podman.digest" "$id" "docker://$push/$repository:v1"
  digest=$(said cat "$scratch/podman.digest")
  check "podman pulls what it pushed" stored podman pulling pull --tls-verify=false "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" \
    "$(said stored podman pulling image inspect --format '{{.Digest}}' "$pull/$repository:v1")"
  equal "its image ID is that of the push" "$id" \
    "$(said stored podman pulling image inspect --format '{{.Id}}' "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

buildah_client() {
  local container digest
  container=$(said stored buildah pushing from scratch)
  check "buildah adds a layer" stored buildah pushing add "$container" "$layers/programs.tar.gz" /
  check "buildah commits an image" stored buildah pushing commit --format oci "$container" built
  check "buildah pushes it" stored buildah pushing push --tls-verify=false \
    --digestfile "$scratch/buildah.digest" built "docker://$push/$repository:v1"
  digest=$(said cat "$scratch/buildah.digest")
  check "buildah pulls what it pushed" stored buildah pulling pull --tls-verify=false "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" \
    "$(said stored buildah pulling inspect --type image --format '{{.FromImageDigest}}' "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

oras_client() {
  local digest sbom signature member
  mkdir "$scratch/oras"
  cp "$layers/libraries.tar.gz" "$scratch/oras/"
  echo '{"bomFormat": "CycloneDX"}' >"$scratch/oras/sbom.json"
  echo 'signed by nobody' >"$scratch/oras/signature.txt"

  digest=$(oras_adds push "$push" artifact libraries.tar.gz:application/gzip)
  check "oras pulls what it pushed" oras pull --plain-http --no-tty -o "$scratch/oras-pulled" "$pull/$repository:v1"
  check "its file is that of the push" cmp "$layers/libraries.tar.gz" "$scratch/oras-pulled/libraries.tar.gz"
  equal "its digest is that of the push" "$digest" "$(said oras resolve --plain-http "$pull/$repository:v1")"

  sbom=$(oras_adds attach "$pull" sbom sbom.json:application/json)
  signature=$(oras_adds attach "$owner" signature signature.txt:text/plain)
  for member in "${members[@]}"; do
    equal "oras discovers two referrers through $member" \
      "$(printf '%s\n' "$sbom" "$signature" | sort)" "$(oras_discovers "$member")"
    equal "oras discovers one of them by its type through $member" \
      "$sbom" "$(oras_discovers "$member" --artifact-type application/vnd.portolan.sbom)"
  done
  # Where the referrers API is missing, a client keeps the list under a tag.
  equal "oras needed no tag for them" v1 "$(said oras repo tags --plain-http "$pull/$repository")"
  equal_through_all "$repository" v1 "$digest"
}

# oras_adds push|attach MEMBER TYPE FILE:MEDIA-TYPE: prints the digest of the new manifest.
oras_adds() (
  cd "$scratch/oras"
  said oras "$1" --plain-http --no-tty --format json --artifact-type "application/vnd.portolan.$3" \
    "$2/$repository:v1" "$4" | said python3 -c 'import json, sys; print(json.load(sys.stdin)["digest"])'
)

# oras_discovers MEMBER OPTION...: prints the digests of the referrers, in order.
oras_discovers() {
  local member=$1
  shift
  said oras discover --plain-http --format json "$@" "$member/$repository:v1" | said python3 -c '
import json, sys
print(*sorted(referrer["digest"] for referrer in json.load(sys.stdin)["referrers"]), sep="\n")'
}

clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(crane skopeo podman buildah oras)
for client in "${clients[@]}"; do
  declare -F "${client}_client" >/dev/null || { echo "no such client: $client (see the head of $0)" >&2 && exit 2; }
done

report_begin clients
need_clients
user_settings_none
mesh_start
push=${members[0]} pull=${members[1]} owner=${members[2]}
layers=$scratch/layers image=$scratch/image
mkdir "$layers"
image_layers "$layers"
image_layout "$layers" "$image"
say "image: $(du -sh "$image/blobs" | cut -f 1) in three layers"
for client in "${clients[@]}"; do
  repository=$(repository_owned_by "$owner" "clients/$client")
  say "$client pushes through $push and pulls through $pull; $repository is $owner's"
  "${client}_client"
done
mesh_stop

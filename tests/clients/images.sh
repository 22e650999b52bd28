# shellcheck shell=bash
# Clients that copy images, without a daemon. Sourced by tests/clients.sh; tests/lib/clients.sh says what is set.

# crane makes the image of the layers as it pushes; `validate` reads every blob again and hashes it.
crane_client() {
  local digest elsewhere
  version="crane $(go_tool_version crane)"
  elsewhere=$(repository_owned_by "$push" clients/elsewhere)
  know="\`--insecure\` where there is no TLS."
  did "appends three layers to nothing and pushes" crane append --insecure --oci-empty-base -t "$push/$repository:v1" \
    -f "$layers/programs.tar.gz" -f "$layers/libraries.tar.gz" -f "$layers/text.tar.gz"
  digest=$(digest_shown)
  did "pulls" crane pull --insecure --format oci "$pull/$repository:v1" "$scratch/crane"
  equal "its digest is that of the push" "$digest" "$(layout_digest "$scratch/crane")"
  did "validates, reading all of it" crane validate --insecure --remote "$pull/$repository:v1"
  did "copies to a repository of another owner" crane copy --insecure "$pull/$repository:v1" "$push/$elsewhere:v1"
  equal_through_all "$repository" v1 "$digest"
  equal_through_all "$elsewhere" v1 "$digest"
}

skopeo_client() {
  version="skopeo $(deb_version skopeo)"
  know="\`--dest-tls-verify=false\` and \`--src-tls-verify=false\` where there is no TLS, or \`insecure = true\` in registries.conf."
  did "pushes" skopeo copy --preserve-digests --dest-tls-verify=false "oci:$image:v1" "docker://$push/$repository:v1"
  did "pulls" skopeo copy --preserve-digests --src-tls-verify=false "docker://$pull/$repository:v1" "oci:$scratch/skopeo:v1"
  equal "its digest is that of the push" "$(layout_digest "$image")" "$(layout_digest "$scratch/skopeo")"
  check "its blobs are those of the push" diff -r "$image/blobs" "$scratch/skopeo/blobs"
  did "lists tags" skopeo list-tags --tls-verify=false "docker://$pull/$repository"
  equal_through_all "$repository" v1 "$(layout_digest "$image")"
}

# stored TOOL STORAGE ARGUMENT...: podman or buildah with a storage of its own, so that a pull finds nothing there yet.
stored() {
  local tool=$1 storage=$scratch/$1-$2
  shift 2
  timeout 180 "$tool" --root "$storage" --runroot "$storage-run" --storage-driver vfs "$@"
}

podman_client() {
  local id digest
  version="podman $(deb_version podman)"
  id=$(said stored podman pushing pull --quiet "docker-archive:$image.tar")
  know="\`--tls-verify=false\` where there is no TLS, or \`insecure = true\` in registries.conf; so buildah."
  did "pushes" stored podman pushing push --tls-verify=false \
    --digestfile "$scratch/podman.digest" "$id" "docker://$push/$repository:v1"
  digest=$(said cat "$scratch/podman.digest")
  did "pulls" stored podman pulling pull --tls-verify=false "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" \
    "$(said stored podman pulling image inspect --format '{{.Digest}}' "$pull/$repository:v1")"
  equal "its image ID is that of the push" "$id" \
    "$(said stored podman pulling image inspect --format '{{.Id}}' "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

buildah_client() {
  local container digest
  version="buildah $(deb_version buildah)"
  container=$(said stored buildah pushing from scratch)
  check "buildah adds a layer" stored buildah pushing add "$container" "$layers/programs.tar.gz" /
  check "buildah commits an image" stored buildah pushing commit --format oci "$container" built
  did "pushes what it built" stored buildah pushing push --tls-verify=false \
    --digestfile "$scratch/buildah.digest" built "docker://$push/$repository:v1"
  digest=$(said cat "$scratch/buildah.digest")
  did "pulls" stored buildah pulling pull --tls-verify=false "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" \
    "$(said stored buildah pulling inspect --type image --format '{{.FromImageDigest}}' "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

regctl_client() {
  local digest member
  version="regctl $(go_tool_version regctl)"
  digest=$(layout_digest "$image")
  for member in "${members[@]}"; do check "regctl is told of $member" regctl registry set --tls disabled "$member"; done
  know="Each member's host, or the balancer's, is set with \`regctl registry set --tls disabled HOST\` where there is no TLS."
  did "copies from a layout" regctl image copy "ocidir://$image:v1" "$push/$repository:v1"
  did "copies to a layout" regctl image copy "$pull/$repository:v1" "ocidir://$scratch/regctl:v1"
  equal "its digest is that of the push" "$digest" "$(layout_digest "$scratch/regctl")"
  head -c 12000000 /dev/urandom >"$scratch/regctl.blob"
  know="Raises its chunk to the \`OCI-Chunk-Min-Length\` that it is told, 5 MiB, and so never sends a blob in one request."
  did "puts a blob of 12 MB" regctl blob put "$push/$repository" <"$scratch/regctl.blob"
  echo 'signed by nobody' >"$scratch/signature.txt"
  did "puts a referrer" regctl artifact put --artifact-type application/vnd.portolan.signature \
    --subject "$pull/$repository:v1" --file "$scratch/signature.txt"
  did "lists referrers" regctl artifact list "$push/$repository:v1"
  check "regctl lists the artifact" grep -q application/vnd.portolan.signature <<<"$shown"
  equal_through_all "$repository" v1 "$digest"
  did "deletes a tag" regctl tag rm "$push/$repository:v1"
  did "lists tags" regctl tag ls "$pull/$repository"
  check "the tag is gone for another member" test -z "$(grep -x v1 <<<"$shown")"
}

regsync_client() {
  local copy
  version="regsync $(go_tool_version regsync)"
  copy=$(repository_below copy)
  check "there is an image to copy" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:v1"
  cat >"$scratch/regsync.yml" <<END
version: 1
creds:
  - { registry: "$push", tls: disabled }
sync:
  - { source: "$push/$repository", target: "$push/$copy", type: repository, referrers: true }
END
  did "copies a repository with its referrers" regsync once --config "$scratch/regsync.yml"
  equal_through_all "$copy" v1 "$(layout_digest "$image")"
}

# Debian's docker-registry as a cache before the mesh.
distribution_client() {
  local port begin
  version="distribution $(deb_version docker-registry) as a pull-through cache"
  check "there is an image to pull" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:v1"
  port=$(python3 tests/lib/free_ports.py 127.0.0.1 | cut -d ' ' -f 1)
  cat >"$scratch/cache.yml" <<END
version: 0.1
storage: { inmemory: {} }
http: { addr: "127.0.0.1:$port" }
proxy: { remoteurl: "http://$pull" }
END
  # It would read the name of skopeo's file of credentials as a part of its configuration.
  process_start "$logs/distribution.log" env -u REGISTRY_AUTH_FILE docker-registry serve "$scratch/cache.yml"
  wait_for 20 "$started_pid" ask "http://127.0.0.1:$port/v2/" || die "docker-registry did not start"
  know="Asks \`GET /v2/\` before every request, and a tag's HEAD for every pull of it; referrers are not passed on."
  for begin in "pulls for a client that pulls from it" "is asked for it once more"; do
    rm -rf "$scratch/distribution"
    did "$begin" skopeo copy --preserve-digests --src-tls-verify=false \
      "docker://127.0.0.1:$port/$repository:v1" "oci:$scratch/distribution:v1"
    equal "what comes by it is what was pushed" "$(layout_digest "$image")" "$(layout_digest "$scratch/distribution")"
  done
}

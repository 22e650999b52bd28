# shellcheck shell=bash
# Clients that fetch only pieces of layers. Sourced by tests/clients.sh; tests/lib/clients.sh says what is set.

# podman's partial pulls: of a layer in zstd:chunked that differs in 5 of 200 files from one it has, only what is new.
podman_partial_client() {
  local id digest storage=$scratch/partial tag
  [ "$(id -u)" -eq 0 ] || die "podman's partial pulls need root, for overlayfs"
  version="podman $(deb_version podman) with \`enable_partial_images\`"
  for tag in v1 v2; do
    partial_files "$scratch/files" "$tag"
    tar -C "$scratch/files" --sort=name --mtime=@0 -cf "$scratch/files-$tag.tar" .
    id=$(said stored podman chunking import --quiet "$scratch/files-$tag.tar")
    know="\`--compression-format zstd:chunked\`"
    did "pushes $tag in zstd:chunked" stored podman chunking push --tls-verify=false --format oci \
      --compression-format zstd:chunked "$id" "docker://$push/$repository:$tag"
  done
  mkdir "$storage"
  cat >"$storage/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$storage/root"
runroot = "$storage/run"
[storage.options]
pull_options = { enable_partial_images = "true", use_hard_links = "false", ostree_repos = "" }
END
  for tag in v1 v2; do
    know="\`pull_options = { enable_partial_images = \"true\" }\` in storage.conf; the overlay driver. Asks for all that it lacks in one request of many ranges."
    did "pulls $tag, of 20 MB$([ $tag = v1 ] || echo ', 5 of its 200 files new')" \
      env CONTAINERS_STORAGE_CONF="$storage/storage.conf" podman pull --tls-verify=false "$pull/$repository:$tag"
  done
  env CONTAINERS_STORAGE_CONF="$storage/storage.conf" podman image prune --all --force >>"$logs/clients.log" 2>&1 || true
}

# partial_files FOLDER v1|v2: 200 files of 100 KB; with v2, five of them get new bytes.
partial_files() {
  python3 - "$@" <<'END'
import os, sys
folder, tag = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
for n in range(200) if tag == "v1" else range(0, 200, 40):
    with open(f"{folder}/{n:03}", "wb") as file:
        file.write(os.urandom(100_000))
END
}

stargz_client() {
  local layer digest
  version="stargz-snapshotter $(go_tool_version stargz-reads "$tools_bin" github.com/containerd/stargz-snapshotter), its reads alone"
  # The largest.
  layer=$(find "$image/blobs/sha256" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
  digest=sha256:${layer##*/}
  check "there is a layer to read" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:v1"
  know="Asks for several ranges in one request; gets a part for each."
  did "reads 221,000 bytes at three places" stargz-reads "$pull/$repository:v1" "$digest" "$(stat -c %s "$layer")" "$layer"
  say "          $shown"
}

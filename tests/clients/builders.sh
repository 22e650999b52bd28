# shellcheck shell=bash
# Clients that build images. Sourced by tests/clients.sh; tests/lib/clients.sh says what is set.

# BuildKit with runc: a base from the mesh, an image with its provenance and a cache to it; then a daemon that has nothing
# left builds the same from the cache alone.
buildkit_client() {
  local address=unix://$scratch/buildkit.sock member base cache
  [ "$(id -u)" -eq 0 ] || die "buildkitd needs root"
  version="buildkit $(go_tool_version buildkitd)"
  for member in "${members[@]}"; do printf '[registry."%s"]\n  http = true\n' "$member"; done >"$scratch/buildkitd.toml"
  process_start "$logs/buildkitd.log" buildkitd --config "$scratch/buildkitd.toml" --root "$scratch/buildkit" \
    --addr "$address" --containerd-worker=false --oci-worker=true --oci-worker-snapshotter=native --oci-worker-net=host
  wait_for 60 "$started_pid" buildctl --addr "$address" debug workers || die "buildkitd did not start"
  base=$(repository_below base) cache=$(repository_below cache)
  busybox_image "$push/$base:v1"
  mkdir "$scratch/context"
  cat >"$scratch/context/Dockerfile" <<END
FROM $pull/$base:v1 AS build
RUN ["/busybox", "sh", "-c", "echo built >/result"]
FROM $pull/$base:v1
COPY --from=build /result /result
END
  know="Plain HTTP is set for each host in \`buildkitd.toml\`. The attestation is a manifest with \`subject\`, so referrers name it, too."
  did "builds, pushes with provenance, exports its cache" buildkit_build "$push/$repository:v1" \
    --opt attest:provenance=mode=max \
    --export-cache "type=registry,ref=$push/$cache:v1,mode=max,registry.insecure=true"
  check "buildkit forgets everything" buildctl --addr "$address" prune --all
  did "builds again from that cache" buildkit_build "$pull/$repository:v2" \
    --import-cache "type=registry,ref=$pull/$cache:v1,registry.insecure=true"
  check "it ran nothing, as all was cached" grep -q CACHED <<<"$shown"
  process_stop "$started_pid" || true
}

# buildkit_build IMAGE OPTION...
buildkit_build() {
  local name=$1
  shift
  timeout 180 buildctl --addr "unix://$scratch/buildkit.sock" build --progress plain --frontend dockerfile.v0 \
    --local "context=$scratch/context" --local "dockerfile=$scratch/context" \
    --output "type=image,name=$name,push=true,registry.insecure=true" "$@"
}

# busybox_image REFERENCE: an image that can run something, of one layer.
busybox_image() {
  mkdir -p "$scratch/busybox"
  cp "$(command -v busybox)" "$scratch/busybox/"
  tar -C "$scratch/busybox" -czf "$scratch/busybox.tar.gz" .
  check "there is an image to build upon" crane append --insecure --oci-empty-base -t "$1" -f "$scratch/busybox.tar.gz"
  # BuildKit wants to know.
  check "it has a platform" crane mutate --insecure --set-platform "linux/$(dpkg --print-architecture)" -t "$1" "$1"
}

buildx_client() {
  local one two source
  version="buildx $(go_tool_version buildx)"
  one=$(repository_below one) two=$(repository_below two)
  for source in "$one" "$two"; do
    check "there is an image $source" crane append --insecure --oci-empty-base -t "$push/$source:v1" \
      -f "$layers/libraries.tar.gz" -f "$layers/text.tar.gz"
  done
  know="Copies blobs between repositories of one registry by way of this machine, though it could mount them."
  did "makes an index of two images" buildx imagetools create --tag "$push/$repository:v1" \
    "$push/$one:v1" "$push/$two:v1"
  did "inspects it" buildx imagetools inspect --raw "$pull/$repository:v1"
}

jib_client() {
  local upon
  version="jib-core $jib_version"
  head -c 3000000 /dev/urandom >"$scratch/jib.file"
  know="\`allowInsecureRegistries\` where there is no TLS."
  did "pushes a layer on nothing" jib scratch "$push/$repository:v1" "$scratch/jib.file" "$scratch/jib"
  equal_through_all "$repository" v1 "$(digest_shown)"
  know="Downloads each layer of the base even where it can mount it."
  upon=$(repository_below upon)
  did "pushes upon a base in another repository" jib "$push/$repository:v1" "$push/$upon:v1" \
    "$layers/text.tar.gz" "$scratch/jib-2"
  equal_through_all "$upon" v1 "$(digest_shown)"
}

# Java compiles it as it starts.
jib() { timeout 180 java -cp "$jib_dir/*" tests/clients/programs/jib/Push.java "$@"; }

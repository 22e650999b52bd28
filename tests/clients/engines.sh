# shellcheck shell=bash
# Clients that are daemons which run containers: Docker and containerd, old and new. Each starts its own, with nothing in
# it, and needs root. Sourced by tests/clients.sh; tests/lib/clients.sh says what is set.

docker_20_client() {
  docker_20_start
  version="docker $("$docker" version --format '{{.Server.Version}}, CLI {{.Client.Version}}')"
  docker_pushes_and_pulls "After an upload it asks for each blob by HEAD."
}

docker_29_client() {
  docker_29_start
  version="docker $(go_tool_version dockerd "$target/tools/docker-29"), CLI $("$docker" version --format '{{.Client.Version}}')"
  docker_pushes_and_pulls "Keeps images in containerd's store, whose client it is, too."
}

# Docker 20.10 knows no OCI layouts and pushes docker schema 2 whatever it pulled. So what must be equal is what it
# converts to: the digest it names for its push, and the image's ID, here and there.
# docker_pushes_and_pulls KNOW
docker_pushes_and_pulls() {
  local id digest again
  busybox_tar
  check "docker imports an image" "$docker" import "$scratch/busybox.tar" "$push/$repository:v1"
  id=$(docker_id "$push/$repository:v1")
  know="\`insecure-registries\` where there is no TLS. $1"
  did "pushes" "$docker" push "$push/$repository:v1"
  digest=$(docker_pushed)
  docker_forgets
  did "pulls" "$docker" pull "$pull/$repository:v1"
  docker_has "$pull/$repository:v1" "$id" "$digest"
  equal_through_all "$repository" v1 "$digest"

  check "there is an OCI image" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:oci"
  did "pulls an OCI image" "$docker" pull "$pull/$repository:oci"
  id=$(docker_id "$pull/$repository:oci")
  again=$(repository_below again)
  check "docker tags it" "$docker" tag "$pull/$repository:oci" "$push/$again:v1"
  did "pushes that again to another repository" "$docker" push "$push/$again:v1"
  digest=$(docker_pushed)
  docker_forgets
  did "pulls that" "$docker" pull "$pull/$again:v1"
  docker_has "$pull/$again:v1" "$id" "$digest"
  equal_through_all "$again" v1 "$digest"
  docker_stop
}

busybox_tar() {
  mkdir -p "$scratch/busybox"
  cp "$(command -v busybox)" "$scratch/busybox/"
  tar -C "$scratch/busybox" -cf "$scratch/busybox.tar" .
}

# The digest that a push named.
docker_pushed() { grep -o 'sha256:[0-9a-f]\{64\} size' <<<"$shown" | tail -n 1 | cut -d ' ' -f 1; }

# docker_has REFERENCE ID DIGEST: two checks, that it is the image of the push.
docker_has() {
  equal "its ID is that of the push" "$2" "$(docker_id "$1")"
  equal "its digest is that of the push" "${1%:*}@$3" "$(said "$docker" image inspect --format '{{index .RepoDigests 0}}' "$1")"
}

docker_id() { said "$docker" image inspect --format '{{.Id}}' "$1"; }

containerd_1_client() {
  version="containerd $(deb_version containerd)"
  containerd_start
  ctr_pushes_and_pulls ctr
}

containerd_2_client() {
  version="containerd $(go_tool_version containerd "$target/tools/containerd-2"), \`concurrent_layer_fetch_buffer = 4194304\`"
  containerd_2_start
  ctr_pushes_and_pulls "$target/tools/containerd-2/ctr" --local
}

# containerd_2_start: an empty one with its parallel fetch, which is off by default; its ctr asks it from now on.
containerd_2_start() {
  local home=$scratch/containerd-2 bin=$target/tools/containerd-2
  [ "$(id -u)" -eq 0 ] || die "containerd needs root"
  mkdir "$home"
  cat >"$home/containerd.toml" <<'END'
version = 3
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[plugins."io.containerd.transfer.v1.local"]
max_concurrent_downloads = 3
concurrent_layer_fetch_buffer = 4194304
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/amd64"
snapshotter = "native"
END
  export CONTAINERD_ADDRESS=$home/containerd.sock
  process_start "$logs/containerd-2.log" "$bin/containerd" --config "$home/containerd.toml" --root "$home/root" \
    --state "$home/run" --address "$CONTAINERD_ADDRESS"
  wait_for 60 "$started_pid" "$bin/ctr" version || die "containerd did not start"
}

# ctr_pushes_and_pulls CTR [IMPORT-OPTION]...
ctr_pushes_and_pulls() {
  local ctr=$1 digest name
  shift
  check "ctr imports an image" "$ctr" images import --all-platforms --snapshotter native "$@" "$image.tar"
  # ctr completes the archive's name with a host of its own.
  name=$(said "$ctr" images ls --quiet | head -n 1)
  digest=$(ctr_names "$ctr" "$name")
  know="\`--plain-http\` where there is no TLS, or a \`hosts.toml\`."
  did "pushes" "$ctr" images push --plain-http "$push/$repository:v1" "$name"
  # With nothing left here, all of it comes from the registry.
  check "ctr forgets it" "$ctr" images rm --sync "$name"
  [ "$client" = containerd-1 ] || know="Off by default. Asks for each piece of 4 MiB without an end and leaves after it."
  did "pulls" "$ctr" images pull --plain-http --snapshotter native "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" "$(ctr_names "$ctr" "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

# ctr_names CTR NAME: the digest of the image of that name.
ctr_names() { said "$1" images ls "name==$2" | grep -o 'sha256:[0-9a-f]\{64\}' || true; }

docker_20_login() { docker_login docker-20; }
docker_29_login() { docker_login docker-29; }

# docker_login CLIENT: a mesh that wants tokens, and a service that gives them for passwords; it is no row of the table.
docker_login() {
  client=$1-login
  logins_prepare
  mesh_start_with_tokens
  push=${members[0]} pull=${members[1]} owner=${members[2]}
  repository=$(repository_owned_by "$owner" "clients/$client")
  say "$1 gets tokens from $realm; $repository is $owner's"
  "${1//-/_}_start"
  [ -e "$scratch/busybox.tar" ] || busybox_tar
  check "$1 imports an image" "$docker" import "$scratch/busybox.tar" "$push/$repository:v1"
  refused "$1 can't push without a login" timeout 180 "$docker" push "$push/$repository:v1"
  refused "$1 can't log in with a wrong password" "$docker" login -u pusher -p wrong "$push"
  check "$1 logs in" "$docker" login -u pusher -p "$pusher_secret" "$push"
  check "$1 pushes" timeout 180 "$docker" push "$push/$repository:v1"
  check "$1 logs in at another member" "$docker" login -u reader -p "$reader_secret" "$pull"
  docker_forgets
  check "$1 pulls" timeout 180 "$docker" pull "$pull/$repository:v1"
  check "$1 tags it" "$docker" tag "$pull/$repository:v1" "$pull/$repository:v2"
  refused "$1 can't push as a reader" timeout 180 "$docker" push "$pull/$repository:v2"
  check "$1 logs out" "$docker" logout "$push"
  check "$1 logs out of the other, too" "$docker" logout "$pull"
  docker_stop
  mesh_stop
  token_service_stop
  say "  the tokens it got:"
  sed 's/^/    /' "$logs/tokens.log"
}

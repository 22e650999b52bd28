#!/usr/bin/env bash
# The clients that take long to install or need a daemon, shown rather than run each time: docker, containerd's ctr, regctl,
# helm and cosign push through one member of a mesh and pull through another; docker also logs in by a token service. What
# they print is printed. Docker and ctr start daemons of their own and need root.
#
# usage: tests/clients-extra.sh [docker|ctr|regctl|helm|cosign]...    all of them when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/logins.sh
. tests/lib/containerd.sh

clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(docker ctr regctl helm cosign)
for client in "${clients[@]}"; do
  case $client in docker | ctr | regctl | helm | cosign) ;; *) die "no such client: $client (see the head of $0)" ;; esac
done

# show COMMAND...: one check, that it succeeds; the command and what it prints are shown, and kept in $shown.
show() {
  local status=0
  printf '  $ %s\n' "$*"
  shown=$(timeout 180 "$@" 2>&1) || status=$?
  # Of progress bars, only where they ended.
  printf '%s\n' "$shown" | sed 's/\x1b\[[0-9;]*[A-Za-z]//g; s/.*\r//; s/^/    /' | tail -n 14
  if [ "$status" -eq 0 ]; then passed=$((passed + 1)); else fail "exit status $status"; fi
}

# Docker 20.10 knows no OCI layouts and pushes docker schema 2 whatever it pulled. So what must be equal is what it
# converts to: the digest it names for its push, and the image's ID (the digest of its configuration), here and there.
docker_client() {
  local id digest
  docker_start
  mkdir "$scratch/busybox"
  cp "$(command -v busybox)" "$scratch/busybox/"
  tar -C "$scratch/busybox" -cf "$scratch/busybox.tar" .
  show docker import "$scratch/busybox.tar" "$push/$repository:v1"
  id=$(docker_id "$push/$repository:v1")
  show docker push "$push/$repository:v1"
  digest=$(grep -o 'sha256:[0-9a-f]\{64\} size' <<<"$shown" | cut -d ' ' -f 1)
  docker_pulls "$pull/$repository:v1" "$id" "$digest"
  equal_through_all "$repository" v1 "$digest"

  say "  an OCI image, pulled by docker and pushed again"
  show skopeo copy --quiet --dest-tls-verify=false "oci:$image:v1" "docker://$push/$repository:oci"
  show docker pull --quiet "$pull/$repository:oci"
  id=$(docker_id "$pull/$repository:oci")
  equal "its ID is the digest of the OCI configuration" \
    "$(said skopeo inspect --tls-verify=false --raw "docker://$owner/$repository:oci" |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["config"]["digest"])')" "$id"
  show docker tag "$pull/$repository:oci" "$pull/$repository:converted"
  show docker push "$pull/$repository:converted"
  digest=$(grep -o 'sha256:[0-9a-f]\{64\} size' <<<"$shown" | cut -d ' ' -f 1)
  docker_pulls "$push/$repository:converted" "$id" "$digest"
  equal_through_all "$repository" converted "$digest"
}

# docker_pulls REFERENCE ID DIGEST: with nothing left here, so that all of it comes from the registry.
docker_pulls() {
  said docker system prune --all --force >>"$logs/clients.log"
  show docker pull "$1"
  equal "its ID is that of the push" "$2" "$(docker_id "$1")"
  equal "its digest is that of the push" "${1%:*}@$3" "$(said docker image inspect --format '{{index .RepoDigests 0}}' "$1")"
}

# A mesh that wants tokens, and a service that gives them for passwords.
docker_with_tokens() {
  logins_prepare
  mesh_start_with_tokens
  push=${members[0]} pull=${members[1]} owner=${members[2]}
  repository=$(repository_owned_by "$owner" clients/docker-tokens)
  say "docker gets tokens from $realm; $repository is $owner's"
  show docker import "$scratch/busybox.tar" "$push/$repository:v1"
  refused "docker can't push without a login" timeout 180 docker push "$push/$repository:v1"
  refused "docker can't log in with a wrong password" docker login -u pusher -p wrong "$push"
  check "docker logs in" docker login -u pusher -p "$pusher_secret" "$push"
  show docker push "$push/$repository:v1"
  check "docker logs in at another member" docker login -u reader -p "$reader_secret" "$pull"
  said docker system prune --all --force >>"$logs/clients.log"
  show docker pull "$pull/$repository:v1"
  show docker tag "$pull/$repository:v1" "$pull/$repository:v2"
  refused "docker can't push as a reader" timeout 180 docker push "$pull/$repository:v2"
  mesh_stop
  token_service_stop
  say "  the tokens it got:"
  sed 's/^/    /' "$logs/tokens.log"
}

docker_id() { said docker image inspect --format '{{.Id}}' "$1"; }

docker_start() {
  export DOCKER_HOST=unix://$scratch/docker.sock
  process_start "$logs/dockerd.log" dockerd --bridge=none --iptables=false --ip6tables=false \
    --data-root "$scratch/docker" --exec-root "$scratch/docker-run" --pidfile "$scratch/docker.pid" \
    --host "$DOCKER_HOST" --insecure-registry 127.0.0.0/8
  wait_for 60 "$started_pid" docker version || die "dockerd did not start"
}

ctr_client() {
  local digest name
  containerd_start
  show ctr images import --all-platforms --snapshotter native "$image.tar"
  # ctr completes the archive's name with a host of its own.
  name=$(said ctr images ls --quiet | head -n 1)
  digest=$(ctr_digest "$name")
  show ctr images push --plain-http "$push/$repository:v1" "$name"
  # With nothing left here, all of it comes from the registry.
  show ctr images rm --sync "$name"
  show ctr images pull --plain-http --snapshotter native "$pull/$repository:v1"
  equal "its digest is that of the push" "$digest" "$(ctr_digest "$pull/$repository:v1")"
  equal_through_all "$repository" v1 "$digest"
}

regctl_client() {
  local digest member
  digest=$(layout_digest "$image")
  for member in "${members[@]}"; do show regctl registry set --tls disabled "$member"; done
  show regctl image copy "ocidir://$image:v1" "$push/$repository:v1"
  show regctl image copy "$pull/$repository:v1" "ocidir://$scratch/regctl:v1"
  equal "its digest is that of the push" "$digest" "$(layout_digest "$scratch/regctl")"
  echo 'signed by nobody' >"$scratch/signature.txt"
  show regctl artifact put --artifact-type application/vnd.portolan.signature --subject "$pull/$repository:v1" \
    --file "$scratch/signature.txt"
  show regctl artifact list "$push/$repository:v1"
  check "regctl lists the artifact" grep -q application/vnd.portolan.signature <<<"$shown"
  show regctl tag ls "$owner/$repository"
  equal_through_all "$repository" v1 "$digest"
  show regctl tag rm "$push/$repository:v1"
  show regctl tag ls "$pull/$repository"
  check "the tag is gone for another member" test -z "$(grep -x v1 <<<"$shown")"
}

helm_client() {
  local chart=$scratch/chart-0.1.0.tgz
  show helm create "$scratch/chart"
  show helm package --destination "$scratch" "$scratch/chart"
  show helm push --plain-http "$chart" "oci://$push/$repository"
  mkdir "$scratch/helm"
  show helm pull --plain-http "oci://$pull/$repository/chart" --version 0.1.0 --destination "$scratch/helm"
  check "the chart is that of the push" cmp "$chart" "$scratch/helm/chart-0.1.0.tgz"
  show helm show chart --plain-http "oci://$owner/$repository/chart" --version 0.1.0
}

cosign_client() {
  local digest keys=$scratch/cosign
  export COSIGN_PASSWORD=
  digest=$(layout_digest "$image")
  show skopeo copy --quiet --preserve-digests --dest-tls-verify=false "oci:$image:v1" "docker://$push/$repository:v1"
  show cosign generate-key-pair --output-key-prefix "$keys"
  show cosign sign --yes --key "$keys.key" --tlog-upload=false --use-signing-config=false \
    --allow-insecure-registry --allow-http-registry "$push/$repository@$digest"
  show cosign verify --key "$keys.pub" --insecure-ignore-tlog=true \
    --allow-insecure-registry --allow-http-registry "$pull/$repository@$digest"
  show cosign tree --allow-insecure-registry --allow-http-registry "$owner/$repository@$digest"
}

if [[ " ${clients[*]} " == *" docker "* || " ${clients[*]} " == *" ctr "* ]]; then
  [ "$(id -u)" -eq 0 ] || die "dockerd and containerd need root; the others: $0 regctl helm cosign"
fi

report_begin clients-extra
need_clients_extra "${clients[@]}"
user_settings_none
mesh_start
push=${members[0]} pull=${members[1]} owner=${members[2]}
layers=$scratch/layers image=$scratch/image
mkdir "$layers"
image_layers "$layers"
image_layout "$layers" "$image"
for client in "${clients[@]}"; do
  repository=$(repository_owned_by "$owner" "clients/$client")
  say "$client pushes through $push and pulls through $pull; $repository is $owner's"
  "${client}_client"
done
mesh_stop
[[ " ${clients[*]} " != *" docker "* ]] || docker_with_tokens

#!/usr/bin/env bash
# Clients at a registry that is open in part and gives tokens of its own: each logs in with a wrong and with a right password, pulls
# without a login what is open, is refused what isn't, pulls that with a login, pushes, and is refused a push as a reader. podman and
# containerd log in by a workload's token in place of a password, too; a robot pushes, and the audit names it. A pull of twenty layers
# takes one password and one token. Everything enters by a member that owns none of it.
#
# usage: tests/logins.sh [CLIENT]...    skopeo podman crane oras helm cosign containerd docker-20 docker-29; all when none is named.
#                                       The last three start daemons, and need root
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/logins.sh
. tests/lib/containerd.sh
. tests/lib/docker.sh
. tests/clients/tools.sh

everyone=(skopeo podman crane oras helm cosign containerd docker-20 docker-29)
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=("${everyone[@]}")
for client in "${clients[@]}"; do
  [[ " ${everyone[*]} " == *" $client "* ]] || { echo "no such client: $client (see the head of $0)" >&2 && exit 2; }
done

# home NAME: the client keeps its logins there from now on, and has none.
home() {
  mkdir -p "$scratch/home-$1"
  echo '{}' >"$scratch/home-$1/config.json"
  export DOCKER_CONFIG=$scratch/home-$1 REGISTRY_AUTH_FILE=$scratch/home-$1/config.json HOME=$scratch/home-$1
  export XDG_RUNTIME_DIR=$HOME XDG_CONFIG_HOME=$HOME HELM_REGISTRY_CONFIG=$HOME/config.json
}

# repositories PREFIX: $open and $closed, each with an image, and owned by another member than the one that is asked.
repositories() {
  open=$(repository_owned_by "$owner" "public/$1") closed=$(repository_owned_by "$owner" "team/$1")
  for repository in "$open" "$closed"; do
    check "skopeo fills $repository" timeout 180 skopeo copy --preserve-digests --dest-tls-verify=false \
      --dest-creds "pusher:$pusher_secret" "oci:$image:v1" "docker://$owner/$repository:v1"
  done
}

skopeo_logs_in() {
  local from=(timeout 180 skopeo inspect --tls-verify=false)
  refused "skopeo can't log in with a wrong password" timeout 60 skopeo login --tls-verify=false -u reader -p wrong "$at"
  check "skopeo pulls what is open" "${from[@]}" "docker://$at/$open:v1"
  refused "and not what isn't" "${from[@]}" "docker://$at/$closed:v1"
  check "skopeo logs in" timeout 60 skopeo login --tls-verify=false -u reader -p "$reader_secret" "$at"
  check "and pulls it" "${from[@]}" "docker://$at/$closed:v1"
  refused "and can't push, as a reader" timeout 180 skopeo copy --dest-tls-verify=false "oci:$image:v1" "docker://$at/$closed:v2"
  check "skopeo logs in as who may" timeout 60 skopeo login --tls-verify=false -u pusher -p "$pusher_secret" "$at"
  check "and pushes" timeout 180 skopeo copy --dest-tls-verify=false "oci:$image:v1" "docker://$at/$closed:v2"
}

podman_kept() { timeout 180 podman --root "$scratch/podman" --runroot "$scratch/podman-run" --storage-driver vfs "$@"; }

podman_logs_in() {
  local id
  id=$(said podman_kept pull --quiet "docker-archive:$image.tar")
  refused "podman can't log in with a wrong password" podman_kept login --tls-verify=false -u reader -p wrong "$at"
  check "podman pulls what is open" podman_kept pull --tls-verify=false "$at/$open:v1"
  refused "and not what isn't" podman_kept pull --tls-verify=false "$at/$closed:v1"
  check "podman logs in" podman_kept login --tls-verify=false -u reader -p "$reader_secret" "$at"
  check "and pulls it" podman_kept pull --tls-verify=false "$at/$closed:v1"
  refused "and can't push, as a reader" podman_kept push --tls-verify=false "$id" "docker://$at/$closed:v2"
  check "podman logs in as who may" podman_kept login --tls-verify=false -u pusher -p "$pusher_secret" "$at"
  check "and pushes" podman_kept push --tls-verify=false "$id" "docker://$at/$closed:v2"

  home podman-workload
  refused "podman can't log in by a workload's token for elsewhere" \
    podman_kept login --tls-verify=false -u job -p "$(workload elsewhere)" "$at"
  check "podman logs in by a workload's token" podman_kept login --tls-verify=false -u job -p "$(workload registry.tests)" "$at"
  check "and pulls" podman_kept pull --tls-verify=false "$at/$closed:v1"
  check "and pushes" podman_kept push --tls-verify=false "$id" "docker://$at/$closed:by-job"

  home podman-robot
  check "podman logs in as a robot" podman_kept login --tls-verify=false -u robot+farm -p "$robot_key" "$at"
  check "and pushes" podman_kept push --tls-verify=false "$id" "docker://$at/$closed:by-robot"
  check "the audit names the robot" grep -q '"user":"robot+farm".*"action":"manifest_put".*"outcome":"done"' "$logs/audit.log"
}

crane_logs_in() {
  local crane=(timeout 180 crane)
  check "crane is told a wrong password, which it takes as it is" "${crane[@]}" auth login --insecure -u reader -p wrong "$at"
  refused "and can't pull with it" "${crane[@]}" manifest --insecure "$at/$closed:v1"
  check "crane forgets it" "${crane[@]}" auth logout "$at"
  check "crane pulls what is open" "${crane[@]}" pull --insecure "$at/$open:v1" "$scratch/crane.tar"
  refused "and not what isn't" "${crane[@]}" pull --insecure "$at/$closed:v1" "$scratch/crane.tar"
  check "crane is told the right one" "${crane[@]}" auth login --insecure -u reader -p "$reader_secret" "$at"
  check "and pulls it" "${crane[@]}" pull --insecure "$at/$closed:v1" "$scratch/crane.tar"
  refused "and can't push, as a reader" "${crane[@]}" push --insecure "$scratch/crane.tar" "$at/$closed:v2"
  check "crane is told the password of who may" "${crane[@]}" auth login --insecure -u pusher -p "$pusher_secret" "$at"
  check "and pushes" "${crane[@]}" push --insecure "$scratch/crane.tar" "$at/$closed:v2"
}

oras_logs_in() {
  local file=layers/text.tar.gz:application/gzip
  cd "$scratch"
  refused "oras can't log in with a wrong password" timeout 60 oras login --plain-http -u reader -p wrong "$at"
  check "oras pulls what is open" timeout 180 oras pull --plain-http -o "$scratch/oras" "$at/$open:v1"
  refused "and not what isn't" timeout 180 oras pull --plain-http -o "$scratch/oras" "$at/$closed:v1"
  check "oras logs in" timeout 60 oras login --plain-http -u reader -p "$reader_secret" "$at"
  check "and pulls it" timeout 180 oras pull --plain-http -o "$scratch/oras" "$at/$closed:v1"
  refused "and can't push, as a reader" timeout 180 oras push --plain-http --no-tty --artifact-type application/x-text "$at/$closed:v2" "$file"
  check "oras logs in as who may" timeout 60 oras login --plain-http -u pusher -p "$pusher_secret" "$at"
  check "and pushes" timeout 180 oras push --plain-http --no-tty --artifact-type application/x-text "$at/$closed:v2" "$file"
  cd - >/dev/null
}

helm_logs_in() {
  local helm=(timeout 180 "$tools_bin/helm4") chart=$scratch/chart-0.1.0.tgz
  check "helm makes a chart" "${helm[@]}" create "$scratch/chart"
  check "helm packages it" "${helm[@]}" package --destination "$scratch" "$scratch/chart"
  refused "helm can't log in with a wrong password" "${helm[@]}" registry login --plain-http -u reader -p wrong "$at"
  refused "helm can't push without a login" "${helm[@]}" push --plain-http "$chart" "oci://$at/$closed"
  check "helm logs in as who may" "${helm[@]}" registry login --plain-http -u pusher -p "$pusher_secret" "$at"
  check "and pushes" "${helm[@]}" push --plain-http "$chart" "oci://$at/$closed"
  check "also to what is open" "${helm[@]}" push --plain-http "$chart" "oci://$at/$open"
  check "helm logs out" "${helm[@]}" registry logout "$at"
  check "and pulls what is open" "${helm[@]}" pull --plain-http --destination "$scratch" "oci://$at/$open/chart" --version 0.1.0
  refused "and not what isn't" "${helm[@]}" pull --plain-http --destination "$scratch" "oci://$at/$closed/chart" --version 0.1.0
  check "helm logs in" "${helm[@]}" registry login --plain-http -u reader -p "$reader_secret" "$at"
  check "and pulls it" "${helm[@]}" pull --plain-http --destination "$scratch" "oci://$at/$closed/chart" --version 0.1.0
  refused "and can't push, as a reader" "${helm[@]}" push --plain-http "$chart" "oci://$at/$closed"
}

cosign() { timeout 180 "$tools_bin/cosign3" "$@"; }

# cosign_signs REPOSITORY, cosign_verifies REPOSITORY: the image in it.
cosign_signs() {
  cosign sign --yes --key "$scratch/cosign.key" --signing-config="$scratch/signing.json" --allow-insecure-registry \
    --allow-http-registry "$at/$1@$(layout_digest "$image")"
}

cosign_verifies() {
  cosign verify --key "$scratch/cosign.pub" --insecure-ignore-tlog=true --allow-insecure-registry --allow-http-registry \
    "$at/$1@$(layout_digest "$image")"
}

cosign_logs_in() {
  export COSIGN_PASSWORD='' SIGSTORE_NO_CACHE=true
  check "cosign makes keys" cosign generate-key-pair --output-key-prefix "$scratch/cosign"
  check "and a signing configuration" cosign signing-config create --out "$scratch/signing.json"
  refused "cosign can't sign without a login" cosign_signs "$closed"
  check "cosign is told a wrong password, which it takes as it is" cosign login -u reader -p wrong "$at"
  refused "and can't verify with it" cosign_verifies "$closed"
  check "cosign is told the right one" cosign login -u pusher -p "$pusher_secret" "$at"
  check "and signs" cosign_signs "$closed"
  check "also what is open" cosign_signs "$open"
  home cosign-reader
  check "cosign verifies what is open" cosign_verifies "$open"
  refused "and not what isn't" cosign_verifies "$closed"
  check "cosign is told a reader's password" cosign login -u reader -p "$reader_secret" "$at"
  check "and verifies it" cosign_verifies "$closed"
  refused "and can't sign" cosign_signs "$closed"
}

ctr_pulls() { timeout 180 ctr images pull --plain-http --snapshotter native "$@"; }

containerd_logs_in() {
  local name job
  containerd_start
  refused "containerd can't pull with a wrong password" ctr_pulls -u reader:wrong "$at/$closed:v1"
  check "containerd pulls what is open" ctr_pulls "$at/$open:v1"
  refused "and not what isn't" ctr_pulls "$at/$closed:v1"
  check "but as a reader" ctr_pulls -u "reader:$reader_secret" "$at/$closed:v1"
  name=$at/$closed:v1
  refused "and can't push, as one" timeout 180 ctr images push --plain-http -u "reader:$reader_secret" "$at/$closed:v2" "$name"
  check "containerd pushes as who may" timeout 180 ctr images push --plain-http -u "pusher:$pusher_secret" "$at/$closed:v2" "$name"
  job=$(workload registry.tests)
  check "containerd pulls by a workload's token" ctr_pulls -u "job:$job" "$at/$closed:v2"
  check "and pushes" timeout 180 ctr images push --plain-http -u "job:$job" "$at/$closed:by-ctr" "$name"
  refused "and does neither by one for elsewhere" ctr_pulls -u "job:$(workload elsewhere)" "$at/$closed:v2"
}

docker_20_logs_in() {
  docker_20_start
  docker_logs_in
}

# With its classic store; what it has by default is containerd's.
docker_29_logs_in() {
  docker_settings='{"features": {"containerd-snapshotter": false}}' docker_29_start
  docker_logs_in
}

docker_logs_in() {
  refused "$client can't log in with a wrong password" "$docker" login -u reader -p wrong "$at"
  check "$client pulls what is open" timeout 180 "$docker" pull "$at/$open:v1"
  refused "and not what isn't" timeout 180 "$docker" pull "$at/$closed:v1"
  check "$client logs in" "$docker" login -u reader -p "$reader_secret" "$at"
  check "and pulls it" timeout 180 "$docker" pull "$at/$closed:v1"
  check "$client tags it" "$docker" tag "$at/$closed:v1" "$at/$closed:v2"
  refused "and can't push, as a reader" timeout 180 "$docker" push "$at/$closed:v2"
  check "$client logs in as who may" "$docker" login -u pusher -p "$pusher_secret" "$at"
  check "and pushes" timeout 180 "$docker" push "$at/$closed:v2"
  check "$client logs out" "$docker" logout "$at"
  docker_forgets
  check "and pulls what is open" timeout 180 "$docker" pull "$at/$open:v1"
  refused "and not what isn't" timeout 180 "$docker" pull "$at/$closed:v1"
  docker_stop
}

# Twenty layers, and what it takes to pull them by a password: the log says by which route each request came.
twenty_layers() {
  local n files=() begin counts
  for n in $(seq 20); do
    head -c "$((10000 + n))" /dev/urandom >"$scratch/layers/$n"
    tar -C "$scratch/layers" -czf "$scratch/layers/$n.tar.gz" "$n"
    files+=(-f "$scratch/layers/$n.tar.gz")
  done
  check "crane makes an image of twenty layers" crane append --oci-empty-base -t "$closed" "${files[@]}" -o "$scratch/twenty.tar"
  check "skopeo pushes it" timeout 180 skopeo copy --dest-tls-verify=false --dest-creds "pusher:$pusher_secret" \
    "docker-archive:$scratch/twenty.tar" "docker://$at/$closed:twenty"
  begin=$(stat -c %s "$logs/mesh.log")
  check "skopeo pulls it by a password" timeout 180 skopeo copy --src-tls-verify=false --src-creds "reader:$reader_secret" \
    "docker://$at/$closed:twenty" "dir:$scratch/twenty"
  sleep 1 # the last line of the log
  counts=$(tail -c "+$((begin + 1))" "$logs/mesh.log" | python3 -c '
import collections, json, sys
lines = (json.loads(line) for line in sys.stdin if line.startswith("{"))
counts = collections.Counter(line["route"] for line in lines if line.get("message") == "request")
print(counts["token"], counts["blob_get"])')
  equal "which takes one token, for which the password is compared once, and a request for each layer and the configuration" "1 21" "$counts"
}

report_begin logins
need_logins
need_clients_extra helm-4 cosign-3 "${clients[@]}"
user_settings_none
logins_prepare
mkdir "$scratch/layers"
image=$scratch/image
image_layers "$scratch/layers"
image_layout "$scratch/layers" "$image"
mesh_start_open_in_part
owner=${members[2]} at=${members[0]}
robot_key=$(ask -u "pusher:$pusher_secret" -d '{"label": "farm", "groups": ["machines"]}' "http://$at/zot/auth/apikey?robot=farm" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["apiKey"])')
check "the audit names who made a robot's key" grep -q '"user":"pusher".*"action":"api_key_create".* of robot+farm"' "$logs/audit.log"
for client in "${clients[@]}"; do
  say "$client"
  home "$client"
  repositories "logins/$client"
  "${client//-/_}_logs_in"
done
twenty_layers
diagnose 127.0.0.1 Counters >"$logs/diagnostics.json"
mesh_stop
no_secrets_in_logs "$robot_key"

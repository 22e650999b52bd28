#!/usr/bin/env bash
# What real clients do at a member that has no room for them. Each pushes and pulls through a relay to one member, whose places for
# requests are all taken for 25 s, longer than it lets a request wait, when the client comes to one moment of that: the start of
# an upload, its content, the manifest's push, the manifest's read, a layer's. What it is told then, and whether it tries again
# by itself and succeeds or gives up, is what docs/overload.md says of it. Where the places are taken for 5 s only, nobody is
# refused.
#
# usage: tests/overload.sh [CLIENT]...    all of them when none is named
#   skopeo podman crane oras regctl
#   docker-20 docker-29 containerd-1 containerd-2   start daemons of their own, and need root
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/containerd.sh
. tests/lib/clients.sh
. tests/clients/tools.sh
. tests/clients/images.sh
. tests/clients/engines.sh

everyone=(skopeo podman crane oras regctl docker-20 docker-29 containerd-1 containerd-2)
moments=(start body manifest read layer)
document=docs/overload.md
# What the sourced files want of those who log in or make tables, which nobody does here.
layers='' rows=/dev/null realm='' pusher_secret='' reader_secret=''
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=("${everyone[@]}")
for client in "${clients[@]}"; do
  [[ " ${everyone[*]} " == *" $client "* ]] || { echo "no such client: $client (see the head of $0)" >&2 && exit 2; }
done

# Of each client: NAME_begin, what it needs once; NAME_push REFERENCE, of the image in $image; NAME_pull REFERENCE, with nothing of
# it there yet.

within() { timeout 240 "$@"; }

skopeo_begin() { :; }
skopeo_push() { within skopeo copy --dest-tls-verify=false "oci:$image:v1" "docker://$1"; }
skopeo_pull() { within skopeo copy --src-tls-verify=false "docker://$1" "oci:$image-skopeo:v1"; }

podman_begin() { :; }
podman_push() {
  local id
  id=$(stored podman pushing pull --quiet "docker-archive:$image.tar") &&
    stored podman pushing push --tls-verify=false "$id" "docker://$1"
}
podman_pull() { stored podman pulling pull --tls-verify=false "$1"; }

crane_begin() { :; }
crane_push() { within crane push --insecure "$image.tar" "$1"; }
crane_pull() { within crane pull --insecure "$1" "$image-crane.tar"; }

oras_begin() { :; }
oras_push() { within oras cp --no-tty --from-oci-layout --to-plain-http "$image:v1" "$1"; }
oras_pull() { within oras cp --no-tty --from-plain-http --to-oci-layout "$1" "$image-oras:v1"; }

regctl_begin() { regctl registry set --skip-check --tls disabled "$door"; }
regctl_push() { within regctl image copy "ocidir://$image:v1" "$1"; }
regctl_pull() { within regctl image copy "$1" "ocidir://$image-regctl:v1"; }

docker_20_begin() { docker_20_start; }
docker_29_begin() { docker_29_start; }
docker_20_push() { "$docker" import "$layer" "$1" && within "$docker" push "$1"; }
docker_29_push() { docker_20_push "$@"; }
docker_20_pull() { "$docker" system prune --all --force && within "$docker" pull "$1"; }
docker_29_pull() { docker_20_pull "$@"; }

containerd_1_begin() { containerd_start && ctr=ctr && importing=(); }
containerd_2_begin() { containerd_2_start && ctr=$target/tools/containerd-2/ctr && importing=(--local); }
containerd_1_push() {
  local name
  "$ctr" images import --all-platforms --snapshotter native "${importing[@]}" "$image.tar" &&
    name=$("$ctr" images ls --quiet | grep /portolan/image) &&
    "$ctr" images tag --force "$name" "$1" && within "$ctr" images push --plain-http "$1"
}
containerd_2_push() { containerd_1_push "$@"; }
containerd_1_pull() { within "$ctr" images pull --plain-http --snapshotter native "$1"; }
containerd_2_pull() { containerd_1_pull "$@"; }

# image_new NAME: an image that no registry has a part of, so that all of it has to be sent: $layer, $image and $image.tar.
image_new() {
  image=$scratch/images/$1 layer=$scratch/images/$1.layer.tar
  mkdir -p "$scratch/images/content"
  head -c 6000000 /dev/urandom >"$scratch/images/content/$1"
  tar -C "$scratch/images/content" -cf "$layer" "$1"
  crane append --oci-empty-base -t portolan/image -f "$layer" -o "$image.tar" 2>>"$logs/clients.log"
  skopeo copy --quiet "docker-archive:$image.tar" "oci:$image:v1"
}

# said_of MOMENT: what the document's row of the client says, such as "503, again".
said_of() {
  local column
  for column in "${!moments[@]}"; do
    [ "${moments[column]}" != "$1" ] ||
      awk -F ' *[|] *' -v client="$client" -v column=$((column + 3)) '$2 == client { print $column }' "$document"
  done
}

# full_for SECONDS MOMENT: what the client does, in $did, and what it was told at that moment, in $told: a status, or nothing
# when it was never refused.
full_for() {
  local log=$logs/$client-$2-$1.requests way=push relay repository status=0
  repository=$(repository_owned_by "$owner" "overload/$client-$2-$1")
  image_new "$client-$2-$1"
  case $2 in
    read | layer)
      way=pull
      skopeo copy --quiet --dest-tls-verify=false "oci:$image:v1" "docker://$push/$repository:v1"
      ;;
  esac
  process_start "$log" python3 tests/lib/full.py "$door" "$push" "$1" "$2"
  relay=$started_pid
  wait_for 20 "$relay" ask "http://$door/livez" || die "the relay did not start"
  {
    echo "\$ $client $way $door/$repository:v1"
    "${client//-/_}_$way" "$door/$repository:v1"
  } >>"$logs/clients.log" 2>&1 || status=$?
  process_stop "$relay" || true
  grep -qx full "$log" || fail "$client: the member was never full at $2"
  if [ "$status" -eq 0 ]; then did=again; else did="gives up"; fi
  told=$(awk '$NF == 429 || $NF == 503 { print $NF }' "$log" | sort -u | paste -sd ' ')
  say "          $client, $2: $(grep -E '^[A-Z]+ .* [0-9]+$' "$log" | uniq -c | awk '{ printf "%s%s %s %s", sep, $2, $3, $4; if ($1 > 1) printf " x%s", $1; sep = ", " }')"
  # Who took all places is gone before the next one asks.
  wait_for 60 "$mesh_pid" ask "http://$push/readyz" || die "the member is not ready again"
}

report_begin overload
need_clients
need_clients_extra "${clients[@]}"
user_settings_none
mesh_start
push=${members[0]} owner=${members[2]} door=127.0.0.9:$port
for client in "${clients[@]}"; do
  say "$client through $push, which becomes full"
  "${client//-/_}_begin" >>"$logs/clients.log" 2>&1
  for moment in "${moments[@]}"; do
    full_for 25 "$moment"
    equal "$client at $moment, as $document says" "$(said_of "$moment")" "${told:-not refused}, $did"
  done
  full_for 5 layer
  equal "$client waits where there is room in time" ", again" "$told, $did"
done
mesh_stop

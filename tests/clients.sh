#!/usr/bin/env bash
# Real clients against a mesh of three members: each pushes through one member and pulls through another, and what arrives
# has the digest of what was sent. Every repository is owned by the third member, so that all of it is forwarded; the
# members' log says whether it was. With --table, what each did and what the mesh saw of it goes into docs/clients.md.
#
# usage: tests/clients.sh [--table] [CLIENT]...    the first five when none is named; `all` is everyone
#   crane skopeo podman buildah oras   take seconds
#   regctl regsync helm-3 helm-4 cosign-2 cosign-3 distribution stargz jib ollama buildx
#   docker-20 docker-29 containerd-1 containerd-2 podman-partial buildkit   start daemons or mount, and need root
#   docker-20-login docker-29-login   against a mesh that wants tokens; no row of the table
# What they take is installed or built, which for some takes minutes: Docker, cosign and BuildKit most.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/logins.sh
. tests/lib/containerd.sh
. tests/lib/docker.sh
. tests/lib/clients.sh
. tests/clients/tools.sh
. tests/clients/images.sh
. tests/clients/artifacts.sh
. tests/clients/builders.sh
. tests/clients/partial.sh
. tests/clients/engines.sh

quick=(crane skopeo podman buildah oras)
everyone=("${quick[@]}" regctl regsync helm-3 helm-4 cosign-2 cosign-3 docker-20 docker-29 containerd-1 containerd-2
  podman-partial stargz buildkit buildx jib ollama distribution)

table=false
[ "${1:-}" != --table ] || { table=true && shift; }
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=("${quick[@]}")
with_tokens=(docker-20-login docker-29-login)
[ "${clients[*]}" != all ] || clients=("${everyone[@]}" "${with_tokens[@]}")
for client in "${clients[@]}"; do
  [[ " ${everyone[*]} ${with_tokens[*]} " == *" $client "* ]] || { echo "no such client: $client (see the head of $0)" >&2 && exit 2; }
done

report_begin clients
need_clients
need_clients_extra "${clients[@]}"
user_settings_none
mesh_start
push=${members[0]} pull=${members[1]} owner=${members[2]}
layers=$scratch/layers image=$scratch/image rows=$scratch/rows.tsv
mkdir "$layers"
image_layers "$layers"
image_layout "$layers" "$image"
say "image: $(du -sh "$image/blobs" | cut -f 1) in three layers"
for client in "${clients[@]}"; do
  [[ $client == *-login ]] || client_run "$client"
done
mesh_stop
for client in "${clients[@]}"; do
  [[ $client != *-login ]] || "${client//-/_}"
done
[ "$table" = false ] || [ ! -s "$rows" ] || table_write "${everyone[@]}"

#!/usr/bin/env bash
# A mesh of three members as a mirror of docker-registry, by real clients: each pulls through a member that doesn't own the
# repository what only upstream has, and gets its digest; the second pull asks upstream for no content; with upstream stopped, what
# is here still pulls. crane and oras do the same with another Portolan as upstream, whose repositories are below second/ here. What
# docker-registry has below ahead/ is mirrored before anybody asks for it, with its signature, and only the tags that the rule names.
# What changes below carried/ here changes in a second docker-registry, also when that was down meanwhile.
#
# usage: tests/mirror.sh [CLIENT]...    the first three when none is named; `all` is everyone
#   crane oras podman     podman by a mirror in registries.conf
#   containerd docker     by hosts.toml (so with ?ns=), by registry-mirrors; start daemons, and need root
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/containerd.sh

quick=(crane oras podman)
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=("${quick[@]}")
[ "${clients[*]}" != all ] || clients=("${quick[@]}" containerd docker)

crane() { timeout 180 crane "$@"; }
oras() { timeout 180 oras "$@"; }

# registry_start NAME ADDRESS: docker-registry, over a folder of that name, ready when it returns. Its process is $started_pid.
registry_start() {
  mkdir -p "$scratch/$1"
  cat >"$scratch/$1.yaml" <<END
version: 0.1
log: { accesslog: { disabled: false } }
storage: { filesystem: { rootdirectory: $scratch/$1 }, delete: { enabled: true } }
http: { addr: $2 }
END
  # skopeo's and podman's variable would be a key of docker-registry's configuration.
  process_start "$logs/$1.log" env -u REGISTRY_AUTH_FILE docker-registry serve "$scratch/$1.yaml"
  wait_for 60 "$started_pid" ask "http://$2/v2/" || die "docker-registry did not start"
}

# What docker and containerd call Docker Hub here is docker-registry: its name is in nobody's requests but theirs.
upstream_start() {
  upstream=127.0.0.1:$(free_port)
  registry_start upstream "$upstream"
  upstream_pid=$started_pid
}

target_start() {
  registry_start target "$target_registry"
  target_pid=$started_pid
}

# content_asked: the manifests and blobs that both have given so far.
content_asked() {
  local first
  first=$(grep -c '"GET /v2/[^ ]*/\(manifests\|blobs\)/' "$logs/upstream.log" || true)
  echo $((first + $(asked_of "$second" '(manifest|blob)_get')))
}

mirror_start() {
  cat >"$scratch/mirror.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "extensions": { "sync": { "registries": [
    { "urls": ["http://$second"], "onDemand": true, "content": [{ "prefix": "**", "destination": "/second" }] },
    { "urls": ["http://$upstream"], "onDemand": true, "content": [{ "prefix": "mirrored/**" }] },
    { "urls": ["http://$upstream"], "pollInterval": "5s", "content": [{ "prefix": "ahead/*", "tags": { "semver": true } }] }
  ] }, "replicate": { "registries": [
    { "urls": ["http://$target_registry"], "content": [{ "prefix": "carried/**" }] }
  ] } }
}
JSON
  mesh_options=(--config "$scratch/mirror.json")
  mesh_start
}

# pulled CLIENT: the digest that it pulls, with nothing kept from before.
pulled() { "pulled_by_$1" "$(below "$1")" || true; }

# tried CLIENT UPSTREAM: pulls twice, the second time without upstream.
tried() {
  asked=$(content_asked)
  # In this shell: a daemon that it starts stays.
  pulled "$1" >"$scratch/digest" 2>>"$logs/clients.log"
  equal "$1 pulls through the mirror what $2 has" "$digest" "$(cat "$scratch/digest")"
  check "which gave it" test "$(content_asked)" -gt "$asked"
  asked=$(content_asked)
  pulled "$1" >"$scratch/digest" 2>>"$logs/clients.log"
  equal "$1 pulls it again" "$digest" "$(cat "$scratch/digest")"
  equal "and upstream is asked for nothing" "$asked" "$(content_asked)"
}

# stays CLIENT
stays() {
  pulled "$1" >"$scratch/digest" 2>>"$logs/clients.log"
  equal "$1 pulls it while upstream is down" "$digest" "$(cat "$scratch/digest")"
}

# there REPOSITORY DIGEST: whether every member names the digest as v1.
there() {
  local member
  for member in "${members[@]}"; do [ "$(served_digest "$member" "$1" v1)" = "$2" ] || return 1; done
}

# ahead: docker-registry has no API of referrers, so what oras attaches stands under the specification's tag there.
ahead() {
  local name moved
  for name in one two; do
    check "upstream has ahead/$name" crane copy --insecure "$upstream/$(below crane):v1" "$upstream/ahead/$name:v1"
    check "and a tag that isn't mirrored" crane tag --insecure "$upstream/ahead/$name:v1" latest
  done
  echo signed >"$scratch/signature"
  check "it is signed" oras attach --plain-http --disable-path-validation --artifact-type application/vnd.example.signature \
    "$upstream/ahead/one:v1" "$scratch/signature:text/plain"
  for name in one two; do
    wait_for 120 $$ there "ahead/$name" "$digest" || true
    equal_through_all "ahead/$name" v1 "$digest"
    check "latest of ahead/$name isn't mirrored" test -z "$(served_digest "${members[0]}" "ahead/$name" latest)"
  done
  signature=$(said oras discover --plain-http --format json "$upstream/ahead/one:v1" | artifact_digest)
  check "its signature is listed there" test -n "$signature"
  wait_for 120 $$ signed || true
  equal "and here" "$signature" "$(said oras discover --plain-http --format json "${members[0]}/ahead/one:v1" | artifact_digest)"
  moved=$(crane_moved)
  wait_for 120 $$ there ahead/two "$moved" || true
  equal_through_all ahead/two v1 "$moved"
}

# carried: what is pushed, tagged again, moved and deleted through different members is so in the other registry in the end.
carried() {
  local name names=(carried/one carried/deep/two)
  for name in "${names[@]}"; do
    check "$name is pushed" skopeo copy --quiet --dest-tls-verify=false "oci:$image:v1" "docker://${members[0]}/$name:v1"
    check "and tagged again" crane tag --insecure "${members[1]}/$name:v1" stable
    wait_for 60 $$ is_carried "$name" stable "$digest" || true
    equal "the other registry has $name:stable" "$digest" "$(crane_digest "$target_registry/$name:stable")"
  done
  process_stop "$target_pid" || true
  for name in "${names[@]}"; do
    check "while it is down v1 of $name moves" crane mutate --insecure --label "moved=$name" --tag "${members[2]}/$name:v1" "${members[2]}/$name:v1"
    check "is tagged again" crane tag --insecure "${members[0]}/$name:v1" v2
  done
  check "and what carried/one:stable names is deleted" crane delete --insecure "${members[1]}/carried/one@$digest"
  equal "then changes wait" no "$(nothing_waits && echo yes || echo no)"
  target_start
  check "it is back, and tried at once" "$portolan" sync retry --server "http://${members[2]}"
  wait_for 120 $$ nothing_waits || true
  check "nothing waits" nothing_waits
  for name in "${names[@]}"; do
    equal "the tags of $name are the same here and there" "$(tags_at "${members[0]}/$name")" "$(tags_at "$target_registry/$name")"
  done
  equal "carried/one has lost a tag" "v1 v2" "$(tags_at "$target_registry/carried/one" | sed 's/@[^ ]*//g')"
  check "all of carried/deep/two is there" crane validate --insecure --remote "$target_registry/carried/deep/two:v2"
}

crane_digest() { said crane digest --insecure "$1"; }

is_carried() { [ "$(crane_digest "$target_registry/$1:$2")" = "$3" ]; }

# tags_at REPOSITORY: each tag with the digest that it names, in a line.
tags_at() {
  local tag tags=()
  for tag in $(said crane ls --insecure "$1" | sort); do tags+=("$tag@$(crane_digest "$1:$tag")"); done
  echo "${tags[*]}"
}

# nothing_waits: by what any member says of replication. The command's status says how the mirror's rules go, too.
nothing_waits() {
  { "$portolan" sync status --json --server "http://${members[1]}" || true; } | python3 -c '
import json, sys
[registry] = json.load(sys.stdin)["registries"]
sys.exit(registry["waitingSince"] is not None or registry["behind"] != 0)'
}

signed() { [ "$(said oras discover --plain-http --format json "${members[0]}/ahead/one:v1" | artifact_digest)" = "$signature" ]; }

artifact_digest() {
  python3 -c 'import json, sys; found = json.load(sys.stdin); print((found.get("referrers") or found.get("manifests"))[0]["digest"])'
}

# crane_moved: the digest of what ahead/two:v1 names upstream from now on.
crane_moved() {
  said crane mutate --insecure --label moved=yes --tag "$upstream/ahead/two:v1" "$upstream/ahead/two:v1" >/dev/null
  said crane digest --insecure "$upstream/ahead/two:v1"
}

# Of another member, so that the pull is forwarded.
below() { cat "$scratch/$1.repository"; }

pulled_by_crane() {
  rm -rf "$scratch/layout"
  crane pull --insecure --format oci "${members[0]}/$1:v1" "$scratch/layout" >&2 && layout_digest "$scratch/layout"
}

pulled_by_oras() {
  rm -rf "$scratch/layout"
  oras copy --from-plain-http --to-oci-layout "${members[0]}/$1:v1" "$scratch/layout:v1" >&2 && layout_digest "$scratch/layout"
}

pulled_by_podman() {
  mkdir -p "$scratch/podman"
  cat >"$scratch/registries.conf" <<END
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "${members[0]}"
insecure = true
END
  local podman=(timeout 180 podman --root "$scratch/podman/root" --runroot "$scratch/podman/run" --storage-driver vfs)
  "${podman[@]}" rmi --all --force >&2 || true
  CONTAINERS_REGISTRIES_CONF=$scratch/registries.conf "${podman[@]}" pull "docker.io/$1:v1" >&2
  "${podman[@]}" image inspect --format '{{.Digest}}' "docker.io/$1:v1"
}

pulled_by_containerd() {
  mkdir -p "$scratch/hosts/docker.io"
  cat >"$scratch/hosts/docker.io/hosts.toml" <<END
server = "https://registry-1.docker.io"

[host."http://${members[0]}"]
  capabilities = ["pull", "resolve"]
END
  [ -n "${CONTAINERD_ADDRESS:-}" ] || containerd_start
  namespaces=$((${namespaces:-0} + 1))
  timeout 180 ctr --namespace "pull-$namespaces" images pull --hosts-dir "$scratch/hosts" "docker.io/$1:v1" >&2
  ctr_digest "docker.io/$1:v1" --namespace "pull-$namespaces"
}

pulled_by_docker() {
  if [ -z "${docker_pid:-}" ]; then
    mkdir -p "$scratch/docker"
    echo "{ \"registry-mirrors\": [\"http://${members[0]}\"] }" >"$scratch/docker/daemon.json"
    export DOCKER_HOST=unix://$scratch/docker/docker.sock
    process_start "$logs/docker.log" /usr/sbin/dockerd --bridge=none --iptables=false --ip6tables=false --userland-proxy=false \
      --data-root "$scratch/docker/data" --exec-root "$scratch/docker/run" --pidfile "$scratch/docker/docker.pid" \
      --config-file "$scratch/docker/daemon.json" --host "$DOCKER_HOST" --insecure-registry 127.0.0.0/8
    docker_pid=$started_pid
    wait_for 60 "$docker_pid" docker version >&2 || die "dockerd did not start"
  fi
  docker system prune --all --force >&2
  timeout 180 docker pull "$1:v1" >&2
  docker image inspect --format '{{index .RepoDigests 0}}' "$1:v1" | sed 's/.*@//'
}

report_begin mirror
need_mirror "${clients[@]}"
user_settings_none
upstream_start
target_registry=127.0.0.1:$(free_port)
target_start
single_start second
second=$single second_pid=$single_pid
mirror_start
owner=${members[2]}
layers=$scratch/layers image=$scratch/image
mkdir "$layers"
image_layers "$layers"
image_layout "$layers" "$image"
digest=$(layout_digest "$image")
before=$(forwards)
for client in "${clients[@]}"; do
  # docker has no names without a slash but those of `library`.
  repository_owned_by "$owner" "mirrored/$client" >"$scratch/$client.repository"
  check "upstream has an image for $client" skopeo copy --quiet --dest-tls-verify=false "oci:$image:v1" "docker://$upstream/$(below "$client"):v1"
  tried "$client" docker-registry
done
for client in crane oras; do
  repository_owned_by "$owner" "second/$client" >"$scratch/$client.second"
  there=$(cat "$scratch/$client.second")
  check "the second Portolan has an image for $client" skopeo copy --quiet --dest-tls-verify=false "oci:$image:v1" "docker://$second/${there#second/}:v1"
done
ahead
carried
process_stop "$upstream_pid" || true
check "what was mirrored ahead pulls whole while upstream is down" crane validate --insecure --remote "${members[1]}/ahead/one:v1"
for client in "${clients[@]}"; do stays "$client"; done
for client in crane oras; do
  cp "$scratch/$client.second" "$scratch/$client.repository"
  tried "$client" "another Portolan"
done
check "the pulls were forwarded" test "$(forwards)" -gt "$before"
process_stop "$second_pid" || true
for client in crane oras; do stays "$client"; done
mesh_stop

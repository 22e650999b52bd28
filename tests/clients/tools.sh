# shellcheck shell=bash
# How the clients beyond the first five are had. Sourced by tests/clients.sh, after tools.sh; never run.

jib_version=0.28.1
jib_dir=$target/tools/jib-$jib_version

# need_clients_extra CLIENT...: what these take.
need_clients_extra() {
  local client
  for client in "$@"; do
    case $client in
      regctl | regsync) need_go "$client" "github.com/regclient/regclient/cmd/$client@v0.11.7" ;;
      helm-3) need_go_as helm3 helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
      helm-4) need_go_as helm4 helm.sh/helm/v4/cmd/helm@v4.3.1 ;;
      cosign-2) need_go_as cosign2 github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5 ;;
      cosign-3) need_go_as cosign3 github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 ;;
      docker-20 | docker-20-login) need_deb dockerd=docker.io busybox=busybox-static openssl=openssl ;;
      docker-29 | docker-29-login) need_docker ;;
      containerd-1) need_deb containerd=containerd runc=runc ;;
      containerd-2) need_containerd ;;
      buildkit)
        need_deb runc=runc busybox=busybox-static
        need_go_as buildkitd github.com/moby/buildkit/cmd/buildkitd@v0.34.2
        need_go_as buildctl github.com/moby/buildkit/cmd/buildctl@v0.34.2
        ;;
      buildx) need_go_as buildx github.com/docker/buildx/cmd/buildx@v0.38.2 ;;
      stargz) need_program stargz-reads stargz github.com/containerd/stargz-snapshotter@v0.19.1 ;;
      ollama) need_program ollama-transfer ollama github.com/ollama/ollama@v0.17.4 ollama_parts ;;
      jib) need_jib ;;
      distribution) need_deb docker-registry=docker-registry ;;
    esac
  done
}

need_containerd() {
  local command
  for command in containerd ctr; do
    need_go_as "containerd-2/$command" "github.com/containerd/containerd/v2/cmd/$command@v2.4.2"
  done
}

# The newest Docker that is published as Go modules: the engine by its version as a module, and a client of its own.
need_docker() {
  need_deb runc=runc busybox=busybox-static openssl=openssl
  need_containerd
  need_go_as docker-29/dockerd github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24
  # As an engine of a development version it would be asked by no client.
  need_go_as docker-29/docker github.com/docker/cli/cmd/docker@v29.9.3+incompatible docker_cli_modules \
    "-X github.com/docker/cli/cli/version.Version=29.9.3"
}

# The client has no go.mod; what it is built with stands in its vendor.mod. So Go takes it for older than it is, and has to be
# told its language. Of swarmkit it takes the engine's: the one it names isn't published.
docker_cli_modules() {
  local published swarmkit=github.com/moby/swarmkit/v2
  published=$(go mod download -json github.com/docker/cli@v29.9.3+incompatible |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
  sed 's|^module .*|module build|' "$published/vendor.mod" >go.mod
  cp "$published/vendor.sum" go.sum
  chmod u+w go.sum
  go mod edit -replace "$swarmkit=$swarmkit@v2.1.3-0.20260828175525-ad0357aedfca"
  export GOFLAGS=-gcflags=github.com/docker/cli/...=-lang=go1.25
}

# need_go_as NAME PACKAGE@VERSION [PREPARE [LINKER-FLAGS]]: builds PACKAGE as target/tools/bin/NAME, or target/tools/NAME where
# that names a folder, in a module made for it, which `go install` refuses for some; PREPARE is run in there first.
need_go_as() {
  local name=$1 package=${2%@*} wanted=${2#*@} prepare=${3:-} flags=${4:-} begin=$SECONDS made out program
  program=$tools_bin/$name
  [[ $name != */* ]] || program=$target/tools/$name
  [ "$(go_tool_version "$(basename "$program")" "$(dirname "$program")" "$package")" != "$wanted" ] || return 0
  need_go_compiler
  say "tools: building $name $wanted"
  mkdir -p "$(dirname "$program")"
  made=$(mktemp -d)
  out=$(
    cd "$made" && go mod init build && { [ -z "$prepare" ] || "$prepare"; } && go get "$package@$wanted" &&
      CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags="-s -w $flags" -o "$program" "$package" 2>&1
  ) || die "$package can't be built:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  rm -rf "$made"
  say "tools: $name is there$(took "$begin")"
}

# need_program NAME FOLDER MODULE@VERSION [PREPARE]: builds the program in tests/clients/programs/FOLDER with that module as
# target/tools/bin/NAME.
need_program() {
  local name=$1 folder=tests/clients/programs/$2 module=${3%@*} wanted=${3#*@} prepare=${4:-} begin=$SECONDS made out
  [ "$(go_tool_version "$name" "$tools_bin" "$module")" != "$wanted" ] || return 0
  need_go_compiler
  say "tools: building $name with $module $wanted"
  mkdir -p "$tools_bin"
  made=$(mktemp -d)
  cp "$folder"/*.go "$made"
  out=$(
    cd "$made" && go mod init build && go get "$module@$wanted" && { [ -z "$prepare" ] || "$prepare"; } && go mod tidy &&
      CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags="-s -w" -o "$tools_bin/$name" . 2>&1
  ) || die "$folder can't be built:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  rm -rf "$made"
  say "tools: $name is there$(took "$begin")"
}

# The files of ollama's server that push and pull.
ollama_parts() {
  local published file
  published=$(go list -m -f '{{.Dir}}' github.com/ollama/ollama)
  for file in auth download images sparse_common upload; do
    sed 's/^package server$/package main/' "$published/server/$file.go" >"$file.go"
  done
}

need_jib() {
  local begin=$SECONDS out fetched=$jib_dir.new
  need_deb javac=default-jdk-headless mvn=maven
  [ ! -e "$jib_dir/jib-core-$jib_version.jar" ] || return 0
  say "tools: fetching jib $jib_version"
  rm -rf "$jib_dir" "$fetched"
  out=$(nice -n 5 mvn -q -B -ntp -f tests/clients/programs/jib/pom.xml \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    "-DoutputDirectory=$fetched" -DincludeScope=runtime 2>&1) ||
    die "jib can't be fetched:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  mv "$fetched" "$jib_dir"
  say "tools: jib is there$(took "$begin")"
}

# shellcheck shell=bash
# The programs the tests need that are not part of this repository: what is missing is installed, from Debian's packages
# or as a Go module kept under target/tools. Sourced, never run. What can't be had is an error, never a skipped test.

tools_bin=$target/tools/bin
# A Go of our own comes first, if one was needed. The last two are where the installers of Rust and Go put them, which
# not every shell looks into.
export PATH="$tools_bin:$target/tools/go/bin:$PATH:$HOME/.cargo/bin:/usr/local/go/bin"

# need_deb COMMAND=PACKAGE...: installs, in one go, the packages whose commands are missing.
need_deb() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  deb_install "${missing[@]}"
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || die "package ${pair#*=} is installed and gives no ${pair%%=*} in PATH"
  done
}

# deb_install PACKAGE...
deb_install() {
  local begin=$SECONDS
  say "tools: installing Debian packages: $*"
  command -v apt-get >/dev/null || die "there is no apt-get here: install $* by hand"
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "not root and no sudo: install $* as root"
  apt_get update
  apt_get install -y --no-install-recommends "$@"
  say "tools: Debian packages are there$(took "$begin")"
}

# apt-get as root, waiting for another one that is at work; silent unless it fails.
apt_get() {
  local as_root=() out
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  out=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" 2>&1) ||
    die "apt-get $* failed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
}

# need_go NAME PACKAGE@VERSION: builds NAME into target/tools unless that very version is there already.
need_go() {
  local name=$1 package=$2 begin=$SECONDS out
  [ "$(go_tool_version "$name")" != "${package#*@}" ] || return 0
  need_go_compiler
  say "tools: building $name ${package#*@}"
  mkdir -p "$tools_bin"
  # Niced, for the compiler of what is tested may be at work beside it.
  out=$(GOBIN=$tools_bin CGO_ENABLED=0 nice -n 5 go install -trimpath -ldflags="-s -w" "$package" 2>&1) ||
    die "go install $package failed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  say "tools: $name is there$(took "$begin")"
}

# go_tool_version NAME [FOLDER [PACKAGE]]: of the module a tool was built from, or, where it was built in a module made for
# it, of the one that has the package; out of the binary itself. Nothing when there is no such tool.
go_tool_version() {
  local program=${2:-$tools_bin}/$1
  [ -x "$program" ] || return 0
  go version -m "$program" 2>/dev/null | awk -v package="${3:-}" '
    $1 == "path" && package == "" { package = $2 }
    ($1 == "mod" || $1 == "dep") && index(package "/", $2 "/") == 1 && $3 != "(devel)" { print $3; exit }'
}

# What the tools of this file ask for (oras the most), and what is fetched where there is less.
go_wanted=1.26.7
go_fetched=1.26.8

# need_go_compiler: a Go that is new enough or fetches what is. Debian's may be neither (Debian 12 has 1.19), but any can
# download the toolchain, which Go publishes as a module; from 1.21 on it would unpack that by itself as is done here.
need_go_compiler() {
  ! go_is_enough || return 0
  need_deb go=golang-go
  ! go_is_enough || return 0
  local module dir go_root=$target/tools/go begin=$SECONDS
  module=golang.org/toolchain@v0.0.1-go$go_fetched.linux-$(dpkg --print-architecture)
  say "tools: $(go env GOVERSION) is too old, fetching Go $go_fetched"
  go mod download "$module" || die "no $module to be had: install Go $go_wanted or later by hand"
  dir=$(go env GOMODCACHE)/$module
  mkdir -p "$target/tools"
  rm -rf "$go_root"
  cp -r "$dir" "$go_root"
  chmod -R u+w "$go_root"
  chmod +x "$go_root"/bin/* "$go_root"/pkg/tool/*/*
  # A module can't hold other modules, so theirs are renamed on the way.
  find "$go_root" -name _go.mod -execdir mv {} go.mod \;
  hash -r # bash remembers where it found the other one
  go_is_enough || die "Go $go_fetched does not run from $go_root"
  say "tools: Go $go_fetched is there$(took "$begin")"
}

go_is_enough() {
  local have
  command -v go >/dev/null || return 1
  have=$(go env GOVERSION)
  at_least "${have#go}" "$go_wanted" || { at_least "${have#go}" 1.21 && [ "$(go env GOTOOLCHAIN)" != local ]; }
}

# at_least VERSION WANTED
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

need_rust() {
  command -v cargo >/dev/null || die "no cargo in PATH: install Rust with rustup; rust-toolchain.toml names the version"
  need_deb cc=build-essential make=build-essential # some crates bring C with them
}

# libFuzzer comes as a crate, in C++.
need_fuzz() { need_deb g++=build-essential; }

# What the integration tests start themselves.
need_it() { need_deb nats-server=nats-server; }

need_conformance() {
  need_deb curl=curl python3=python3
  need_go conformance github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
}

crane=github.com/google/go-containerregistry/cmd/crane@v0.22.1

need_clients() {
  need_deb curl=curl python3=python3 skopeo=skopeo podman=podman buildah=buildah
  need_go crane "$crane"
  need_go oras oras.land/oras/cmd/oras@v1.3.6
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
}

need_overload() { need_clients; }

need_operate() {
  need_deb curl=curl python3=python3 skopeo=skopeo
  need_go crane "$crane"
  need_go oras oras.land/oras/cmd/oras@v1.3.6
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
}

# need_mirror [CLIENT]...
need_mirror() {
  need_clients
  need_deb docker-registry=docker-registry
  [[ " $* " != *" containerd "* ]] || need_deb containerd=containerd
  [[ " $* " != *" docker "* ]] || need_deb dockerd=docker.io
}

need_access() {
  need_clients
  need_conformance
  need_deb openssl=openssl htpasswd=apache2-utils
}

need_logins() {
  need_access
  need_deb containerd=containerd runc=runc
}

need_ldap() {
  PATH=$PATH:/usr/sbin # where Debian has slapd, and not everybody looks
  need_deb curl=curl python3=python3 openssl=openssl htpasswd=apache2-utils slapd=slapd ldapsearch=ldap-utils
}

# What drives the browser, and what looks for barriers to people who see or hear little. Debian's Node.js is enough for these.
page_modules=$target/tools/page

need_page() {
  local wanted="puppeteer-core@24.8.2 axe-core@4.14.1" out begin=$SECONDS
  need_deb curl=curl python3=python3 openssl=openssl htpasswd=apache2-utils node=nodejs npm=npm chromium=chromium
  need_go crane "$crane"
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
  [ "$(cat "$page_modules/wanted" 2>/dev/null)" != "$wanted" ] || return 0
  say "tools: installing $wanted"
  # shellcheck disable=SC2086 # two words
  out=$(npm install --prefix "$page_modules" --ignore-scripts --no-audit --no-fund --no-save $wanted 2>&1) ||
    die "npm install $wanted failed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  echo "$wanted" >"$page_modules/wanted"
  say "tools: $wanted are there$(took "$begin")"
}

# need_npm PACKAGE VERSION: into a folder of its own, unless that very version is there already.
need_npm() {
  local folder=$target/tools/$1 begin=$SECONDS out
  need_deb node=nodejs npm=npm
  [ "$(node -p "require('$folder/node_modules/$1/package.json').version" 2>/dev/null)" != "$2" ] || return 0
  say "tools: installing $1 $2"
  mkdir -p "$folder"
  out=$(npm install --prefix "$folder" --no-audit --no-fund --ignore-scripts "$1@$2" 2>&1) ||
    die "npm install $1@$2 failed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  say "tools: $1 is there$(took "$begin")"
}

need_openid() {
  need_page
  need_npm oidc-provider 9.13.3
}

need_squid() {
  need_deb curl=curl python3=python3 skopeo=skopeo htpasswd=apache2-utils openssl=openssl squid=squid
  need_go crane "$crane"
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
}

need_memory() {
  need_deb curl=curl python3=python3 openssl=openssl
  need_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
}

# With stores.sh sourced, too.
need_shared() {
  need_conformance
  need_clients
  need_deb openssl=openssl haproxy=haproxy faketime=faketime h2load=nghttp2-client prlimit=util-linux htpasswd=apache2-utils
  need_stores
}

# With stores.sh sourced, too.
need_faults() {
  need_deb openssl=openssl haproxy=haproxy python3=python3 skopeo=skopeo faketime=faketime iptables=iptables setpriv=util-linux
  # Toxiproxy, by the name that its package gives it.
  need_go server github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
  need_stores
}

# With stores.sh sourced, too.
need_kill_pulls() {
  need_memory
  need_deb skopeo=skopeo haproxy=haproxy
  need_go crane "$crane"
  need_stores
}

# With stores.sh sourced, too.
need_resize() {
  need_kill_pulls
  need_deb containerd=containerd
}

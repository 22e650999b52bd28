# shellcheck shell=bash
# A realistic image without a network, and the questions the client scripts ask of it. Sourced, never run.

# layer ARCHIVE FILE...: the files, named from the root, as a layer; the same bytes each time on one machine.
layer() {
  local archive=$1
  shift
  printf '%s\n' "$@" |
    tar --create --directory=/ --files-from=- --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner | gzip -n -1 >"$archive"
}

# image_layers FOLDER: writes programs.tar.gz (some 50 MB unpacked), libraries.tar.gz and text.tar.gz.
image_layers() {
  local files
  mapfile -t files < <(cd / && find usr/bin -type f -size -4M | sort | head -n 400)
  layer "$1/programs.tar.gz" "${files[@]}"
  mapfile -t files < <(cd / && find usr/lib -name '*.so.*' -type f -size -2M | sort | head -n 100)
  layer "$1/libraries.tar.gz" "${files[@]}"
  layer "$1/text.tar.gz" etc/os-release
}

# image_layout LAYERS LAYOUT: the image of the layers as the clients start from it, in an OCI layout and in LAYOUT.tar.
image_layout() {
  crane append --oci-empty-base -t portolan/image -f "$1/programs.tar.gz" -f "$1/libraries.tar.gz" -f "$1/text.tar.gz" \
    -o "$2.tar" 2>>"$logs/clients.log"
  skopeo copy --quiet "docker-archive:$2.tar" "oci:$2:v1"
}

# said COMMAND...: what it prints, or nothing when it fails: then the comparison it is asked for fails.
said() { "$@" 2>>"$logs/clients.log" || true; }

# layout_digest FOLDER: the digest of the one image in an OCI layout.
layout_digest() {
  said python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["manifests"][0]["digest"])' "$1/index.json"
}

# served_digest MEMBER REPOSITORY TAG: what a member names as the tag's digest.
served_digest() {
  said ask --head -H "Accept: $manifest_types" "$scheme://$1/v2/$2/manifests/$3" |
    tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2 }'
}

oci=application/vnd.oci.image docker=application/vnd.docker.distribution
manifest_types="$oci.manifest.v1+json, $oci.index.v1+json, $docker.manifest.v2+json, $docker.manifest.list.v2+json"

# equal_through_all REPOSITORY TAG DIGEST: one check a member, that it names this digest.
equal_through_all() {
  local member
  for member in "${members[@]}"; do
    equal "$member has this digest for $1:$2" "$3" "$(served_digest "$member" "$1" "$2")"
  done
}

# user_settings_none: no credentials and no settings of whoever runs this reach a client.
user_settings_none() {
  mkdir -p "$scratch/home" "$scratch/tmp"
  echo '{}' >"$scratch/home/auth.json"
  export HOME=$scratch/home DOCKER_CONFIG=$scratch/home XDG_CONFIG_HOME=$scratch/home XDG_RUNTIME_DIR=$scratch/home
  export REGISTRY_AUTH_FILE=$scratch/home/auth.json TMPDIR=$scratch/tmp
  unset HTTP_PROXY http_proxy ALL_PROXY all_proxy
}

#!/usr/bin/env bash
# Copying an image that cosign 3 signed leaves the signature behind and tags the image as the list of its own referrers.
#
# cosign v3.1.3 stores a signature as a bundle whose subject is the image, listed by the referrers API or, where a registry
# has none, in an index tagged sha256-DIGEST. `cosign copy` (deprecated, and what scripts of cosign 2 call) neither asks for
# referrers nor copies that index: under its tag it writes the image once more. It exits with 0; the copy can't be verified,
# and the tag at which others look for an index of referrers names an image. Here from and to crane's own registry. Seen:
#   at the source sha256-DIGEST is application/vnd.oci.image.index.v1+json, and verifying: exit 0
#   copying: exit 0
#   at the target sha256-DIGEST is the image itself: yes, and verifying: exit 10, Error: no signatures found
# Exits with 0 as long as this is so. Needs go, python3 and curl.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

export GOBIN=$work COSIGN_PASSWORD=
go install github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 2>/dev/null
go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2>/dev/null

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
registry=127.0.0.1:$port
./crane registry serve --address "$registry" >registry.log 2>&1 &
server=$!
until curl -q --noproxy '*' -fsS "http://$registry/v2/" -o /dev/null 2>/dev/null; do sleep 0.1; done

echo content >file
tar cf layer.tar file
./crane append --new_layer layer.tar --new_tag "$registry/from/image:1" >/dev/null 2>&1
digest=$(./crane digest "$registry/from/image:1")
./cosign generate-key-pair --output-key-prefix key 2>/dev/null
./cosign signing-config create --out signing.json >/dev/null
./cosign sign --yes --key key.key --signing-config signing.json "$registry/from/image@$digest" >/dev/null 2>&1

# verify REPOSITORY: what comes of verifying the image there.
verify() {
  local status=0
  ./cosign verify --key key.pub --insecure-ignore-tlog=true "$registry/$1@$digest" >verified 2>&1 || status=$?
  echo "exit $status$(sed -n 's/^Error: /, Error: /p' verified)"
}

referrers=${digest/:/-}
type=$(./crane manifest "$registry/from/image:$referrers" | python3 -c 'import json, sys; print(json.load(sys.stdin)["mediaType"])')
source=$(verify from/image)
echo "at the source sha256-DIGEST is $type, and verifying: $source"
copied=0
./cosign copy "$registry/from/image:1" "$registry/to/image:1" >/dev/null 2>&1 || copied=$?
echo "copying: exit $copied"
itself=no
[ "$(./crane digest "$registry/to/image:$referrers")" != "$digest" ] || itself=yes
target=$(verify to/image)
echo "at the target sha256-DIGEST is the image itself: $itself, and verifying: $target"
[ "$type" = application/vnd.oci.image.index.v1+json ] && [ "$source" = "exit 0" ] && [ "$copied" -eq 0 ] &&
  [ "$itself" = yes ] && [[ $target = "exit 10, Error: no signatures found"* ]]

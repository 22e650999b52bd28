#!/usr/bin/env bash
# A signed image that cosign 3 saved can't be loaded into a registry that checks what a manifest names.
#
# cosign v3.1.3 says of its deprecated `copy` that `cosign save` and `cosign load` do the same. `save` writes the image and
# the bundle of its signature whole; `load` then pushes of the bundle the manifest and its empty configuration, but never
# the layer, which is the signature. A registry that wants a manifest's blobs to be there, as distribution v3.1.1 does,
# refuses it: the image is loaded without its signature, and `load` ends with an error after that. Seen:
#   saved, the signature's layer is among the blobs: yes
#   loading: exit 1, MANIFEST_BLOB_UNKNOWN for that layer; asked for it or sent it before: 0 times
#   the image is there: yes, and verifying it: exit 10
# Exits with 0 as long as this is so. Needs go, python3 and curl.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

export GOBIN=$work COSIGN_PASSWORD=
go install github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 2>/dev/null
go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2>/dev/null
go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1 2>/dev/null

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
registry=127.0.0.1:$port
printf 'version: 0.1\nstorage: { inmemory: {} }\nhttp: { addr: "%s" }\n' "$registry" >config.yml
OTEL_TRACES_EXPORTER=none ./registry serve config.yml >registry.log 2>&1 &
server=$!
until curl -q --noproxy '*' -fsS "http://$registry/v2/" -o /dev/null 2>/dev/null; do sleep 0.1; done

echo content >file
tar cf layer.tar file
./crane append --new_layer layer.tar --new_tag "$registry/from/image:1" >/dev/null 2>&1
digest=$(./crane digest "$registry/from/image:1")
./cosign generate-key-pair --output-key-prefix key 2>/dev/null
./cosign signing-config create --out signing.json >/dev/null
./cosign sign --yes --key key.key --signing-config signing.json "$registry/from/image@$digest" >/dev/null 2>&1

bundle=$(./crane manifest "$registry/from/image:${digest/:/-}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["manifests"][0]["digest"])')
layer=$(./crane manifest "$registry/from/image@$bundle" | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["digest"])')
./cosign save --dir saved "$registry/from/image:1" >/dev/null 2>&1
saved=no
[ ! -f "saved/blobs/${layer/://}" ] || saved=yes
echo "saved, the signature's layer is among the blobs: $saved"
loaded=0
./cosign load --dir saved "$registry/to/image:1" >load.log 2>&1 || loaded=$?
named=$(grep -c "MANIFEST_BLOB_UNKNOWN.*$layer" load.log || true)
asked=$(grep -c "\"[A-Z]* /v2/to/image/blobs/[^ ]*${layer#sha256:}" registry.log || true)
[ "$named" -gt 0 ] && refused="MANIFEST_BLOB_UNKNOWN for that layer" || refused=$(tail -1 load.log)
echo "loading: exit $loaded, $refused; asked for it or sent it before: $asked times"
there=no
[ "$(./crane digest "$registry/to/image:1")" != "$digest" ] || there=yes
verified=0
./cosign verify --key key.pub --insecure-ignore-tlog=true "$registry/to/image@$digest" >/dev/null 2>&1 || verified=$?
echo "the image is there: $there, and verifying it: exit $verified"
[ "$saved" = yes ] && [ "$loaded" -eq 1 ] && [ "$named" -gt 0 ] && [ "$asked" -eq 0 ] && [ "$there" = yes ] &&
  [ "$verified" -eq 10 ]

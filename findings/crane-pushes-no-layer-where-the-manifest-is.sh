#!/usr/bin/env bash
# An image that lost a layer can't be mended by pushing it again with crane, which says that it was pushed.
#
# A layer was deleted from a registry (distribution v3.1.1, DELETE of the blob), the manifest wasn't: HEAD of the layer is 404, and
# nobody can pull. crane v0.22.1 `push` of the whole image finds its manifest there, asks for none of its blobs, sends none, prints the
# digest as of any push, and exits with 0. Into another repository it sends everything. Seen:
#   after DELETE of the layer: HEAD 404, pull exit 1
#   pushed again: exit 0, requests for blobs: 0, HEAD 404, pull exit 1
#   pushed into another repository: exit 0, HEAD 200, pull exit 0
# Exits with 0 as long as this is so. Needs go, python3 and curl.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

export GOBIN=$work GOFLAGS=-modcacherw
go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2>/dev/null
go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1 2>/dev/null

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
registry=127.0.0.1:$port
printf 'version: 0.1\nstorage: { inmemory: {}, delete: { enabled: true } }\nhttp: { addr: "%s" }\n' "$registry" >config.yml
OTEL_TRACES_EXPORTER=none ./registry serve config.yml >registry.log 2>&1 &
server=$!
until curl -q --noproxy '*' -fsS "http://$registry/v2/" -o /dev/null 2>/dev/null; do sleep 0.1; done

echo content >file
tar cf layer.tar file
./crane append --new_layer layer.tar --new_tag "$registry/image:1" >/dev/null 2>&1
./crane pull --format=oci "$registry/image:1" image >/dev/null 2>&1
layer=$(./crane manifest "$registry/image:1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["digest"])')

# ask METHOD REPOSITORY [OPTION]: the status of a request for the layer.
ask() { curl -q --noproxy '*' -sS -o /dev/null -w '%{http_code}' -X "$1" ${3:+"$3"} "http://$registry/v2/$2/blobs/$layer"; }
# state REPOSITORY: what becomes of the layer there.
state() {
  local pulled=0
  ./crane pull "$registry/$1:1" pulled.tar >/dev/null 2>&1 || pulled=$?
  echo "HEAD $(ask HEAD "$1" --head), pull exit $pulled"
}
blobs_asked() { grep -c "/blobs/" registry.log || true; }
# push REPOSITORY: pushes the image there; its exit.
push() {
  local pushed=0
  ./crane push image "$registry/$1:1" >/dev/null 2>&1 || pushed=$?
  echo "exit $pushed"
}

[ "$(ask DELETE image)" = 202 ]
deleted=$(state image)
echo "after DELETE of the layer: $deleted"
before=$(blobs_asked)
pushed=$(push image)
asked=$(($(blobs_asked) - before))
again=$(state image)
echo "pushed again: $pushed, requests for blobs: $asked, $again"
other="$(push other), $(state other)"
echo "pushed into another repository: $other"
lost="HEAD 404, pull exit 1"
[ "$deleted" = "$lost" ] && [ "$pushed" = "exit 0" ] && [ "$asked" -eq 0 ] && [ "$again" = "$lost" ] &&
  [ "$other" = "exit 0, HEAD 200, pull exit 0" ]

#!/usr/bin/env bash
# ollama can't push to a registry whose Location is relative, nor pull from one that answers a blob's GET with the blob.
#
# Both are what the distribution specification wants or allows. ollama v0.17.4 parses an upload's Location as a URL of its
# own, so a path alone leads nowhere ("no Host in request URL", six times, in pauses of 1, 2, 4 ... 32 s). To pull it asks
# GET blobs/DIGEST without a range, where it wants a redirect, or a Location header in the 200: only from there does it
# read, by ranges. Distribution itself sends neither, so `ollama pull` fails from the reference implementation, right
# after `ollama push` to it succeeded.
# Here ollama's own PushModel and PullModel (its server/*.go as published, without its models' runners) against Debian's
# docker-registry 2.8.2, first with its option `relativeurls`, then without. Seen:
#   relativeurls: HEAD 404 POST 202, then: Patch "http:///v2/...": http: no Host in request URL
#   as it comes, push: HEAD 404 POST 202 PATCH 202 PUT 201 HEAD 404 POST 202 PATCH 202 PUT 201 PUT 201
#   as it comes, pull: GET 200 HEAD 200 GET 200, then: http: no Location header in response
# Exits with 0 as long as this is so. Needs go, python3, and apt-get for Debian 12's package.
set -euo pipefail
work=$(mktemp -d)
registry=
trap 'kill $registry 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export OLLAMA_MODELS=$work/models

apt-get -qq download 'docker-registry=2.8.2*' 2>apt.log || { cat apt.log && exit 1; }
dpkg -x docker-registry_*.deb debian

# What `ollama push` and `ollama pull` run, in a module of its own.
mkdir transfer
cat >transfer/main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ollama/ollama/api"
)

func main() {
	transfer := PushModel
	if os.Args[1] == "pull" {
		transfer = PullModel
	}
	quiet := func(api.ProgressResponse) {}
	if err := transfer(context.Background(), os.Args[2], &registryOptions{Insecure: true}, quiet); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
END
(
  cd transfer
  go mod init transfer
  go get github.com/ollama/ollama@v0.17.4
  for file in auth download images sparse_common upload; do
    sed 's/^package server$/package main/' "$(go list -m -f '{{.Dir}}' github.com/ollama/ollama)/server/$file.go" >"$file.go"
  done
  go mod tidy
  CGO_ENABLED=0 go build -buildvcs=false -o transfer .
) 2>build.log || { cat build.log && exit 1; }

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
# registry_start RELATIVEURLS
registry_start() {
  cat >config.yml <<END
version: 0.1
storage: { inmemory: {} }
http: { addr: "127.0.0.1:$port", relativeurls: $1 }
END
  debian/usr/bin/docker-registry serve config.yml >registry.log 2>&1 &
  registry=$!
  until curl -q --noproxy '*' -fsS "http://127.0.0.1:$port/v2/" -o /dev/null 2>/dev/null; do sleep 0.1; done
}
# A line for each request, without those of registry_start.
asked() { sed -nE 's|.*"([A-Z]+) /v2/a/b/[^"]*" ([0-9]+) .*|\1 \2|p' registry.log | paste -sd ' '; }

# A model as ollama keeps it.
python3 - "$OLLAMA_MODELS" "127.0.0.1:$port" <<'END'
import hashlib, json, os, sys
models, host = sys.argv[1:]
os.makedirs(f"{models}/blobs")
os.makedirs(f"{models}/manifests/{host}/a/b")

def layer(kind, content):
    digest = hashlib.sha256(content).hexdigest()
    with open(f"{models}/blobs/sha256-{digest}", "wb") as blob:
        blob.write(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

with open(f"{models}/manifests/{host}/a/b/latest", "w") as manifest:
    json.dump({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
               "config": layer("application/vnd.docker.container.image.v1+json", b'{"model_format": "gguf"}'),
               "layers": [layer("application/vnd.ollama.image.model", b"weights" * 1000)]}, manifest)
END

registry_start true
# It would go on for 63 s.
timeout 5 transfer/transfer push "http://127.0.0.1:$port/a/b:latest" >relative.log 2>&1 || true
kill "$registry"
wait "$registry" 2>/dev/null || true
relative=$(asked)
echo "relativeurls: $relative, then: $(grep -o 'Patch "http:///v2/.*no Host in request URL' relative.log | head -n 1 | sed 's|/v2/[^"]*|/v2/...|')"

registry_start false
transfer/transfer push "http://127.0.0.1:$port/a/b:latest" 2>push.log
pushed=$(asked)
echo "as it comes, push: $pushed"
rm -r "$OLLAMA_MODELS"
status=0
transfer/transfer pull "http://127.0.0.1:$port/a/b:latest" 2>pull.log || status=$?
pulled=$(asked)
echo "as it comes, pull:${pulled#"$pushed"}, then: $(tail -n 1 pull.log)"

[ "$relative" = "HEAD 404 POST 202" ] && grep -q 'no Host in request URL' relative.log &&
  [ "$status" -ne 0 ] && grep -qx 'http: no Location header in response' pull.log

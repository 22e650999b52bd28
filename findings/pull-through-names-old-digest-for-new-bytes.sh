#!/usr/bin/env bash
# A pull-through cache answers a tag's new bytes under the digest of its old ones.
#
# distribution v3.1.2 (2.8.2 does the same) as a pull-through cache resolves a tag by `HEAD manifests/TAG` and then reads
# it by `GET manifests/TAG`: by the tag again, not by the digest it has just learnt. Where somebody pushes the tag between
# the two, the client gets the new manifest with Docker-Content-Digest and ETag of the old one. The cache never hashes
# what it answers; whoever pins the digest from that header pins a manifest that he didn't get.
# Upstream here is a server of 30 lines that moves its tag once, after the first HEAD. Seen:
#   upstream was asked:  GET /v2/, GET /v2/, HEAD /v2/a/b/manifests/latest, GET /v2/, GET /v2/a/b/manifests/latest
#   the cache said:      Docker-Content-Digest: sha256:ef8e33df... for bytes that hash to sha256:d4838199...
# Exits with 0 as long as this is so. Needs go and python3.
set -euo pipefail
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# The registry as published, with the one storage driver that this needs.
cat >main.go <<'END'
package main

import (
	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() { registry.RootCmd.Execute() }
END
go mod init proxy 2>/dev/null
go get github.com/distribution/distribution/v3@v3.1.2 2>/dev/null
go mod tidy 2>/dev/null
CGO_ENABLED=0 go build -buildvcs=false -o registry .

cat >upstream.py <<'END'
import hashlib, json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
         "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}

def manifest(text):
    return json.dumps({"schemaVersion": 2, "mediaType": TYPE, "config": EMPTY, "layers": [EMPTY],
                       "annotations": {"is": text}}).encode()

class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tagged = manifest("old")

    def do_GET(self):
        body = b"" if self.path == "/v2/" else Upstream.tagged
        self.send_response(200)
        if body:
            self.send_header("Content-Type", TYPE)
            self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            Upstream.tagged = manifest("new")  # somebody pushes
        else:
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        open("asked", "a").write(f"{self.command} {self.path}\n")

server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
open("port", "w").write(str(server.server_port))
server.serve_forever()
END
python3 upstream.py &
pids+=($!)
until [ -s port ]; do sleep 0.1; done

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >config.yml <<END
version: 0.1
storage: { inmemory: {} }
http: { addr: "127.0.0.1:$port" }
proxy: { remoteurl: "http://127.0.0.1:$(cat port)" }
END
OTEL_TRACES_EXPORTER=none ./registry serve config.yml >registry.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do
  ! curl -q --noproxy '*' -fsS "http://127.0.0.1:$port/v2/" -o /dev/null 2>/dev/null || break
  sleep 0.1
done

curl -q --noproxy '*' -fsS -D headers -o body -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
  "http://127.0.0.1:$port/v2/a/b/manifests/latest"
named=$(tr -d '\r' <headers | awk 'tolower($1) == "docker-content-digest:" { print $2 }')
is=sha256:$(sha256sum body | cut -d ' ' -f 1)
echo "upstream was asked:  $(paste -sd , asked | sed 's/,/, /g')"
echo "the cache said:      Docker-Content-Digest: $named"
echo "for bytes of:        $is $(grep -o '"is": "[a-z]*"' body)"
[ -n "$named" ] && [ "$named" != "$is" ] && grep -q '"is": "new"' body

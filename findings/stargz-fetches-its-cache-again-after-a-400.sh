#!/usr/bin/env bash
# A registry that refuses several ranges makes the stargz snapshotter download again what it has.
#
# stargz-snapshotter v0.19.1 asks for the chunks that it lacks, several ranges in one request. Google's storage answers that
# with 400, so it goes on with one range a request: not one request for each range, but one range from the first byte it
# lacks to the last, over everything between that is in its cache already, and so for good. Here it has all of a layer of
# 20 MB but the first and the last chunk, of 50,000 bytes each; its own fs/remote asks a server that does as Google's. Seen:
#   bytes=0-1 206, bytes=50000-19949999 206, bytes=0-49999,19950000-19999999 400, bytes=0-19999999 206
#   100000 bytes were missing, 20000000 were fetched
# Exits with 0 as long as this is so. Needs go and python3.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

cat >server.py <<'END'
import os, re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIZE = 20_000_000

class Blob(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()

    def do_GET(self):
        one = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        first, last = map(int, one.groups()) if one else (0, -1)
        with open("asked", "a") as asked:
            asked.write(f"{self.headers['Range']} {206 if one else 400}\n")
        self.send_response(206 if one else 400)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(last - first + 1))
        if one:
            self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
        self.end_headers()
        self.wfile.write(bytes(last - first + 1))

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Blob)
open("port.new", "w").write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
END
python3 server.py &
server=$!

cat >main.go <<'END'
package main

import (
	"context"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/stargz-snapshotter/cache"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	const size, chunk = 20_000_000, 50_000
	hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	blob := must(remote.NewResolver(config.BlobConfig{ChunkSize: chunk}, nil).Resolve(
		context.Background(),
		func(image reference.Spec) ([]docker.RegistryHost, error) { return hosts(image.Hostname()) },
		must(reference.Parse("127.0.0.1:"+os.Args[1]+"/a/b:v1")),
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: size},
		cache.NewMemoryCache(),
	))
	if err := blob.Cache(chunk, size-2*chunk); err != nil {
		panic(err)
	}
	must(blob.ReadAt(make([]byte, size), 0))
}
END
go mod init reads 2>/dev/null
go get github.com/containerd/stargz-snapshotter@v0.19.1 2>/dev/null
go mod tidy 2>/dev/null
CGO_ENABLED=0 go build -buildvcs=false -o reads .
until [ -s port ]; do sleep 0.1; done

./reads "$(cat port)" 2>reads.log || { cat reads.log && exit 1; }
paste -sd , asked | sed 's/,b/, b/g'
fetched=$(sed -nE '$ s/bytes=([0-9]+)-([0-9]+) 206/\2 - \1 + 1/p' asked)
echo "100000 bytes were missing, $((fetched)) were fetched"
grep -qx 'bytes=0-49999,19950000-19999999 400' asked && [ "$((fetched))" -eq 20000000 ]

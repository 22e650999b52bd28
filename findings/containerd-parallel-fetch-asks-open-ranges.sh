#!/usr/bin/env bash
# containerd's parallel layer fetch asks for almost three times the layer.
#
# containerd v2.4.2 with `concurrent_layer_fetch_buffer = 4194304` cuts a layer into pieces of 4 MiB and fetches three at
# a time. One expects `Range: bytes=4194304-8388607`; it asks `bytes=4194304-`, without an end, reads 4 MiB of the answer
# and hangs up. So a registry is asked for 20 + 16 + 12 + 8 + 4 MiB of a layer of 20, what it or a proxy has read ahead
# is thrown away, each piece but the last costs a connection, and every piece but one looks like a client that broke off.
# Here the library's own fetcher, set as containerd's transfer service sets it, reads from a server that logs ranges. Seen:
#   bytes=0- bytes=12582912- bytes=16777216- bytes=4194304- bytes=8388608-
#   20971520 bytes read, 62914560 bytes asked for
# Exits with 0 as long as this is so. Needs go and python3.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

cat >server.py <<'END'
import os, re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIZE = 20 << 20

class Blob(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"]).groups()
        first, last = int(first), int(last or SIZE - 1)
        with open("asked", "a") as asked:
            asked.write(f"{self.headers['Range']} {last - first + 1}\n")
        self.send_response(206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
        self.end_headers()
        try:
            for _ in range(first, last + 1, 65536):
                self.wfile.write(bytes(65536))
        except OSError:
            self.close_connection = True  # it has hung up

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
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	host := "127.0.0.1:" + os.Args[1]
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts)),
	})
	// As core/transfer/local/pull.go does it, with max_concurrent_downloads as it comes.
	resolver.(interface {
		SetOptions(...transfer.ImageResolverOption)
	}).SetOptions(
		transfer.WithMaxConcurrentDownloads(3),
		transfer.WithConcurrentLayerFetchBuffer(4<<20),
		transfer.WithDownloadLimiter(semaphore.NewWeighted(3)),
	)
	fetcher := must(resolver.Fetcher(context.Background(), host+"/a/b:latest"))
	layer := must(fetcher.Fetch(context.Background(), ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    digest.FromBytes(make([]byte, 20<<20)),
		Size:      20 << 20,
	}))
	fmt.Println(must(io.Copy(io.Discard, layer)))
	layer.Close()
}
END
go mod init fetch 2>/dev/null
go get github.com/containerd/containerd/v2@v2.4.2 2>/dev/null
go mod tidy 2>/dev/null
CGO_ENABLED=0 go build -buildvcs=false -o fetch .
until [ -s port ]; do sleep 0.1; done

read=$(./fetch "$(cat port)")
wanted=$(awk '{ sum += $2 } END { print sum }' asked)
sort asked | cut -d ' ' -f 1 | paste -sd ' '
echo "$read bytes read, $wanted bytes asked for"
[ "$read" -eq 20971520 ] && [ "$wanted" -gt $((read * 5 / 2)) ] && ! grep -q 'bytes=[0-9]*-[0-9]' asked

#!/usr/bin/env bash
# containerd answers "429, Retry-After: 2" by asking again five times within milliseconds, and then fails the pull.
#
# containerd v2.4.2 (1.6.20 does the same) takes 429 for something to try again, which it is. But there is no pause
# between its tries and Retry-After isn't looked at, so a registry that sheds load gets five requests for one, at once,
# and the pull is over before any overload could be. A 503 with the same header is tried once more, at once, too. Docker
# does the opposite (it waits and retries a 503, and gives up at a 429), so there is no status that makes both wait.
# Here the library's own resolver and fetcher ask a server that would answer after a second. Seen:
#   429: 5 requests, failed after 3 ms: unexpected status code ... 429 Too Many Requests
#   503: 2 requests, failed after 1 ms: unexpected status from GET request ... 503 Service Unavailable
# Exits with 0 as long as both fail in less than a second, so many requests in. Needs go and python3.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# Busy for a second from the first request for a blob on; then there it is.
cat >server.py <<'END'
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

begin = {}

class Busy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = int(self.path.split("/")[3])  # /v2/a/STATUS/blobs/...
        now = time.monotonic()
        busy = now - begin.setdefault(status, now) < 1
        with open(f"asked-{status}", "a") as asked:
            asked.write(f"{self.command} {self.path}\n")
        body = b"" if busy else bytes(1000)
        self.send_response(status if busy else 200)
        if busy:
            self.send_header("Retry-After", "2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
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
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func fetch(repository string) (int64, error) {
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts)),
	})
	fetcher, err := resolver.Fetcher(context.Background(), repository+":latest")
	if err != nil {
		return 0, err
	}
	layer, err := fetcher.Fetch(context.Background(), ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    digest.FromBytes(make([]byte, 1000)),
		Size:      1000,
	})
	if err != nil {
		return 0, err
	}
	defer layer.Close()
	return io.Copy(io.Discard, layer)
}

func main() {
	begin := time.Now()
	_, err := fetch("127.0.0.1:" + os.Args[1] + "/a/" + os.Args[2])
	fmt.Printf("%d ms: %v\n", time.Since(begin).Milliseconds(), err)
}
END
go mod init fetch 2>/dev/null
go get github.com/containerd/containerd/v2@v2.4.2 2>/dev/null
go mod tidy 2>/dev/null
CGO_ENABLED=0 go build -buildvcs=false -o fetch .
until [ -s port ]; do sleep 0.1; done

same=0
for expected in "429 5" "503 2"; do
  read -r status count <<<"$expected"
  said=$(./fetch "$(cat port)" "$status")
  requests=$(wc -l <"asked-$status")
  echo "$status: $requests requests, failed after $said"
  [ "$requests" -eq "$count" ] && [ "${said%% *}" -lt 1000 ] && grep -q "$status" <<<"$said" || same=1
done
exit $same

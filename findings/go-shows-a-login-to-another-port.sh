#!/usr/bin/env bash
# Go's HTTP client sends a request's Authorization along to another port of the same host, and to every name below it.
#
# One would think that a redirect to another origin ends a login, and another port is another origin: curl drops it (since 7.83, as
# a vulnerability, CVE-2022-27774), and so do browsers. Go's net/http goes by the host's name alone, without its port, and takes a
# subdomain for the same. So does what is written with it, such as regctl: a registry at registry.example.com that sends its clients to
# presigned links at registry.example.com:9000 or s3.registry.example.com has them show their token there; and S3 itself refuses
# a request that has both a signature in its query and an Authorization. Here a server redirects to itself at another port.
# Seen, with Go 1.26, curl 7.88.1, and regctl 0.11.7:
#   curl, another port: none
#   Go, another port: Basic
#   Go, a name below it: Basic
#   Go, another name: none
#   regctl, another port: Bearer
# Exits with 0 as long as this is so. Needs go, curl and python3.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

cat >server.py <<'END'
# One server at two ports: the first redirects to the second, which tells what scheme of Authorization came.
import hashlib, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LAYER = b"a layer"
digest = lambda body: "sha256:" + hashlib.sha256(body).hexdigest()

class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        login = self.headers.get("Authorization")
        if self.server is second:
            scheme = (login or "none").split(" ")[0]
            print(scheme, file=open("seen", "w"))
            return self.answer(200, LAYER if "blobs" in self.path else scheme.encode())
        host = self.headers["X-To"] or "127.0.0.1"
        if self.path.startswith("/token"):
            return self.answer(200, json.dumps({"token": "abc"}).encode())
        if self.path.startswith("/v2/") and not (login or "").startswith("Bearer "):
            realm = f'Bearer realm="http://127.0.0.1:{first.server_port}/token",service="s"'
            return self.answer(401, b"", WWW_Authenticate=realm)
        if self.path == "/v2/":
            return self.answer(200, b"{}")
        self.answer(307, b"", Location=f"http://{host}:{second.server_port}{self.path}")

    do_HEAD = do_GET

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass

first, second = (ThreadingHTTPServer(("127.0.0.1", 0), Server) for _ in range(2))
print(first.server_port, digest(LAYER), file=open("ready.new", "w"), flush=True)
import os
os.rename("ready.new", "ready")
threading.Thread(target=first.serve_forever, daemon=True).start()
second.serve_forever()
END

mkdir client
cat >client/main.go <<'END'
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// main FROM TO PORT: asks FROM, which redirects to TO. All names lead to this machine.
func main() {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	request, _ := http.NewRequest("GET", "http://"+os.Args[1]+":"+os.Args[3]+"/", nil)
	request.SetBasicAuth("ann", "sesame")
	request.Header.Set("X-To", os.Args[2])
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(response.Body)
	fmt.Println(string(body))
}
END
printf 'module client\n\ngo 1.21\n' >client/go.mod
(cd client && go build -o ../ask .)
GOBIN=$work go install github.com/regclient/regclient/cmd/regctl@v0.11.7

python3 server.py &
server=$!
until [ -e ready ]; do sleep 0.1; done
read -r port digest <ready
export HOME=$work
./regctl registry set --tls disabled "127.0.0.1:$port" 2>/dev/null
./regctl blob get "127.0.0.1:$port/a/b" "$digest" >/dev/null
regctl=$(cat seen)
seen=$(
  echo "curl, another port: $(curl -q --noproxy '*' -fsSL -u ann:sesame "http://127.0.0.1:$port/")"
  echo "Go, another port: $(./ask registry.example registry.example "$port")"
  echo "Go, a name below it: $(./ask registry.example s3.registry.example "$port")"
  echo "Go, another name: $(./ask registry.example store.example "$port")"
  echo "regctl, another port: $regctl"
)
echo "$seen"
[ "$seen" = 'curl, another port: none
Go, another port: Basic
Go, a name below it: Basic
Go, another name: none
regctl, another port: Bearer' ]

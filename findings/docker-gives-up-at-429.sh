#!/usr/bin/env bash
# `docker push` fails at the first "429 Too Many Requests" and waits out a "503 Service Unavailable".
#
# One would take 429 with Retry-After for the status that asks a client to come again, and 503 for trouble. Docker 20.10.24
# has it the other way round: a 429 to the POST that starts an upload ends the push at once; after a 503 it tries again in
# 5 s, then 10, 15, 20 and 25, whatever Retry-After says. containerd takes 429 for worth another try, without any pause, so
# a registry under load has no status that both wait for. Here dockerd pushes to a server that is busy for 3 s and says
# `Retry-After: 1`. Seen:
#   429: 1 POST, exit status 1: toomanyrequests: slow down
#   503: 3 POST, exit status 0         (twice for the layer, once for the configuration)
# Exits with 0 as long as this is so. Needs root, python3, and apt-get for Debian 12's packages.
set -euo pipefail
[ "$(id -u)" -eq 0 ] || { echo "dockerd needs root" && exit 1; }
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"

# What dockerd is linked with may be missing, too.
apt-get -qq download 'docker.io=20.10.24*' 'containerd=1.6.20*' runc libdevmapper1.02.1 2>apt.log || { cat apt.log && exit 1; }
for package in *.deb; do dpkg -x "$package" debian; done
export PATH=$work/debian/usr/bin:$work/debian/usr/sbin:$PATH
LD_LIBRARY_PATH=$(echo "$work"/debian/lib/*-linux-gnu)
export LD_LIBRARY_PATH DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work

cat >server.py <<'END'
import hashlib, os, re, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

begin, blobs = {}, set()

class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200)

    def do_HEAD(self):
        self.answer(200 if self.path.split("/")[-1] in blobs else 404)

    def do_POST(self):
        status = int(self.path.split("/")[3])  # /v2/a/STATUS/blobs/uploads/
        now = time.monotonic()
        with open(f"asked-{status}", "a") as asked:
            asked.write("POST\n")
        if now - begin.setdefault(status, now) < 3:
            body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}'
            return self.answer(status, body, Retry_After="1", Content_Type="application/json")
        self.answer(202, Location=self.path + "1", Docker_Upload_UUID="1")

    def do_PATCH(self):
        received = len(self.body())
        self.answer(202, Location=self.path, Docker_Upload_UUID="1", Range=f"0-{received - 1}")

    def do_PUT(self):
        body = self.body()
        if uploaded := re.search(r"digest=sha256(?:%3A|:)([0-9a-f]+)", self.path):
            digest = "sha256:" + uploaded.group(1)
            blobs.add(digest)
        else:
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
        self.answer(201, Docker_Content_Digest=digest, Location="/v2/")

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
open("port.new", "w").write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
END
python3 server.py &
pids+=($!)

echo '{}' >daemon.json
dockerd --bridge=none --iptables=false --ip6tables=false --data-root "$work/data" --exec-root "$work/run" --storage-driver vfs \
  --pidfile "$work/docker.pid" --config-file "$work/daemon.json" --host "$DOCKER_HOST" >dockerd.log 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  ! docker version >/dev/null 2>&1 || break
  sleep 0.1
done
docker version >/dev/null || { tail dockerd.log && exit 1; }

echo hello >file
tar -cf image.tar file
same=0
for expected in "429 1 1" "503 3 0"; do
  read -r status posts ends <<<"$expected"
  name=127.0.0.1:$(cat port)/a/$status:v1
  docker import image.tar "$name" >/dev/null
  ended=0
  timeout 60 docker push "$name" >push.log 2>&1 || ended=$?
  asked=$(wc -l <"asked-$status")
  echo "$status: $asked POST, exit status $ended$([ $ended = 0 ] || echo ": $(tail -n 1 push.log)")"
  [ "$asked" -eq "$posts" ] && [ "$ended" -eq "$ends" ] || same=1
done
exit $same

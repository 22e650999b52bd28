#!/usr/bin/env bash
# jib sends `Accept:` with nothing behind it, and a manifest without a length.
#
# RFC 9110 (12.5.1) lets Accept be an empty list, and few servers have ever met one: a list of media types that accepts
# nothing is what a strict one reads. jib-core 0.28.1 sends it on every request for which it wants no media type in
# particular: `GET /v2/`, HEAD of blobs, POST, PATCH and PUT. The manifest, of which the whole text is at hand, goes up in
# `Transfer-Encoding: chunked` without Content-Length, as each layer does; a server that bounds manifests by their length
# sees none. Here jib pushes a layer on nothing to a server that logs both headers. Seen:
#   GET /v2/: Accept ''
#   HEAD blobs: Accept ''        (each of these for the layer and the configuration)
#   POST uploads: Accept ''
#   PATCH uploads: Accept '', chunked
#   PUT uploads: Accept ''
#   PUT manifests: Accept '', chunked
# Exits with 0 as long as this is so. Needs a JDK, mvn and python3.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

cat >server.py <<'END'
import hashlib, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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

    def answer(self, status, **headers):
        body = self.body()
        what = next((w for w in ("manifests", "uploads", "blobs") if w in self.path), self.path)
        chunked = ", chunked" if self.headers.get("Transfer-Encoding") == "chunked" else ""
        with open("asked", "a") as asked:
            asked.write(f"{self.command} {what}: Accept {self.headers.get('Accept')!r}{chunked}\n")
        self.send_response(status)
        if what == "manifests":
            headers["Docker_Content_Digest"] = "sha256:" + hashlib.sha256(body).hexdigest()
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer(200)

    def do_HEAD(self):
        self.answer(404)

    def do_POST(self):
        self.answer(202, Location="/v2/a/b/blobs/uploads/1")

    def do_PATCH(self):
        self.answer(202, Location="/v2/a/b/blobs/uploads/1")

    def do_PUT(self):
        self.answer(201)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
open("port.new", "w").write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
END
python3 server.py &
server=$!

cat >pom.xml <<'END'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>findings</groupId>
  <artifactId>jib</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>com.google.cloud.tools</groupId>
      <artifactId>jib-core</artifactId>
      <version>0.28.1</version>
    </dependency>
  </dependencies>
</project>
END
mvn -q -B -ntp org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
  -DoutputDirectory=jars -DincludeScope=runtime >mvn.log 2>&1 || { cat mvn.log && exit 1; }
cat >Push.java <<'END'
import com.google.cloud.tools.jib.api.Containerizer;
import com.google.cloud.tools.jib.api.Jib;
import com.google.cloud.tools.jib.api.RegistryImage;
import com.google.cloud.tools.jib.api.buildplan.AbsoluteUnixPath;
import java.nio.file.Path;
import java.util.List;

public class Push {
  public static void main(String[] arguments) throws Exception {
    Jib.fromScratch()
        .addLayer(List.of(Path.of("pom.xml")), AbsoluteUnixPath.get("/app"))
        .containerize(
            Containerizer.to(RegistryImage.named(arguments[0]))
                .setAllowInsecureRegistries(true)
                .setBaseImageLayersCache(Path.of("base"))
                .setApplicationLayersCache(Path.of("application")));
    System.exit(0); // its pool of threads would keep the process for a minute
  }
}
END
until [ -s port ]; do sleep 0.1; done
java -cp 'jars/*' Push.java "127.0.0.1:$(cat port)/a/b:v1" >push.log 2>&1 || { cat push.log && exit 1; }
awk '!seen[$0]++' asked
grep -qx "PUT manifests: Accept '', chunked" asked && [ "$(grep -c "Accept ''" asked)" -ge 7 ]

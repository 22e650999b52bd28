"""A way into a store for those who follow links: link_door.py LISTEN STORE SEEN

Relays each GET with its head as it came, `Host` included, for that is signed. Writes a line into SEEN for each: the client,
what scheme of `Authorization` it sent along (`none`: none, as it should be), the status.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 64 * 1024
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")

listen, store, seen = sys.argv[1:]


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        behind = http.client.HTTPConnection(store, timeout=60)
        behind.putrequest("GET", self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            behind.putheader(name, value)
        behind.endheaders()
        answer = behind.getresponse()
        client = self.headers.get("User-Agent", "-").split("/")[0]
        scheme = self.headers.get("Authorization", "none").split(" ")[0]
        with open(seen, "a") as lines:
            lines.write(f"{client}\t{scheme}\t{answer.status}\n")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        while piece := answer.read(CHUNK):
            self.wfile.write(piece)
        behind.close()

    def log_message(self, *_):
        pass


host, port = listen.rsplit(":", 1)
ThreadingHTTPServer((host, int(port)), Door).serve_forever()

"""A member that becomes full when a client is in the middle of something: full.py LISTEN MEMBER SECONDS MOMENT

Passes connections on to MEMBER, one request each. When the first request of MOMENT comes, and before it goes on, all of the
member's places for requests are taken, for SECONDS: by clients of addresses of their own, each of which asks
for /v2/ as often as it gets a place, and takes nothing of the answers. Prints what is asked from then on with its status, and
when the member is full, and when it is empty again.
"""

import asyncio
import re
import struct
import sys
import urllib.error
import urllib.request

PLACES = 4096
STREAMS = 100
HEAD_LIMIT = 64 * 1024
CHUNK = 64 * 1024

UPLOADS = r"/v2/.+/blobs/uploads/"
# What a request has to be, by method, path and whether it has content.
MOMENTS = {
    "start": lambda method, path, content: method == "POST" and re.match(UPLOADS, path),
    "body": lambda method, path, content: method in ("PATCH", "PUT") and content and re.match(UPLOADS, path),
    "manifest": lambda method, path, content: method == "PUT" and "/manifests/" in path,
    "read": lambda method, path, content: method in ("GET", "HEAD") and "/manifests/" in path,
    "layer": lambda method, path, content: method == "GET" and "/blobs/" in path,
}


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def asking(count):
    """A connection's bytes that ask for /v2/ so often, with a window of 0 for the answers."""
    # Fields of the static table (RFC 7541, appendix A): GET, http, a path and an authority.
    fields = b"\x82\x86\x04\x04/v2/\x01\x01r"
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack(">HI", 4, 0))
    return begin + b"".join(frame(1, 5, 1 + 2 * n, fields) for n in range(count))


async def take(host, port, client, count):
    """A connection of which so many answers have begun."""
    reader, writer = await asyncio.open_connection(host, port, local_addr=(f"127.0.1.{client}", 0))
    writer.write(asking(count))
    begun = 0
    while begun < count:
        head = await asyncio.wait_for(reader.readexactly(9), 60)
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        begun += head[3] == 1
    return writer


async def fill(host, port):
    """Takes all places. A client may have as many as it leaves free, so each gets half of what the former ones left."""
    left, client, taken = PLACES, 0, []
    while left:
        client += 1
        share = (left + 1) // 2
        left -= share
        counts = [min(STREAMS, share - n) for n in range(0, share, STREAMS)]
        taken += await asyncio.gather(*(take(host, port, client, count) for count in counts))
    said = await asyncio.to_thread(readiness, host, port)
    if "full" not in said:
        sys.exit(f"not full: {said}")
    return taken


def readiness(host, port):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{host}:{port}/readyz", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def field(head, name):
    found = re.search(rb"(?im)^" + name + rb": *(.*?)\r?$", head)
    return found[1] if found else b""


class Relay:
    def __init__(self, member, seconds, moment):
        self.member = member
        self.host, port = member.rsplit(":", 1)
        self.port, self.seconds = int(port), float(seconds)
        self.is_moment = MOMENTS[moment]
        self.lock, self.was_full = asyncio.Lock(), False
        self.serving = set()  # the event loop holds on to nothing that waits

    async def make_full(self, method, path, head):
        content = field(head, b"content-length") not in (b"", b"0") or field(head, b"transfer-encoding")
        async with self.lock:
            if self.was_full or not self.is_moment(method, path, content):
                return
            taken = await fill(self.host, self.port)
            self.was_full = True
            print("full", flush=True)
            asyncio.get_running_loop().call_later(self.seconds, self.empty, taken)

    def empty(self, taken):
        for writer in taken:
            writer.transport.abort()
        print("empty", flush=True)

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            await self.make_full(method, path, head)
            member_reader, member_writer = await asyncio.open_connection(self.host, self.port, limit=HEAD_LIMIT)
            member_writer.write(re.sub(rb"(?im)^connection:.*\r\n", b"", head)[:-2] + b"Connection: close\r\n\r\n")
            sending = asyncio.create_task(copy(reader, member_writer))
            await self.answer(f"{method} {kind(path)}", member_reader, writer)
            sending.cancel()
            member_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, what, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            writer.write(head)
            head = await reader.readuntil(b"\r\n\r\n")
        if self.was_full:
            print(what, head.split(b" ", 2)[1].decode(), flush=True)
        # As behind a balancer, a path: clients refuse to be sent on from one loopback address to another.
        writer.write(head.replace(b"http://" + self.member.encode(), b""))
        await copy(reader, writer)


def kind(path):
    for part, name in (("/blobs/uploads/", "upload"), ("/blobs/", "blob"), ("/manifests/", "manifest")):
        if part in path:
            return name
    return path.split("?")[0]


async def copy(reader, writer):
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass


async def main(listen, *arguments):
    relay = Relay(*arguments)
    host, port = listen.rsplit(":", 1)
    server = await asyncio.start_server(relay.serve, host, int(port), limit=HEAD_LIMIT)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))

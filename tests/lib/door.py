"""Clients that behave badly, by the hundred and the thousand, for tests/front-door.sh. Standard library only.

usage: door.py WHAT HOST:PORT ARGUMENT...   prints one line of figures, and then, where connections are to stay open,
waits for a line on standard input.
"""

import asyncio
import base64
import os
import ssl
import statistics
import struct
import sys
import time


# Where DOOR_CA names an authority, doors speak TLS.
tls = ssl.create_default_context(cafile=os.environ["DOOR_CA"]) if "DOOR_CA" in os.environ else None


async def connect(door, source=None):
    host, port = door.rsplit(":", 1)
    local = (source, 0) if source else None
    return await asyncio.open_connection(host, int(port), local_addr=local, limit=1 << 16, ssl=tls)


def head(method, path, door, *fields):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {door}", *fields, "", ""]).encode()


async def until_told():
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def readers(door, count, path):
    """Each asks for a blob and reads only its beginning."""
    held = []
    for _ in range(int(count)):
        reader, writer = await connect(door)
        writer.write(head("GET", path, door))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        held.append(writer)
    print(f"{len(held)} readers stand still")
    await until_told()


async def writers(door, count, path, sent):
    """Each announces a large blob, sends so many bytes and no more."""
    held = []
    for _ in range(int(count)):
        _, writer = await connect(door)
        writer.write(head("POST", path, door, f"content-length: {64 << 20}") + b"x" * int(sent))
        await writer.drain()
        held.append(writer)
    print(f"{len(held)} writers stand still after {int(sent) >> 10} KiB")
    await until_told()


async def idle(door, count):
    """Connections that say nothing, or only how a request begins, from two addresses."""
    held, refused = [], 0
    for n in range(int(count)):
        try:
            reader, writer = await connect(door, f"127.0.0.{11 + n % 2}")
            writer.write(b"" if n % 2 else b"GET /v2/ HTTP/1.1\r\n")
            held.append((reader, writer))
        except OSError:
            refused += 1
    await asyncio.sleep(2)
    closed = sum(reader.at_eof() for reader, _ in held)
    print(f"{len(held) - closed} stay open, {closed} are closed, {refused} refused")
    await until_told()


async def slow_heads(door, count, seconds):
    """Each sends a byte a second of a head that never ends."""
    held = [await connect(door) for _ in range(int(count))]
    begin, closed_after = time.monotonic(), []
    while time.monotonic() - begin < float(seconds) and held:
        open_ones = []
        for reader, writer in held:
            if reader.at_eof() or writer.transport.is_closing():
                closed_after.append(time.monotonic() - begin)
            else:
                writer.write(b"G")
                open_ones.append((reader, writer))
        held = open_ones
        await asyncio.sleep(1)
    last = max(closed_after, default=0)
    print(f"{len(closed_after)} are closed, the last after {last:.0f} s; {len(held)} are still listened to")


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def resets(door, count, each, path):
    """HTTP/2 connections that ask and reset at once, as fast as they can."""

    async def one():
        reader, writer = await connect(door)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        # :method GET, :scheme http, :path, :authority a
        block = b"\x82\x86\x04" + text(path) + b"\x41\x01a"
        sent = 0
        try:
            for n in range(int(each)):
                stream = 2 * n + 1
                writer.write(frame(1, 5, stream, block) + frame(3, 0, stream, struct.pack(">I", 8)))
                sent += 1
                if n % 100 == 99:
                    await asyncio.wait_for(writer.drain(), 10)
                    if reader.at_eof() or writer.transport.is_closing():
                        break
        except (OSError, asyncio.TimeoutError):
            pass
        goodbye = b""
        try:
            goodbye = await asyncio.wait_for(reader.read(1 << 20), 5)
        except (OSError, asyncio.TimeoutError):
            pass
        writer.transport.abort()
        return sent, b"\x07\x00" in goodbye[3:] or sent < int(each)

    ended = await asyncio.gather(*(one() for _ in range(int(count))))
    closed = sum(is_closed for _, is_closed in ended)
    print(f"{sum(sent for sent, _ in ended)} resets on {count} connections, {closed} of which were closed for it")


def text(string):
    """A string of HPACK, its length in a prefix of 7 bits."""
    length = len(string)
    if length < 127:
        return bytes([length]) + string.encode()
    out, length = bytes([127]), length - 127
    while length >= 128:
        out, length = out + bytes([length % 128 + 128]), length // 128
    return out + bytes([length]) + string.encode()


async def pulls(door, count, path, authorization=""):
    """So many pulls, one after the other, on a connection each; their latency in milliseconds."""
    fields = [f"authorization: {authorization}"] if authorization else []
    took = []
    for _ in range(int(count)):
        begin = time.monotonic()
        reader, writer = await connect(door)
        writer.write(head("GET", path, door, "connection: close", *fields))
        answer = await reader.read(-1)
        took.append((time.monotonic() - begin) * 1e3)
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        writer.close()
    took.sort()
    print(f"{statistics.median(took):.2f} {took[len(took) * 95 // 100]:.2f}")


async def guesses(door, count, seconds):
    """So many at once log in with wrong passwords, again and again."""
    statuses, end = {}, time.monotonic() + float(seconds)

    async def one(n):
        tries = 0
        while time.monotonic() < end:
            tries += 1
            secret = base64.b64encode(f"reader:wrong-{n}-{tries}".encode()).decode()
            try:
                reader, writer = await connect(door)
                writer.write(head("GET", "/v2/", door, "connection: close", f"authorization: Basic {secret}"))
                status = (await reader.read(-1))[9:12].decode()
                writer.close()
            except OSError:
                status = "reset"
            statuses[status] = statuses.get(status, 0) + 1

    await asyncio.gather(*(one(n) for n in range(int(count))))
    print(" ".join(f"{status}: {number}" for status, number in sorted(statuses.items())))


WHAT = {f.__name__: f for f in (readers, writers, idle, slow_heads, resets, pulls, guesses)}
asyncio.run(WHAT[sys.argv[1]](*sys.argv[2:]))

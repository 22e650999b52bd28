"""Fetches a piece as containerd's parallel fetch does: piece.py HTTP MEMBER CA PATH FIRST BYTES

Asks MEMBER for PATH from byte FIRST on, without an end, by HTTP 1 or 2, takes BYTES of the answer and prints their SHA-256.
Then it stands still, until all that goes ahead of it has gone, and leaves. It lets no more come than it takes: its socket's
buffer is small, and so are its windows.
"""

import hashlib
import socket
import ssl
import struct
import sys
import time

STILL_SECONDS = 1.5
HEAD_LIMIT = 64 * 1024
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8


def connect(member, ca, protocol):
    host, port = member.rsplit(":", 1)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    plain.settimeout(60)
    plain.connect((host, int(port)))
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols([protocol])
    stream = context.wrap_socket(plain, server_hostname=host)
    assert stream.selected_alpn_protocol() == protocol
    return stream


def by_http_1(member, ca, path, first, wanted):
    stream = connect(member, ca, "http/1.1")
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {member}\r\nRange: bytes={first}-\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1)
        assert len(head) < HEAD_LIMIT
    assert head.startswith(b"HTTP/1.1 206 "), head
    while wanted > 0:
        piece = stream.recv(min(wanted, 16 * 1024))
        assert piece, "the answer ended"
        wanted -= len(piece)
        yield piece
    yield stream


def exactly(stream, count):
    got = b""
    while len(got) < count:
        piece = stream.recv(count - len(got))
        assert piece, "the connection ended"
        got += piece
    return got


def frame(kind, flags, number, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", number) + payload


def literal(index, value):
    """A field whose name is that of the static table (RFC 7541, appendix A), not indexed."""
    name = bytes([index]) if index < 15 else bytes([15, index - 15])
    value = value.encode()
    length = bytes([len(value)]) if len(value) < 127 else bytes([127, len(value) - 127])
    return name + length + value


def by_http_2(member, ca, path, first, wanted):
    stream = connect(member, ca, "h2")
    # GET and https; :path, :authority and range.
    fields = b"\x82\x87" + literal(4, path) + literal(1, member) + literal(50, f"bytes={first}-")
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, fields))
    while wanted > 0:
        head = exactly(stream, 9)
        kind, flags, payload = head[3], head[4], exactly(stream, int.from_bytes(head[:3], "big"))
        if kind in (SETTINGS, PING) and not flags & 1:
            stream.sendall(frame(kind, 1, 0, payload if kind == PING else b""))
        if kind == DATA:
            piece = payload[:wanted]
            assert piece, "the answer ended"
            wanted -= len(piece)
            yield piece
            # Of what comes after the piece none is let in.
            more = struct.pack(">I", len(payload))
            if wanted > 0:
                stream.sendall(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, 1, more))
    yield stream


version, member, ca, path, first, wanted = sys.argv[1:]
taken = hashlib.sha256()
for piece in {"1": by_http_1, "2": by_http_2}[version](member, ca, path, first, int(wanted)):
    if isinstance(piece, bytes):
        taken.update(piece)
print(taken.hexdigest(), flush=True)
time.sleep(STILL_SECONDS)

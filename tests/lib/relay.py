"""A balancer that sends each request to the next member in turn: relay.py LISTEN MEMBER MEMBER...

A relay of connections would pin a client that keeps its connection to one member. This one reads the head of the first
request, asks the member for `Connection: close`, and then only copies bytes both ways: each connection carries one
request, and no body is parsed or held. On SIGTERM it prints how many requests each member got.
"""

import asyncio
import itertools
import signal
import sys

HEAD_LIMIT = 64 * 1024
CHUNK = 64 * 1024
CONNECTIONS = 256
IDLE_SECONDS = 60


def closing(head):
    """The head with `Connection: close` in place of what it said about the connection."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join(lines + [b"Connection: close", b"", b""])


async def copy(reader, writer):
    """Copies to the end; a writer that is slow slows the reader."""
    while chunk := await asyncio.wait_for(reader.read(CHUNK), IDLE_SECONDS):
        writer.write(chunk)
        await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
    if writer.can_write_eof():
        writer.write_eof()


async def relay(client_reader, client_writer, turns, counts):
    head = await asyncio.wait_for(client_reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
    member = next(turns)
    counts[member] += 1
    host, port = member.rsplit(":", 1)
    member_reader, member_writer = await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT)
    try:
        member_writer.write(closing(head))
        upload = asyncio.create_task(copy(client_reader, member_writer))
        try:
            await copy(member_reader, client_writer)
        finally:
            # The answer is complete: what the client may still be sending, or a client that only waits, ends here.
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
    finally:
        member_writer.close()


async def main(listen, members):
    turns, counts = itertools.cycle(members), dict.fromkeys(members, 0)
    permits = asyncio.Semaphore(CONNECTIONS)

    async def serve(reader, writer):
        async with permits:
            try:
                await relay(reader, writer, turns, counts)
            except asyncio.IncompleteReadError as end:
                if end.partial:  # without one, the client merely closed a connection it had no use for
                    print(f"a head was cut short: {end.partial[:200]!r}", file=sys.stderr)
            except (OSError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            finally:
                writer.close()

    host, port = listen.rsplit(":", 1)
    server = await asyncio.start_server(serve, host, int(port), limit=HEAD_LIMIT)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    for member, count in counts.items():
        print(member, count, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2:]))

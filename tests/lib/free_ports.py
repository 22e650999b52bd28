"""Prints two ports that are free on every address given, for a mesh to listen on.

They come from below the ephemeral range, so that no outgoing connection takes one before the mesh does.
"""

import random
import socket
import sys


def is_free(port, addresses):
    for address in addresses:
        with socket.socket() as listener:
            try:
                listener.bind((address, port))
            except OSError:
                return False
    return True


ports = random.sample(range(20000, 32000), 2000)
print(*[port for port in ports if is_free(port, sys.argv[1:])][:2])

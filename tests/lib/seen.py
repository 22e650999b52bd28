"""What the members' log says of a client's requests: seen.py LOG BEGIN REPOSITORY

Reads the log of `portolan dev` from byte BEGIN on. Prints how many requests for the repository, or one below it, there
were and how many of them a member forwarded; then what they were, on one line.
"""

import json
import sys

log, begin, repository = sys.argv[1:]


def noun(route):
    return "mount" if route == "blob_mount" else route.split("_")[0]


def bytes_said(count, way):
    if count < 10_000:
        return [f"{count} bytes {way}"] if count else []
    return [f"{count / 1e6:.2f} MB {way}"]


counts, forwarded, broken_off, bytes_in, bytes_out = {}, 0, 0, 0, 0
with open(log, "rb") as lines:
    lines.seek(int(begin))
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue  # what `portolan dev` prints when it is ready
        name = said.get("repository") or ""
        if said.get("message") != "request" or not (name == repository or name.startswith(repository + "/")):
            continue
        what = (said["method"], noun(said["route"]), said["status"])
        counts[what] = counts.get(what, 0) + 1
        forwarded += said["served"] == "forwarded"
        broken_off += said["outcome"] != "ok"
        bytes_in += said["bytes_in"]
        bytes_out += said["bytes_out"]

requests = [
    f"{method} {kind} {status}" + (f" ×{count}" if count > 1 else "")
    for (method, kind, status), count in counts.items()
]
ends = [f"{broken_off} left before their end"] if broken_off else []
print(sum(counts.values()), forwarded)
print("; ".join([", ".join(requests)] + ends + bytes_said(bytes_in, "in") + bytes_said(bytes_out, "out")))

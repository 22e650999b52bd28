"""Runs the loads of benches/run, round after round, and prints medians. Not started by hand."""

import argparse
import collections
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import urllib.request

GIB = 1 << 30
PULLS = {"pull 100 MiB x 16": (100 << 20, 16, 16), "pull 1 MiB x 16": (1 << 20, 16, 400), "pull 1 KiB x 16": (1 << 10, 16, 3000)}
PUSHES = {"push 1 GiB by PUT": "put", "push 1 GiB by 16 MiB PATCHes": "patch"}
MANIFEST = "manifest by tag x 32"

parser = argparse.ArgumentParser()
parser.add_argument("--load", required=True)
parser.add_argument("--rounds", type=int, required=True)
parser.add_argument("--store", required=True)
parser.add_argument("--metrics", required=True)
parser.add_argument("--yardsticks", nargs="*", default=[])
parser.add_argument("--registries", nargs="*", default=[])
options = parser.parse_args()


def load(*arguments):
    out = subprocess.run([options.load, *map(str, arguments)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def counted(url, name):
    """The sum of a counter over all its labels; nothing where nobody answers."""
    try:
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        return 0
    return sum(float(n) for n in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)", text, re.M))


class Entry:
    """A way into a registry: at the owner, or through a member that isn't."""

    def __init__(self, name, at, pids, members):
        self.name, self.at, self.members = name, at, members
        self.pids = [f"{role}={pid}" for role, pid in zip(("owner", "front"), pids)] + [options.store]

    def requests(self):
        s3 = counted(options.metrics, "SeaweedFS_s3_request_total")
        return s3, sum(counted(f"http://{at}/metrics", "portolan_store_requests_total") for at in self.members)


runs = collections.defaultdict(list)


def measure(what, entry, *arguments):
    s3, all_stores = entry.requests()
    run = load(*arguments, *entry.pids)
    after_s3, after_all = entry.requests()
    run["s3"] = (after_s3 - s3) / run["requests"]
    # Of both stores by Portolan's own count; one of S3 may be several of those that the store counts.
    run["stores"] = (after_all - all_stores) / run["requests"]
    runs[what, entry.name].append(run)


entries, seeds = [], {}
for registry in options.registries:
    name, at, pids = registry.split("=")
    members, pids = at.split(","), pids.split(",")
    repository = "bench/one"
    if len(members) > 1:
        # A repository of the first member: the one that a pull through the second is forwarded for.
        for n in range(100):
            repository = f"bench/r{n}"
            load("seed", members[0], repository)
            before = counted(f"http://{members[0]}/metrics", "portolan_forwards_total")
            load("pull", members[0], f"/v2/{repository}/manifests/latest", 1, 1)
            if counted(f"http://{members[0]}/metrics", "portolan_forwards_total") == before:
                break
    seed = load("seed", members[0], repository)
    ways = ["at the owner", "through a non-owner"] if len(members) > 1 else [""]
    for way, member in zip(ways, members):
        entry = Entry(f"{name} {way}".strip(), member, pids, members if len(members) > 1 else [])
        entries.append(entry)
        seeds[entry.name] = (repository, seed)

for number in range(options.rounds):
    print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    for what, (size, clients, requests) in PULLS.items():
        for entry in entries:
            measure(what, entry, "pull", entry.at, seeds[entry.name][1][str(size)], clients, requests)
        for yardstick in options.yardsticks:
            name, at, pids = yardstick.split("=")
            runs[what, name].append(load("pull", at, f"/{size}", clients, requests, f"hop={pids}"))
    for what, how in PUSHES.items():
        for entry in entries:
            measure(what, entry, "push", entry.at, seeds[entry.name][0], how, GIB, 1)
    for entry in entries:
        measure(MANIFEST, entry, "pull", entry.at, seeds[entry.name][1]["manifest"], 32, 4000)


def median(values):
    return statistics.median(list(values) or [0])


def cost(run, *roles):
    """Seconds a GiB of these processes; milliseconds a request where the requests are small."""
    seconds = sum(cpu["cpu_s"] for role, cpu in run["processes"].items() if role in roles)
    large = run["bytes"] / run["requests"] >= 1 << 20
    return seconds * GIB / run["bytes"] if large else seconds * 1e3 / run["requests"]


print(f"{options.rounds} rounds, medians. {os.cpu_count()} processors, Linux {platform.release()}.")
for what in [*PULLS, *PUSHES, MANIFEST]:
    unit = "CPU s/GiB" if what in PUSHES or "MiB" in what else "CPU ms"
    print(f"\n{what}\n  {'':32} {unit:>10} {'owner':>7} {'front':>7} {'store':>7} {'MB/s':>8} {'req/s':>9} {'p99 ms':>8} {'peak MiB':>9} {'S3':>6} {'stores':>7}")
    own = {}
    for (measured, name), found in runs.items():
        if measured != what:
            continue
        one = lambda *roles: median(cost(run, *roles) for run in found)
        peaks = [max(run["processes"].get(role, {}).get("peak_mib", 0) for run in found) for role in ("owner", "front", "hop")]
        rate = median(run["bytes"] / 1e6 / run["secs"] for run in found)
        requests = median(run["requests"] / run["secs"] for run in found)
        own[name] = (one("owner", "front", "hop"), rate, requests, found)
        print(
            f"  {name:32} {own[name][0]:10.3f} {one('owner'):7.3f} {one('front'):7.3f} {one('store'):7.2f} {rate:8.0f} {requests:9.1f}"
            f" {median(run['p99_ms'] for run in found):8.1f} {sum(peaks):9} {median(run.get('s3', 0) for run in found):6.2f}"
            f" {median(run.get('stores', 0) for run in found):7.2f}"
        )
    mine = own.get("portolan through a non-owner")
    for other, (spent, rate, requests, found) in own.items():
        if mine and other != "portolan through a non-owner":
            # In the same round; a yardstick's hop is what it takes beyond the source.
            pairs = list(zip(mine[3], found))
            ratio = median(theirs["secs"] / theirs["requests"] / (ours["secs"] / ours["requests"]) for ours, theirs in pairs)
            more = median(cost(ours, "owner", "front") - cost(theirs, "owner", "front", "hop") for ours, theirs in pairs)
            print(f"    through a non-owner against {other}: {ratio:.2f} x its rate, {more:+.3f} {unit}")
    if "source" in own:
        for name in ("http1", "grpc"):
            if name in own:
                print(f"    the hop of {name}: {own[name][0] - own['source'][0]:.3f} {unit}")

"""Plants the garbage of benches/collect, and watches who collects it. Not started by hand."""

import argparse
import concurrent.futures
import hashlib
import http.client
import itertools
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request

# Seconds: storage.trashDelay, and as long as clocks may differ.
WAIT = 60 + 300
IMAGE = "application/vnd.oci.image.manifest.v1+json"

parser = argparse.ArgumentParser()
parser.add_argument("--blobs", type=int, required=True)
parser.add_argument("--s3-metrics", required=True)
parser.add_argument("--filer", required=True)
parser.add_argument("--docker", required=True)
parser.add_argument("--members", type=lambda text: text.split(), required=True)
parser.add_argument("what", choices=["plant", "garbage-collect", "portolan"])
parser.add_argument("command", nargs=argparse.REMAINDER)
options = parser.parse_args()


class Door:
    """A connection that stays, of one thread."""

    threads = threading.local()

    @classmethod
    def ask(cls, at, method, target, body=None, headers={}):
        of = cls.threads.__dict__
        for is_again in (False, True):
            if at not in of:
                of[at] = http.client.HTTPConnection(at, timeout=60)
            try:
                of[at].request(method, target, body, headers)
                answer = of[at].getresponse()
                answer.read()
                return answer
            except (http.client.HTTPException, OSError):
                del of[at]
                if is_again:
                    raise


def must(answer, *statuses):
    if answer.status not in statuses:
        sys.exit(f"{answer.status} instead of {statuses}")
    return answer


def blob(n):
    content = f"garbage {n}".encode().ljust(200, b".")
    return content, hashlib.sha256(content).hexdigest()


def push(at, repository, content):
    """A whole push, as both understand it."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    started = must(Door.ask(at, "POST", f"/v2/{repository}/blobs/uploads/", b""), 202)
    location = re.sub(r"^https?://[^/]+", "", started.getheader("Location"))
    location += ("&" if "?" in location else "?") + "digest=" + digest
    must(Door.ask(at, "PUT", location, content, {"Content-Type": "application/octet-stream"}), 201)
    return digest


def push_image(at, repository, note):
    config, layer = json.dumps({"config": {"Labels": {"note": note}}}).encode(), note.encode()
    described = [
        {"mediaType": kind, "digest": push(at, repository, content), "size": len(content)}
        for kind, content in (
            ("application/vnd.oci.image.config.v1+json", config),
            ("application/vnd.oci.image.layer.v1.tar", layer),
        )
    ]
    manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": described[0], "layers": described[1:]}
    must(Door.ask(at, "PUT", f"/v2/{repository}/manifests/v1", json.dumps(manifest), {"Content-Type": IMAGE}), 201)


def plant_portolan(n):
    content, digest = blob(n)
    at = options.members[n % len(options.members)]
    target = f"/v2/garbage/r{n % 100}/blobs/uploads/?digest=sha256:{digest}"
    must(Door.ask(at, "POST", target, content, {"Content-Type": "application/octet-stream"}), 201)


def plant_docker(n):
    content, digest = blob(n)
    layer = f"repositories/garbage/r{n % 100}/_layers/sha256/{digest}/link"
    for path, content in ((f"blobs/sha256/{digest[:2]}/{digest}/data", content), (layer, f"sha256:{digest}".encode())):
        must(Door.ask(options.filer, "PUT", f"/buckets/docker/docker/registry/v2/{path}", content), 200, 201)


def plant():
    push_image(options.docker, "kept", "kept")
    push_image(options.members[0], "kept", "kept")
    for name, one in (("Portolan", plant_portolan), ("docker-registry", plant_docker)):
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for _ in pool.map(one, range(options.blobs), chunksize=1):
                pass
        print(f"{options.blobs} blobs planted for {name} in {time.monotonic() - began:.0f} s", flush=True)


def counted(url, name, *labels):
    """The sum of a counter over all its labels that has these."""
    text = urllib.request.urlopen(url, timeout=30).read().decode()
    rows = re.findall(rf"^{name}((?:{{[^}}]*}})?) ([0-9.e+]+)", text, re.M)
    return sum(float(n) for of, n in rows if all(label in of for label in labels))


def of_members(name, *labels):
    return sum(counted(f"http://{at}/metrics", name, *labels) for at in options.members)


def s3_requests():
    return counted(options.s3_metrics, "SeaweedFS_s3_request_total")


def told(name, seconds, s3, more=""):
    print(f"{name}: {options.blobs} blobs in {seconds:.1f} s, {s3:.0f} requests to S3{more}", flush=True)


def garbage_collect():
    before, began = s3_requests(), time.monotonic()
    run = subprocess.run(options.command, capture_output=True, text=True)
    seconds = time.monotonic() - began
    deleted = run.stdout.count("\nblob eligible for deletion")
    if run.returncode or deleted < options.blobs:
        sys.exit(f"{deleted} deleted, exit {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    told("docker-registry garbage-collect", seconds, s3_requests() - before)


def asked(store, *labels):
    return of_members("portolan_store_requests_total", f'store="{store}"', *labels)


def collected(kind, outcome):
    return of_members("portolan_upkeep_rows_total", f'kind="{kind}"', f'outcome="{outcome}"')


def until(what):
    while not what():
        time.sleep(0.5)
    return time.monotonic()


def portolan():
    end, pushed = threading.Event(), itertools.count()

    def pushes():
        while not end.wait(1):
            push_image(options.members[0], "meanwhile", f"layer {next(pushed)}")

    # What is pushed before would be looked at amid the garbage, and counted.
    pushing = threading.Thread(target=pushes)
    began = until(lambda: collected("link", "done"))
    s3, meta = asked("blobs"), asked("meta")
    pushing.start()
    links = until(lambda: collected("link", "done") >= options.blobs)
    ended = until(lambda: collected("object", "later") >= options.blobs)
    end.set()
    pushing.join()
    s3, meta = asked("blobs") - s3, asked("meta") - meta
    deletes = asked("blobs", 'operation="delete many"')
    more = f" of which {deletes:.0f} delete, {meta / options.blobs:.2f} to DynamoDB a blob; {next(pushed)} images were pushed meanwhile"
    told("Portolan", ended - began - WAIT, s3, more)
    print(f"  links {links - began:.1f} s, all {ended - began:.1f} s, of which it waits {WAIT} before it deletes an object")


{"plant": plant, "garbage-collect": garbage_collect, "portolan": portolan}[options.what]()

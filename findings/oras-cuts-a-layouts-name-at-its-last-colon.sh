#!/usr/bin/env bash
# skopeo and oras read the same words for an image in a layout differently: `everything:library/alpine:3`.
#
# An image layout may name its images by whole references (image-spec, annotations: `library/alpine:3` is an
# org.opencontainers.image.ref.name). `skopeo inspect oci:DIR:NAME` cuts at the first colon, so it finds the image; `oras resolve
# --oci-layout DIR:NAME` (v1.3.6) cuts at the last one, and looks for a folder called `everything:library/alpine`. One expects the
# name after the folder in both, as with the tag alone, which both read. With oras the folder has to be said by itself:
# `--oci-layout-path DIR NAME`. Seen, after the digest (skopeo 1.9.3):
#   skopeo  v1: same   library/alpine:3: same
#   oras    v1: same   library/alpine:3: stat everything:library/alpine: no such file or directory   by --oci-layout-path: same
# Exits with 0 as long as this is so. Needs go, python3 and skopeo.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
GOBIN=$work GOFLAGS=-modcacherw go install oras.land/oras/cmd/oras@v1.3.6

digest=$(
  python3 - <<'END'
import hashlib, json, os

os.makedirs("everything/blobs/sha256")

def put(content):
    name = hashlib.sha256(content).hexdigest()
    with open("everything/blobs/sha256/" + name, "wb") as blob:
        blob.write(content)
    return {"digest": "sha256:" + name, "size": len(content)}

kind = "application/vnd.oci.image."
config = put(b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}')
manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "layers": [],
            "config": {"mediaType": kind + "config.v1+json", **config}}
image = {"mediaType": kind + "manifest.v1+json", **put(json.dumps(manifest).encode())}
names = [{**image, "annotations": {"org.opencontainers.image.ref.name": name}} for name in ("v1", "library/alpine:3")]
with open("everything/index.json", "w") as index:
    json.dump({"schemaVersion": 2, "manifests": names}, index)
with open("everything/oci-layout", "w") as layout:
    layout.write('{"imageLayoutVersion": "1.0.0"}')
print(image["digest"])
END
)
echo "$digest"
for name in v1 library/alpine:3; do
  [ "$(skopeo inspect --format '{{.Digest}}' "oci:everything:$name")" = "$digest" ]
  [ "$(./oras resolve --oci-layout-path everything "$name")" = "$digest" ]
done
[ "$(./oras resolve --oci-layout everything:v1)" = "$digest" ]
if refusal=$(./oras resolve --oci-layout everything:library/alpine:3 2>&1); then exit 1; fi
grep -F 'stat everything:library/alpine: no such file or directory' <<<"$refusal"

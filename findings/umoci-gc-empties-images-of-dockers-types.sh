#!/usr/bin/env bash
# Collecting garbage in an OCI layout deletes the layers of an image that is tagged in it.
#
# umoci v0.6.0 (Debian's 0.4.7 does the same) follows references through the media types that it knows, which are OCI's. A
# manifest of docker's types in an OCI layout, which the image specification allows ("media types in the index are not
# restricted") and which `oras copy --to-oci-layout`, `crane pull --format=oci` and `regctl image copy` write of any image
# that docker pushed, is kept as a leaf: `umoci gc` takes what it names, config and layers, for garbage. It exits with 0 and
# says nothing; the same image under OCI's media types stays whole. Seen:
#   docker's types: exit 0, 1 of 3 blobs left
#   OCI's types:    exit 0, 3 of 3 blobs left
# Exits with 0 as long as this is so. Needs go and python3.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

# It has a replacement in its go.mod, so it is built where its source is.
source=$(go mod download -json github.com/opencontainers/umoci@v0.6.0 | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
cp -r "$source" source
chmod -R u+w source
(cd source && go build -buildvcs=false -o ../umoci ./cmd/umoci 2>/dev/null)

cat >layout.py <<'END'
import gzip, hashlib, io, json, os, sys, tarfile

def blob(data):
    name = hashlib.sha256(data).hexdigest()
    open(f"{folder}/blobs/sha256/{name}", "wb").write(data)
    return {"digest": f"sha256:{name}", "size": len(data)}

folder, manifest, config, layer = sys.argv[1:]
os.makedirs(f"{folder}/blobs/sha256")
tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode="w") as files:
    files.addfile(tarfile.TarInfo("file"), io.BytesIO())
packed = gzip.compress(tar.getvalue(), mtime=0)
about = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
    "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar.getvalue()).hexdigest()]}}
image = blob(json.dumps({
    "schemaVersion": 2, "mediaType": manifest,
    "config": {"mediaType": config, **blob(json.dumps(about).encode())},
    "layers": [{"mediaType": layer, **blob(packed)}]}).encode())
json.dump({"schemaVersion": 2, "manifests": [
    {"mediaType": manifest, **image, "annotations": {"org.opencontainers.image.ref.name": "1.0"}}]},
    open(f"{folder}/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{folder}/oci-layout", "w"))
END
docker=application/vnd.docker
python3 layout.py of-docker $docker.distribution.manifest.v2+json $docker.container.image.v1+json $docker.image.rootfs.diff.tar.gzip
oci=application/vnd.oci.image
python3 layout.py of-oci $oci.manifest.v1+json $oci.config.v1+json $oci.layer.v1.tar+gzip

# left LAYOUT: collects its garbage.
left() {
  ./umoci gc --layout "$1"
  find "$1/blobs" -type f | wc -l
}
docker=$(left of-docker)
oci=$(left of-oci)
echo "docker's types: exit 0, $docker of 3 blobs left"
echo "OCI's types:    exit 0, $oci of 3 blobs left"
[ "$docker" -eq 1 ] && [ "$oci" -eq 3 ]

# shellcheck shell=bash
# Clients of what isn't an image: artifacts, charts, signatures, models. Sourced by tests/clients.sh;
# tests/lib/clients.sh says what is set.

oras_client() {
  local digest sbom signature member copy
  version="oras $(go_tool_version oras)"
  mkdir "$scratch/oras"
  cp "$layers/libraries.tar.gz" "$scratch/oras/"
  echo '{"bomFormat": "CycloneDX"}' >"$scratch/oras/sbom.json"
  echo 'signed by nobody' >"$scratch/oras/signature.txt"
  : >"$scratch/oras/empty"

  know="\`--plain-http\` where there is no TLS."
  did "pushes a file" oras_adds push "$push" artifact libraries.tar.gz:application/gzip
  digest=$(digest_shown)
  did "pulls" oras pull --plain-http --no-tty -o "$scratch/oras-pulled" "$pull/$repository:v1"
  check "its file is that of the push" cmp "$layers/libraries.tar.gz" "$scratch/oras-pulled/libraries.tar.gz"
  equal "its digest is that of the push" "$digest" "$(said oras resolve --plain-http "$pull/$repository:v1")"

  did "attaches an SBOM" oras_adds attach "$pull" sbom sbom.json:application/json
  sbom=$(digest_shown)
  did "attaches a signature" oras_adds attach "$push" signature signature.txt:text/plain
  signature=$(digest_shown)
  did "discovers by type" oras discover --plain-http --artifact-type application/vnd.portolan.sbom "$pull/$repository:v1"
  for member in "${members[@]}"; do
    equal "oras discovers two referrers through $member" \
      "$(printf '%s\n' "$sbom" "$signature" | sort)" "$(oras_discovers "$member")"
    equal "oras discovers one of them by its type through $member" \
      "$sbom" "$(oras_discovers "$member" --artifact-type application/vnd.portolan.sbom)"
  done
  # Where the referrers API is missing, a client keeps the list under a tag.
  equal "oras needed no tag for them" v1 "$(said oras repo tags --plain-http "$pull/$repository")"
  copy=$(repository_below copy)
  did "copies with referrers" oras cp --recursive --from-plain-http --to-plain-http --no-tty \
    "$pull/$repository:v1" "$push/$copy:v1"
  did "pushes an empty file" oras_adds push "$push" empty empty:text/plain v2
  equal_through_all "$repository" v1 "$digest"
  equal_through_all "$copy" v1 "$digest"
}

# oras_adds push|attach MEMBER TYPE FILE:MEDIA-TYPE [TAG]: prints the digest of the new manifest.
oras_adds() (
  cd "$scratch/oras"
  timeout 180 oras "$1" --plain-http --no-tty --format json --artifact-type "application/vnd.portolan.$3" \
    "$2/$repository:${5:-v1}" "$4" | python3 -c 'import json, sys; print(json.load(sys.stdin)["digest"])'
)

# oras_discovers MEMBER OPTION...: prints the digests of the referrers, in order.
oras_discovers() {
  local member=$1
  shift
  said oras discover --plain-http --format json "$@" "$member/$repository:v1" | said python3 -c '
import json, sys
print(*sorted(referrer["digest"] for referrer in json.load(sys.stdin)["referrers"]), sep="\n")'
}

helm_3_client() { helm_with "$tools_bin/helm3"; }
helm_4_client() { helm_with "$tools_bin/helm4"; }

# helm_with HELM
helm_with() {
  local helm=$1 charts=$scratch/$client
  version="helm $(go_tool_version "$(basename "$1")")"
  mkdir "$charts"
  check "helm makes a chart" "$helm" create "$charts/chart"
  check "helm packages it" "$helm" package --version 0.1.0+build.5 --destination "$charts" "$charts/chart"
  know="A \`+\` in a chart's version is a \`_\` in its tag. \`--plain-http\` where there is no TLS. The manifest has no \`mediaType\`."
  did "pushes a chart" "$helm" push --plain-http "$charts/chart-0.1.0+build.5.tgz" "oci://$push/$repository"
  mkdir "$charts/pulled"
  did "pulls a version" "$helm" pull --plain-http "oci://$pull/$repository/chart" --version 0.1.0+build.5 \
    --destination "$charts/pulled"
  check "the chart is that of the push" cmp "$charts/chart-0.1.0+build.5.tgz" "$charts/pulled/chart-0.1.0+build.5.tgz"
  did "looks for the newest of a range" "$helm" show chart --plain-http "oci://$pull/$repository/chart" --version '^0.1.0-0'
}

cosign_2_client() { cosign_with cosign2 --tlog-upload=false --use-signing-config=false; }

cosign_3_client() {
  # Of no services, for nothing here reaches Sigstore's.
  check "cosign makes a signing configuration" "$tools_bin/cosign3" signing-config create --out "$scratch/signing.json"
  cosign_with cosign3 --signing-config="$scratch/signing.json"
  know="\`cosign copy\`, or \`save\` and \`load\`, leave the signature behind, whatever the registry."
  did "is taken elsewhere by oras, with its signature" oras copy --recursive --from-plain-http --to-plain-http \
    "$pull/$repository:v1" "$push/$repository-elsewhere:v1"
  check "its signature is good there, too" "$tools_bin/cosign3" verify --key "$scratch/cosign3.pub" \
    --insecure-ignore-tlog=true --allow-insecure-registry --allow-http-registry "$pull/$repository-elsewhere:v1"
}

# cosign_with NAME SIGNING-OPTION...
cosign_with() {
  local cosign=$tools_bin/$1 digest keys=$scratch/$1
  version="cosign $(go_tool_version "$1")"
  shift
  export COSIGN_PASSWORD=
  digest=$(layout_digest "$image")
  check "there is an image to sign" skopeo copy --preserve-digests --dest-tls-verify=false \
    "oci:$image:v1" "docker://$push/$repository:v1"
  check "cosign makes keys" "$cosign" generate-key-pair --output-key-prefix "$keys"
  know="\`--allow-insecure-registry --allow-http-registry\` where there is no TLS."
  did "signs with a key" "$cosign" sign --yes --key "$keys.key" "$@" \
    --allow-insecure-registry --allow-http-registry "$push/$repository@$digest"
  did "verifies" "$cosign" verify --key "$keys.pub" --insecure-ignore-tlog=true \
    --allow-insecure-registry --allow-http-registry "$pull/$repository@$digest"
  did "shows the tree" "$cosign" tree --allow-insecure-registry --allow-http-registry "$pull/$repository@$digest"
}

ollama_client() {
  local models=$scratch/models
  version="ollama $(go_tool_version ollama-transfer "$tools_bin" github.com/ollama/ollama), its transfer alone"
  ollama_model "$models" "$push" "$repository"
  know="Behind a balancer, set \`http.externalUrl\`: ollama takes no \`Location\` without a host."
  did "pushes a model of 130 MB" env OLLAMA_MODELS="$models" ollama-transfer push "http://$push/$repository:v1"
  did "pulls it" env OLLAMA_MODELS="$models-pulled" ollama-transfer pull "http://$pull/$repository:v1"
  check "its blobs are those of the push" diff -r "$models/blobs" "$models-pulled/blobs"
}

# ollama_model FOLDER HOST MODEL: a model as ollama keeps it: weights of 130 MB, which it sends in two pieces.
ollama_model() {
  python3 - "$@" <<'END'
import hashlib, json, os, sys
folder, host, model = sys.argv[1:]
os.makedirs(f"{folder}/blobs")
os.makedirs(f"{folder}/manifests/{host}/{model}")

def layer(kind, content):
    digest = hashlib.sha256(content).hexdigest()
    with open(f"{folder}/blobs/sha256-{digest}", "wb") as blob:
        blob.write(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

with open(f"{folder}/manifests/{host}/{model}/v1", "w") as manifest:
    json.dump({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
               "config": layer("application/vnd.docker.container.image.v1+json", b'{"model_format": "gguf"}'),
               "layers": [layer("application/vnd.ollama.image.model", os.urandom(130_000_000))]}, manifest)
END
}

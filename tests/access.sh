#!/usr/bin/env bash
# Logging in, as real clients do it, on a mesh of three members that wants it: once by passwords (htpasswd), once by tokens
# of a service that speaks docker's token protocol. By both, the official conformance suite goes through a member that owns
# neither repository, and the clients log in, push through one member and pull through another; who has no login, a wrong
# one, or one for reading only is refused. At the end no log has a secret in it.
#
# usage: tests/access.sh [passwords|tokens]...    both when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/conformance.sh
. tests/lib/logins.sh

crane() { timeout 180 crane "$@"; }
skopeo() { timeout 180 skopeo "$@"; }
podman() { timeout 180 podman "$@"; }
buildah() { timeout 180 buildah "$@"; }
oras() { timeout 180 oras "$@"; }

# status CURL-ARGUMENT...: the status of an answer.
status() { ask -o /dev/null -w '%{http_code}' "$@" 2>>"$logs/clients.log" || true; }

conformance_through_non_owner() {
  local version=$1 name=$2 before
  before=$(forwards)
  say "conformance $version by $push, which owns neither repository, as pusher"
  OCI_USERNAME=pusher OCI_PASSWORD=$pusher_secret \
    suite "$version" "$name" "$push" "$(repository_owned_by "$owner" "$name/first")" \
    "$(repository_owned_by "$owner" "$name/second")"
  check "its requests were forwarded" test "$(forwards)" -gt "$before"
}

# clients_log_in PREFIX
clients_log_in() {
  local repository
  repository=$(repository_owned_by "$owner" "$1")
  skopeo_logs_in "$repository-skopeo"
  podman_logs_in "$repository-podman"
  buildah_logs_in "$repository-buildah"
  oras_logs_in "$repository-oras"
}

skopeo_logs_in() {
  check "skopeo pushes with --dest-creds" skopeo copy --preserve-digests --dest-tls-verify=false \
    --dest-creds "pusher:$pusher_secret" "oci:$image:v1" "docker://$push/$1:v1"
  check "skopeo pulls with --src-creds of a reader" skopeo copy --preserve-digests --src-tls-verify=false \
    --src-creds "reader:$reader_secret" "docker://$pull/$1:v1" "oci:$scratch/pulled/${1//\//-}:v1"
  equal "its digest is that of the push" "$(layout_digest "$image")" "$(layout_digest "$scratch/pulled/${1//\//-}")"
  refused "skopeo can't push as a reader" skopeo copy --dest-tls-verify=false \
    --dest-creds "reader:$reader_secret" "oci:$image:v1" "docker://$push/$1:v2"
  refused "skopeo can't pull with a wrong password" skopeo inspect --tls-verify=false \
    --creds "reader:wrong" "docker://$pull/$1:v1"
  refused "skopeo can't pull without a login" skopeo inspect --tls-verify=false --no-creds "docker://$pull/$1:v1"
}

# stored TOOL ARGUMENT...: podman or buildah with a storage of its own.
stored() {
  local tool=$1 storage=$scratch/storage-$1
  shift
  "$tool" --root "$storage" --runroot "$storage-run" --storage-driver vfs "$@"
}

podman_logs_in() {
  local id
  refused "podman can't log in with a wrong password" \
    stored podman login --tls-verify=false -u pusher -p wrong "$push"
  check "podman logs in" stored podman login --tls-verify=false -u pusher -p "$pusher_secret" "$push"
  check "podman logs in at another member" stored podman login --tls-verify=false -u reader -p "$reader_secret" "$pull"
  id=$(said stored podman pull --quiet "docker-archive:$image.tar")
  check "podman pushes" stored podman push --tls-verify=false "$id" "docker://$push/$1:v1"
  check "podman pulls what it pushed" stored podman pull --tls-verify=false "$pull/$1:v1"
  check "podman logs out" stored podman logout "$push"
  refused "podman can't push any more" stored podman push --tls-verify=false "$id" "docker://$push/$1:v2"
}

buildah_logs_in() {
  local container
  check "buildah logs in" stored buildah login --tls-verify=false -u pusher -p "$pusher_secret" "$push"
  container=$(said stored buildah from scratch)
  check "buildah commits an image" stored buildah commit --format oci "$container" built
  check "buildah pushes it" stored buildah push --tls-verify=false built "docker://$push/$1:v1"
  check "buildah logs out" stored buildah logout "$push"
}

crane_logs_in() {
  check "crane logs in" crane auth login --insecure -u pusher -p "$pusher_secret" "$push"
  check "crane logs in at another member" crane auth login --insecure -u reader -p "$reader_secret" "$pull"
  check "crane pushes" crane append --insecure --oci-empty-base -t "$push/$1:v1" -f "$layers/text.tar.gz"
  check "crane validates it" crane validate --insecure --remote "$pull/$1:v1"
  check "crane copies it to another repository" crane copy --insecure "$push/$1:v1" "$push/$1-copy:v1"
  check "crane logs out" crane auth logout "$push"
  refused "crane can't push any more" \
    crane append --insecure --oci-empty-base -t "$push/$1:v2" -f "$layers/text.tar.gz"
}

oras_logs_in() {
  refused "oras can't log in with a wrong password" \
    oras login --plain-http -u pusher -p wrong "$push"
  check "oras logs in" oras login --plain-http -u pusher -p "$pusher_secret" "$push"
  check "oras pushes" oras push --plain-http --no-tty --disable-path-validation --artifact-type application/vnd.portolan.text \
    "$push/$1:v1" "$layers/text.tar.gz:application/gzip"
  check "oras logs out" oras logout "$push"
}

part_passwords() {
  local key id
  mesh_start_with_passwords
  parties
  # Who has a password gets tokens of the registry's own with it. The suite's name one repository each, so its mounts from others
  # become uploads, and what it would ask of them is skipped.
  suite_floor=681 conformance_through_non_owner 1.1 passwords
  clients_log_in access/passwords
  # Not by tokens: crane refuses a realm at a loopback address, and oras one at a name that leads there.
  crane_logs_in "$(repository_owned_by "$owner" access/passwords)-crane"

  equal "who has no login may not even ask" 401 "$(status "http://$push/v2/")"
  equal "a reader who pushes is refused" 403 \
    "$(status -u "reader:$reader_secret" -X POST "http://$push/v2/access/x/blobs/uploads/")"
  key=$(said ask -u "pusher:$pusher_secret" -X POST -d '{"label": "tests"}' "http://$push/zot/auth/apikey")
  id=$(said python3 -c 'import json, sys; print(json.loads(sys.argv[1])["uuid"])' "$key")
  key=$(said python3 -c 'import json, sys; print(json.loads(sys.argv[1])["apiKey"])' "$key")
  equal "an API key logs in at another member" 200 "$(status -u "pusher:$key" "http://$pull/v2/")"
  check "it is revoked" ask -u "pusher:$pusher_secret" -X DELETE "http://$owner/zot/auth/apikey?id=$id"
  equal "and logs in nowhere" 401 "$(status -u "pusher:$key" "http://$pull/v2/")"
  check "the audit names who pushed what, by which member and to which" audit_has \
    user=pusher action=manifest_put outcome=done front="$push" owner="$owner"
  check "and who was denied" audit_has user=reader action=upload_start outcome=denied front="$push"
  check "and who made a key" audit_has user=pusher action=api_key_create outcome=done subject="$id"
  part_end "$key"
}

part_tokens() {
  mesh_start_with_tokens
  parties
  # As above.
  suite_floor=781 conformance_through_non_owner dev tokens
  clients_log_in access/tokens
  equal "who has no token is told where to get one" 1 \
    "$(said curl -q --noproxy '*' -sS -D - -o /dev/null "http://$push/v2/x/tags/list" | grep -ci \
      "^www-authenticate: Bearer realm=\"$realm\",service=\"$service\",scope=\"repository:x:pull\"")"
  check "the audit names who pushed what" audit_has user=pusher action=manifest_put outcome=done front="$push" owner="$owner"
  part_end
  token_service_stop
}

# audit_has FIELD=VALUE...: whether a line of the audit says all of these.
audit_has() {
  python3 - "$logs/audit.log" "$@" <<'PY'
import json, sys
wanted = dict(pair.split("=", 1) for pair in sys.argv[2:])
lines = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(not any(all(line.get(name) == value for name, value in wanted.items()) for line in lines))
PY
}

parties() { push=${members[0]} pull=${members[1]} owner=${members[2]}; }

# part_end [SECRET]...
part_end() {
  diagnose 127.0.0.1 Members >"$logs/diagnostics.json"
  diagnose 127.0.0.1 Forwards >>"$logs/diagnostics.json"
  diagnose 127.0.0.1 Counters >>"$logs/diagnostics.json"
  mesh_stop
  no_secrets_in_logs "$@"
  rm "$logs/audit.log"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(passwords tokens)
for part in "${parts[@]}"; do
  case $part in passwords | tokens) ;; *) die "no such part: $part (see the head of $0)" ;; esac
done

report_begin access
need_access
user_settings_none
logins_prepare
layers=$scratch/layers image=$scratch/image
mkdir "$layers" "$scratch/pulled"
image_layers "$layers"
image_layout "$layers" "$image"
for part in "${parts[@]}"; do "part_$part"; done

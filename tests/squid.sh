#!/usr/bin/env bash
# A shared cache before the mesh: Squid as Debian has it, but for its port and folders. What one got with a login is for nobody
# else; what everybody may read is kept, for no longer than `http.publicMaxAge`, so that a deletion holds after that; a tag that
# is moved is moved at once. All of it through a member that owns neither repository.
#
# usage: tests/squid.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/mesh.sh
. tests/lib/image.sh
. tests/lib/logins.sh

public_max_age=4

mesh_start_half_public() {
  htpasswd -nbB pusher "$pusher_secret" >"$logins/users"
  htpasswd -nbB reader "$reader_secret" >>"$logins/users"
  cat >"$logins/half.json" <<JSON
{
  "storage": { "rootDirectory": "$scratch/unused" },
  "http": {
    "publicMaxAge": "${public_max_age}s",
    "auth": { "htpasswd": { "path": "$logins/users" } },
    "accessControl": {
      "repositories": {
        "public/**": { "anonymousPolicy": ["read"],
                       "policies": [ { "users": ["pusher"], "actions": ["read", "create", "update", "delete"] } ] },
        "private/**": { "policies": [ { "users": ["pusher"], "actions": ["read", "create", "update", "delete"] },
                                      { "users": ["reader"], "actions": ["read"] } ] }
      }
    }
  }
}
JSON
  mesh_options=(--config "$logins/half.json")
  mesh_start
}

squid_start() {
  local folder=$scratch/squid
  squid=127.0.0.1:$(python3 tests/lib/free_ports.py 127.0.0.1 | cut -d ' ' -f 1)
  mkdir "$folder"
  sed -e "s|^http_port .*|http_port $squid|" -e "s|^coredump_dir .*|coredump_dir $folder|" /etc/squid/squid.conf >"$folder/squid.conf"
  cat >>"$folder/squid.conf" <<END
pid_filename $folder/squid.pid
cache_log $folder/cache.log
access_log $folder/access.log
shutdown_lifetime 1 seconds
END
  # As root it becomes another user, who writes there.
  [ "$(id -u)" -ne 0 ] || chown -R proxy "$folder" && chmod o+x "$scratch"
  process_start "$logs/squid.log" squid --foreground -f "$folder/squid.conf"
  squid_pid=$started_pid
  wait_for 30 "$squid_pid" squid_asked "http://$push/livez" || die "Squid did not start"
  say "$(squid --version | head -n 1) at $squid"
}

squid_asked() { curl -q -fsS --max-time 10 -x "http://$squid" "$@"; }

# by_squid CURL-ARGUMENT...: the status of an answer.
by_squid() { squid_asked -o /dev/null -w '%{http_code}' "$@" 2>>"$logs/clients.log" || true; }

# hits ADDRESS: how often Squid gave it, or one below it, without asking the member.
hits() { grep -c -E "TCP_(MEM_|IMS_)?HIT.* [^ ]*$1" "$scratch/squid/access.log" || true; }

# pushed REPOSITORY: sets $addresses: what may be had of it by digest.
pushed() {
  local base=http://$push/v2/$1 digest
  check "skopeo pushes $1" skopeo copy --preserve-digests --dest-tls-verify=false \
    --dest-creds "pusher:$pusher_secret" "oci:$image:v1" "docker://$push/$1:v1"
  addresses=("$base/manifests/$(layout_digest "$image")")
  for digest in "$image"/blobs/sha256/*; do
    digest=sha256:${digest##*/}
    [ "$base/manifests/$digest" = "${addresses[0]}" ] || addresses+=("$base/blobs/$digest")
  done
}

private_is_kept_for_nobody() {
  local address
  for address in "${addresses[@]}" "http://$push/v2/$1/manifests/v1" "http://$push/v2/$1/tags/list"; do
    equal "a reader gets ${address#*/v2/}" 200 "$(by_squid -u "reader:$reader_secret" "$address")"
    [[ $address != *blobs* ]] ||
      equal "and a part of it" 206 "$(by_squid -u "reader:$reader_secret" -r 0-9 "$address")"
    equal "nobody gets it then" 401 "$(by_squid "$address")"
    [[ $address == *tags/list ]] || equal "nor its head" 401 "$(by_squid --head "$address")"
    equal "nor does who has a wrong password" 401 "$(by_squid -u reader:wrong "$address")"
  done
  equal "Squid gave none of it by itself" 0 "$(hits "/v2/$1/")"
}

public_is_kept_for_a_while() {
  local address tag=http://$push/v2/$1/manifests/v1
  for address in "${addresses[@]}"; do
    equal "who has a login gets ${address#*/v2/}" 200 "$(by_squid -u "pusher:$pusher_secret" "$address")"
    equal "so does nobody" 200 "$(by_squid "$address")"
    equal "and again" 200 "$(by_squid "$address")"
    check "Squid gave it by itself" test "$(hits "$address")" -gt 0
  done
  equal "nobody gets the tag" 200 "$(by_squid "$tag")"
  check "a tag is moved" skopeo copy --dest-tls-verify=false --dest-creds "pusher:$pusher_secret" \
    "oci:$other:v1" "docker://$push/$1:v1"
  equal "and is so by Squid at once" "$(layout_digest "$other")" "sha256:$(squid_asked "$tag" | sha256sum | cut -d ' ' -f 1)"
  # The manifest first, for it needs the rest.
  for address in "${addresses[@]}"; do
    equal "${address#*/v2/} is deleted" 202 \
      "$(ask -u "pusher:$pusher_secret" -o /dev/null -w '%{http_code}' -X DELETE "$address")"
  done
  sleep $((public_max_age + 1))
  for address in "${addresses[@]}"; do
    equal "and is gone by Squid after $public_max_age s" 404 "$(by_squid "$address")"
  done
}

report_begin squid
need_squid
user_settings_none
logins_prepare
mesh_start_half_public
push=${members[0]} owner=${members[2]}
squid_start
layers=$scratch/layers
mkdir "$layers"
layer "$layers/text.tar.gz" etc/os-release
layer "$layers/names.tar.gz" etc/hostname
image=$scratch/image other=$scratch/other
for made in "$image text" "$other names"; do
  read -r layout name <<<"$made"
  crane append --oci-empty-base -t portolan/image -f "$layers/$name.tar.gz" -o "$layout.tar" 2>>"$logs/clients.log"
  skopeo copy --quiet "docker-archive:$layout.tar" "oci:$layout:v1"
done
repository=$(repository_owned_by "$owner" private/app)
pushed "$repository"
private_is_kept_for_nobody "$repository"
repository=$(repository_owned_by "$owner" public/app)
pushed "$repository"
public_is_kept_for_a_while "$repository"
process_stop "$squid_pid" || true
mesh_stop

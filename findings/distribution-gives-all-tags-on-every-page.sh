#!/usr/bin/env bash
# distribution 2.8 gives all tags on every page, whatever is asked for, and not in order: who pages by them never ends.
#
# `GET /v2/<name>/tags/list?n=2&last=<tag>` is the two tags that follow that one, in byte order, by the specification and since
# docker's first description of the API. distribution 2.8 pages its catalogue in that way, and ignores both parameters at the list of
# tags. A client that asks for what follows the last tag it got, until nothing comes, gets the same tags again for ever; and they
# come in any order (b c a d, of a filesystem). Only the missing `Link` says that this is all. And a repository whose last
# manifest is gone stays in the catalogue, with a list of tags that is `null`, not `[]`. Debian's docker-registry 2.8.2. Seen:
#   n=2:        a b c d
#   n=2&last=d: a b c d
#   emptied:    {"name":"emptied","tags":null}
# (sorted here). Exits with 0 as long as this is so. Needs apt-get for Debian 12's package, curl and python3.
set -euo pipefail
work=$(mktemp -d)
registry=
trap 'kill $registry 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
unset REGISTRY_AUTH_FILE

apt-get -qq download 'docker-registry=2.8.2*' 2>apt.log || { cat apt.log && exit 1; }
dpkg -x docker-registry_*.deb debian
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >config.yml <<END
version: 0.1
storage: { inmemory: {}, delete: { enabled: true } }
http: { addr: "127.0.0.1:$port" }
END
url=http://127.0.0.1:$port/v2
ask() { curl -q --noproxy '*' -fsS "$@"; }
debian/usr/bin/docker-registry serve config.yml >registry.log 2>&1 &
registry=$!
for _ in $(seq 100); do
  ! ask -o /dev/null "$url/" 2>/dev/null || break
  sleep 0.1
done

# push REPOSITORY TAG: an image of its own, of which it prints the digest.
push() {
  local type=application/vnd.oci.image digest at
  digest=sha256:$(printf '{}' | sha256sum | cut -d ' ' -f 1)
  at=$(ask -D - -o /dev/null -X POST "$url/$1/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //Ip')
  ask -X PUT -H 'Content-Type: application/octet-stream' --data-binary '{}' "$at&digest=$digest"
  ask -D - -o /dev/null -X PUT -H "Content-Type: $type.manifest.v1+json" "$url/$1/manifests/$2" --data-binary "{
    \"schemaVersion\": 2, \"mediaType\": \"$type.manifest.v1+json\", \"layers\": [], \"annotations\": {\"tag\": \"$2\"},
    \"config\": {\"mediaType\": \"$type.config.v1+json\", \"digest\": \"$digest\", \"size\": 2}}" |
    tr -d '\r' | sed -n 's/^Docker-Content-Digest: //Ip'
}
tags() { ask -D head "$url/tagged/tags/list?$1" | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin)["tags"]))'; }

for tag in a b c d; do push tagged "$tag" >digest; done
ask -X DELETE "$url/emptied/manifests/$(push emptied only)"
first=$(tags n=2)
next=$(tags 'n=2&last=d')
linked=$(grep -ic '^link:' head || true)
emptied=$(ask "$url/emptied/tags/list")
page=$(ask "$url/_catalog?n=1&last=emptied")
catalogue=$(ask "$url/_catalog?n=1")
echo "n=2:        $first"
echo "n=2&last=d: $next"
echo "emptied:    $emptied"
[ "$first" = 'a b c d' ] && [ "$next" = "$first" ] && [ "$linked" = 0 ]
[ "$emptied" = '{"name":"emptied","tags":null}' ]
# The catalogue has its pages.
[ "$catalogue" = '{"repositories":["emptied"]}' ] && [ "$page" = '{"repositories":["tagged"]}' ]

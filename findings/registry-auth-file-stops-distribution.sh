#!/usr/bin/env bash
# REGISTRY_AUTH_FILE, where skopeo, podman and buildah look for credentials, keeps distribution from starting.
#
# distribution overrides its configuration by variables that begin with REGISTRY_: REGISTRY_AUTH_FILE is `auth.file` to it.
# The tools of containers-auth.json(5) read the path of their file of credentials from the very same name. In a shell that
# has it, for a CI job say, a registry with a valid configuration, which has no `auth` at all, ends at once with an error
# that names the configuration file's first line, where nothing is wrong. Debian's docker-registry 2.8.2; v3.1.2 does the
# same. Seen:
#   without: started
#   with:    configuration error: error parsing config.yml: yaml: unmarshal errors:   line 1: cannot unmarshal !!str `/tmp/...` into configuration.Parameters
# Exits with 0 as long as this is so. Needs apt-get for Debian 12's package, and python3.
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
storage: { inmemory: {} }
http: { addr: "127.0.0.1:$port" }
END
answers() { curl -q --noproxy '*' -fsS "http://127.0.0.1:$port/v2/" -o /dev/null 2>/dev/null; }

debian/usr/bin/docker-registry serve config.yml >without.log 2>&1 &
registry=$!
for _ in $(seq 100); do
  ! answers || break
  sleep 0.1
done
answers || { cat without.log && exit 1; }
echo "without: started"
kill "$registry"
wait "$registry" 2>/dev/null || true

echo '{ "auths": {} }' >auth.json
status=0
REGISTRY_AUTH_FILE=$work/auth.json timeout 10 debian/usr/bin/docker-registry serve config.yml >with.log 2>&1 || status=$?
echo "with:    $(grep -A 1 '^configuration error' with.log | paste -sd ' ')"
[ "$status" -ne 0 ] && [ "$status" -ne 124 ] && grep -q 'cannot unmarshal !!str .* into configuration.Parameters' with.log

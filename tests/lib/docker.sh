# shellcheck shell=bash
# Docker, old and new, each with a daemon of its own. Sourced, after report.sh, tools.sh and image.sh; never run. Needs root.

docker_20_start() { docker_start /usr/bin/docker /usr/sbin/dockerd; }

docker_29_start() {
  # It starts the containerd that it finds first.
  PATH=$target/tools/containerd-2:$PATH docker_start "$target/tools/docker-29/docker" "$target/tools/docker-29/dockerd"
}

# docker_start DOCKER DOCKERD: sets $docker, the client, which asks that daemon from now on. $docker_settings are its settings, if any.
docker_start() {
  local home=$scratch/$client
  [ "$(id -u)" -eq 0 ] || die "dockerd needs root"
  docker=$1
  mkdir "$home"
  echo "${docker_settings:-{\}}" >"$home/daemon.json"
  export DOCKER_HOST=unix://$home/docker.sock
  process_start "$logs/$client.log" "$2" --bridge=none --iptables=false --ip6tables=false --userland-proxy=false \
    --data-root "$home/data" --exec-root "$home/run" --pidfile "$home/docker.pid" --config-file "$home/daemon.json" \
    --host "$DOCKER_HOST" --insecure-registry 127.0.0.0/8
  docker_pid=$started_pid
  wait_for 60 "$docker_pid" "$docker" version || die "dockerd did not start"
}

# With nothing left here, all of a pull comes from the registry.
docker_forgets() { said "$docker" system prune --all --force >>"$logs/clients.log"; }

docker_stop() { process_stop "$docker_pid" || true; }

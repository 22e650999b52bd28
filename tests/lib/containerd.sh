# shellcheck shell=bash
# containerd, for its client ctr. Sourced, after report.sh and image.sh; never run. Needs root.

# containerd_start: an empty one, which ctr asks from now on. What one namespace has isn't there for another.
containerd_start() {
  [ "$(id -u)" -eq 0 ] || die "containerd needs root"
  export CONTAINERD_ADDRESS=$scratch/containerd.sock
  cat >"$scratch/containerd.toml" <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
END
  process_start "$logs/containerd.log" containerd --config "$scratch/containerd.toml" --root "$scratch/containerd" \
    --state "$scratch/containerd-run" --address "$CONTAINERD_ADDRESS"
  wait_for 60 "$started_pid" ctr version || die "containerd did not start"
}

# ctr_digest NAME [OPTION]...: of the image of that name.
ctr_digest() {
  local name=$1
  shift
  said ctr "$@" images ls "name==$name" | grep -o 'sha256:[0-9a-f]\{64\}' || true
}

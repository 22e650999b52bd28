# shellcheck shell=bash
# A mesh as people run it: three processes of `portolan serve` on SeaweedFS and dynoxide from the sample
# configuration, and HAProxy before them from the sample of that. Sourced, and brings with it what it is made of; never run.

. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/stores.sh
. tests/lib/certificates.sh
. tests/lib/mesh.sh

# Ports and configuration are the samples'; only addresses, certificates and endpoints are replaced.
cluster_sample=${PORTOLAN_TEST_CLUSTER:-deploy/cluster.json}
# The first three are started; a script may name more, for HAProxy to know them, and start them when it wants them.
cluster_hosts=(127.0.0.1 127.0.0.2 127.0.0.3)
# Set, there is no list of members: who has a certificate for this name is one.
cluster_san=
# Who is on that list, everybody when nobody is named.
cluster_listed=()
balancer_host=127.0.0.4
balancer=$balancer_host:8080

# cluster_start: the stores, the bucket, three members and the balancer, ready when it returns.
cluster_start() {
  cluster_members_start
  balancer_start
  say "cluster: ${members[*]:0:3} are ready, and HAProxy at $balancer"
}

# cluster_members_start: the same without the balancer. Sets what mesh.sh's questions go by.
cluster_members_start() {
  local host
  [ -x "$portolan" ] || die "there is no $portolan: run cargo build first"
  tls=$scratch/tls
  certificates_make "$tls" "${cluster_hosts[@]}" "$balancer_host"
  [ -z "$cluster_san" ] || for host in "${cluster_hosts[@]}"; do
    certificate "$tls/$host" "$tls/ca" "$(san "$host"),DNS:$cluster_san" serverAuth,clientAuth
  done
  stores_start
  bucket_make "$(sample storage.storageDriver.bucket)"
  mesh_port=9443 scheme=https mesh_ca=$tls/ca.crt mesh_pair=$tls/${cluster_hosts[0]}
  members=()
  for host in "${cluster_hosts[@]}"; do members+=("$host:$(sample http.port)"); done
  member_pids=() member_starts=0
  for host in "${cluster_hosts[@]}"; do member_configuration "$host" >"$scratch/$host.json"; done
  for i in 0 1 2; do member_start "$i"; done
  for i in 0 1 2; do member_ready "$i"; done
  wait_for 60 "${member_pids[0]}" members_know_each_other || die "the members don't know each other"
}

# member_before NUMBER: sets $before, what comes before the command that starts a member. Scripts may have their own.
member_before() { before=(); }

# member_start NUMBER: with a log for each start.
member_start() {
  local host=${cluster_hosts[$1]} before
  member_before "$1"
  member_starts=$((member_starts + 1))
  process_start "$logs/member-$host-$member_starts.log" "${before[@]}" "$portolan" serve "$scratch/$host.json"
  member_pids[$1]=$started_pid
}

# member_ready NUMBER
member_ready() {
  wait_for 60 "${member_pids[$1]}" ask "https://${members[$1]}/readyz" || die "${members[$1]} did not become ready"
}

# member_stop NUMBER: one check, that it drains on SIGTERM and says so with exit status 0.
member_stop() {
  local status=0
  process_stop "${member_pids[$1]}" || status=$?
  unset "member_pids[$1]"
  equal "on SIGTERM ${members[$1]} drains and exits with 0" 0 "$status"
}

# member_killed NUMBER: forgets it, when a SIGKILL has ended it.
member_killed() {
  local pid=${member_pids[$1]}
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  process_forget "$pid"
  unset "member_pids[$1]"
}

# sample KEY: a value of the sample configuration.
sample() {
  python3 -c '
import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[2].split("."), json.load(open(sys.argv[1]))))' \
    "$cluster_sample" "$1"
}

# member_configuration HOST: the sample with this machine's addresses, certificates and endpoints.
member_configuration() {
  python3 - "$cluster_sample" "$tls" "$1" "127.0.0.1:${member_s3_port:-$s3_port}" \
    "127.0.0.1:${member_dynamodb_port:-$dynamodb_port}" "$scratch/cache-$1" "$cluster_san" "${cluster_listed[@]:-${cluster_hosts[@]}}" <<'EOF'
import json, sys
sample, tls, host, s3, dynamodb, cache, san, *hosts = sys.argv[1:]
config = json.load(open(sample))
config["http"]["address"] = host
config["http"]["tls"] = {"cert": f"{tls}/{host}.crt", "key": f"{tls}/{host}.key"}
config["cluster"]["members"] = [f"{host}:{config['http']['port']}" for host in hosts]
config["cluster"]["tls"]["cacert"] = f"{tls}/ca.crt"
if san:
    del config["cluster"]["members"]
    config["cluster"]["tls"]["memberSan"] = san
config["storage"]["storageDriver"]["regionendpoint"] = s3
if "cache" in config["storage"]:
    config["storage"]["cache"]["path"] = cache
config["storage"]["cacheDriver"]["endpoint"] = f"http://{dynamodb}"
print(json.dumps(config, indent=2))
EOF
}

# balancer_start: HAProxy as in deploy/haproxy.cfg, but for the addresses and files, with its log on standard output.
balancer_start() {
  local config=$scratch/haproxy.cfg drop=() host
  cat "$tls/$balancer_host.crt" "$tls/$balancer_host.key" >"$tls/balancer.pem"
  # What only root can do.
  [ "$(id -u)" -eq 0 ] || drop=(-e '/^ *\(chroot\|user\|group\) /d')
  sed -e "s|bind \*:8080|bind $balancer|" -e "s|/etc/haproxy/portolan.pem|$tls/balancer.pem|" \
    -e "s|/etc/haproxy/portolan-ca.crt|$tls/ca.crt|" -e 's|log /dev/log local0|log stdout format raw local0|' \
    "${drop[@]}" deploy/haproxy.cfg >"$config"
  # The last section is that of the members.
  for host in "${cluster_hosts[@]:3}"; do
    echo "    server ${host/127.0.0./portolan-} $host:$(sample http.port) cookie ${host/127.0.0./portolan-}"
  done >>"$config"
  check "HAProxy finds nothing to complain of in deploy/haproxy.cfg" balancer_accepts "$config"
  process_start "$logs/haproxy.log" haproxy -db -f "$config"
  balancer_pid=$started_pid
  wait_for 60 "$balancer_pid" ask "https://$balancer/readyz" || die "HAProxy did not become ready"
}

# A warning is a complaint, too, and leaves the exit status as it is.
balancer_accepts() {
  local said
  said=$(haproxy -c -f "$1" 2>&1) || { echo "$said" && return 1; }
  [ "$said" = "Configuration file is valid" ] || { echo "$said" && return 1; }
}

# balancer_counts: a line for each member with the number of requests that HAProxy gave it.
balancer_counts() {
  local host
  for host in "${cluster_hosts[@]}"; do
    echo "$host $(grep -c " portolan/${host//127.0.0./portolan-} " "$logs/haproxy.log")"
  done
}

# cluster_stop: a check for each member that runs, as in member_stop.
cluster_stop() {
  process_stop "$balancer_pid" || true
  cluster_members_stop
}

cluster_members_stop() {
  local i
  for i in "${!member_pids[@]}"; do member_stop "$i"; done
  stores_stop
}

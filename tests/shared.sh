#!/usr/bin/env bash
# The way people run it: three processes of `portolan serve` from the sample configuration, on SeaweedFS and dynoxide,
# behind HAProxy. Everything goes through each member and through HAProxy, which gives each request to the next:
#
#   api          every test of the API (tests/it/api), compared between all ways in
#   conformance  the official OCI suite under two versions of the specification, through HAProxy
#   conformance-members
#                the same by each member
#   many         2,000 pulls at once through a member that doesn't own the repository; no member may have more than 1,024
#                descriptors, here and in all that follows
#   verify       `portolan verify --online` finds nothing to change, and a clock that is wrong
#   location     a client before HAProxy, which ends its TLS, is sent on to where it is, whatever it claims
#   redirects    crane, skopeo, podman and oras follow links to the bucket, and show their login nobody but the registry
#   slow         a blob pulled at 250 KB/s for two minutes through a member that doesn't own it, beside the others
#
# usage: tests/shared.sh [PART]...    all of them when none is named; PORTOLAN_TEST_CLUSTER=path takes another sample
#                                     configuration
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/conformance.sh

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(many verify location redirects slow api conformance conformance-members)
for part in "${parts[@]}"; do
  case $part in
    many | verify | location | redirects | slow | api | conformance | conformance-members) ;;
    *) die "no such part: $part (see the head of $0)" ;;
  esac
done

# What a shell gives its programs on most machines, and no way to raise it.
member_before() { before=(prlimit --nofile=1024:1024); }

many=2000
many_bytes=$((16 << 10))

part_many() {
  local repository digest content=$scratch/many before forwarded watching peak descriptors
  repository=$(repository_owned_by "${members[2]}" many/pulls)
  head -c "$many_bytes" /dev/urandom >"$content"
  digest=sha256:$(sha256sum "$content" | cut -d ' ' -f 1)
  check "a blob is pushed through ${members[1]} for ${members[2]}" blob_push "${members[1]}" "$repository" "$content" "$digest"
  before=$(forwards)
  many_watch &
  watching=$!
  pids+=("$watching")
  timeout 120 h2load -n "$many" -c 20 -m $((many / 20)) "https://${members[0]}/v2/$repository/blobs/$digest" >"$logs/many.txt" 2>&1 ||
    true
  process_stop "$watching" || true
  read -r peak descriptors < <(awk '$1 > a { a = $1 } $2 > b { b = $2 } END { print a + 0, b + 0 }' "$scratch/peaks")
  check "of $many pulls through ${members[0]} all succeed" \
    grep -q "^requests: $many total, $many started, $many done, $many succeeded, 0 failed" "$logs/many.txt"
  check "all their bytes come" grep -q "($((many * many_bytes))) data" "$logs/many.txt"
  # Some more than once: an owner that has no room for a request at the moment is asked again.
  forwarded=$(($(forwards) - before))
  check "all are forwarded: $forwarded times" test "$forwarded" -ge "$many"
  check "$peak of them were under way at once; no member had more than $descriptors descriptors" test "$peak" -ge $((many / 2))
}

# many_watch: writes down, again and again, requests of clients under way at the first member, and descriptors of any.
many_watch() {
  local pid
  while sleep 0.1; do
    echo "$(ask "https://${members[0]}/metrics" | awk '$1 == "portolan_requests_in_flight" { print $2 }')" \
      "$(for pid in "${member_pids[@]}"; do find "/proc/$pid/fd" -mindepth 1 | wc -l; done | sort -n | tail -n 1)"
  done >"$scratch/peaks"
}

# blob_push MEMBER REPOSITORY FILE DIGEST
blob_push() {
  local location
  location=$(upload_at "https://$1" "$2")
  ask -X PUT -H 'Expect:' -H 'Content-Type: application/octet-stream' -T "$3" "$location?digest=$4"
}

part_verify() {
  local config=$scratch/127.0.0.1.json said=$scratch/verify.txt status=0
  check "verify --online finds nothing to change" "$portolan" verify --online "$config"
  faketime -f +10m "$portolan" verify --online "$config" >"$said" 2>&1 || status=$?
  equal "with a clock that is 10 minutes ahead it exits with 1" 1 "$status"
  check "the bucket's clock tells" grep -q 'FAIL  clock, by the bucket .* ahead of the' "$said"
  check "the tables' clock tells" grep -q 'FAIL  clock, by the tables .* ahead of the' "$said"
}

part_location() {
  local said digest content=$scratch/located
  said=$(ask -o /dev/null -D - -X POST -H 'X-Forwarded-Proto: http' -H 'X-Forwarded-Host: elsewhere.example' \
    -H 'Forwarded: host=elsewhere.example;proto=http' "https://$balancer/v2/located/app/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  check "an upload by HAProxy goes on at a path: $said" grep -q '^/v2/located/app/blobs/uploads/.' <<<"$said"
  head -c 100000 /dev/urandom >"$content"
  digest=sha256:$(sha256sum "$content" | cut -d ' ' -f 1)
  check "a blob is pushed by HAProxy" blob_push "$balancer" located/app "$content" "$digest"
}

# A further member by itself, on a bucket of its own, whose clients reach the bucket by another name and in another way.
part_redirects() {
  local here=$scratch/redirects seen=$scratch/redirects/seen registry door port door_port pid digest
  mkdir "$here"
  read -r port door_port < <(python3 tests/lib/free_ports.py 127.0.0.1)
  registry=127.0.0.1:$port door=localhost:$door_port
  htpasswd -bBc "$here/users" ann sesame 2>/dev/null
  cat >"$here/config.yaml" <<END
storage:
  rootDirectory: $here/root
  redirectBlobURL: true
  storageDriver: {name: s3, bucket: redirects, region: $AWS_REGION, regionendpoint: "http://127.0.0.1:$s3_port",
    redirectendpoint: "http://$door", createbucket: true}
http: {address: 127.0.0.1, port: $port, auth: {htpasswd: {path: $here/users}}}
END
  process_start "$logs/link_door.log" python3 tests/lib/link_door.py "127.0.0.1:$door_port" "127.0.0.1:$s3_port" "$seen"
  process_start "$logs/redirects.log" "$portolan" serve "$here/config.yaml"
  pid=$started_pid
  wait_for 60 "$pid" curl -q --noproxy '*' -fsS "http://$registry/readyz" || die "the member that redirects did not become ready"
  head -c 3000000 /dev/urandom >"$here/layer"
  tar -C "$here" -czf "$here/layer.tar.gz" layer
  export DOCKER_CONFIG=$here
  check "crane logs in" crane auth login --insecure -u ann -p sesame "$registry"
  check "crane pushes" crane append --insecure --oci-empty-base -t "$registry/a/b:v1" -f "$here/layer.tar.gz"
  digest=$(crane manifest --insecure "$registry/a/b:v1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["digest"])')
  redirected crane 2 crane validate --insecure --remote "$registry/a/b:v1"
  redirected skopeo 2 skopeo copy --quiet --src-creds ann:sesame --src-tls-verify=false "docker://$registry/a/b:v1" "oci:$here/skopeo:v1"
  redirected containers 2 podman --root "$here/podman" --runroot "$here/podman-run" --storage-driver vfs pull --quiet \
    --creds ann:sesame --tls-verify=false "$registry/a/b:v1"
  redirected oras 1 oras blob fetch --plain-http --output "$here/blob" "$registry/a/b@$digest"
  equal "its bytes are those of the push" "$digest" "sha256:$(sha256sum "$here/blob" | cut -d ' ' -f 1)"
  equal "no link stands in the log" 0 "$(grep -c 'X-Amz-' "$logs/redirects.log")"
  unset DOCKER_CONFIG
  process_stop "$pid" || true
}

# redirected AGENT LEAST COMMAND...: it succeeds, with so many blobs from the bucket at least, all without a login.
redirected() {
  local agent=$1 least=$2 came
  shift 2
  : >"$seen"
  check "$1 pulls" "$@"
  came=$(grep -c "^$agent	none	200\$" "$seen" || true)
  check "$1 reads $came blobs from the bucket" test "$came" -ge "$least"
  equal "$1 shows nobody its login there" "$came" "$(wc -l <"$seen")"
}

slow_bytes=$((30 << 20))

part_slow() {
  local digest content=$scratch/slow
  slow_repository=$(repository_owned_by "${members[2]}" large/slow)
  head -c "$slow_bytes" /dev/urandom >"$content"
  digest=sha256:$(sha256sum "$content" | cut -d ' ' -f 1)
  check "30 MiB are pushed through ${members[1]} for ${members[2]}" \
    blob_push "${members[1]}" "$slow_repository" "$content" "$digest"
  rm "$content"
  slow_digest=$digest
  process_start "$logs/slow.log" slow_pull
  slow_pid=$started_pid
}

# Prints the digest of what came, and fails when the transfer did.
slow_pull() {
  ask --max-time 300 --limit-rate 250k "https://${members[0]}/v2/$slow_repository/blobs/$slow_digest" | sha256sum
}

slow_end() {
  local status=0 digest
  wait "$slow_pid" || status=$?
  process_forget "$slow_pid"
  equal "the slow pull through ${members[0]} ended well" 0 "$status"
  read -r digest _ <"$logs/slow.log"
  equal "all of it came as it was pushed" "$slow_digest" "sha256:$digest"
}

# Each test of the API is a check here: it said the same in all ways.
part_api() {
  local status=0 begin=$SECONDS name
  PORTOLAN_TEST_MEMBERS=$(IFS=, && echo "${members[*]}") PORTOLAN_TEST_BALANCER=$balancer PORTOLAN_TEST_CA=$mesh_ca \
    cargo test --locked --test it external -- --ignored --nocapture >"$logs/api.log" 2>&1 || status=$?
  while read -r name; do pass "the same through every member and HAProxy: $name"; done < <(sed -n 's/^ok \([a-z0-9_]*\)$/\1/p' "$logs/api.log")
  while read -r name; do fail "$name"; done < <(sed -n 's/^FAILED \([a-z0-9_]*\)$/\1/p' "$logs/api.log")
  equal "the tests of the API end well$(took "$begin")" 0 "$status"
}

part_conformance() { conformance_by "$balancer"; }
part_conformance-members() { conformance_by "${members[@]}"; }

# conformance_by ENTRY...
conformance_by() {
  local version entry name
  for version in 1.1 dev; do
    for entry in "$@"; do
      name=$version-${entry%:*}
      say "conformance $version by $entry"
      suite "$version" "$name" "$entry" "$(repository_owned_by "${members[0]}" "conformance/$name/first")" \
        "$(repository_owned_by "${members[1]}" "conformance/$name/second")"
    done
  done
}

report_begin shared
need_shared
cluster_start
for part in "${parts[@]}"; do "part_$part"; done
[ -z "${slow_pid:-}" ] || slow_end
# The parts that send it enough for everybody.
if [[ " ${parts[*]} " =~ \ (api|conformance)\  ]]; then
  while read -r member count; do
    check "HAProxy gave $count requests to $member" test "$count" -gt 0
  done < <(balancer_counts)
fi
cluster_stop

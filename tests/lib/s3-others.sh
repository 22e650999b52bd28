# shellcheck shell=bash
# S3 servers other than SeaweedFS, for tests/stores-extra.sh: versitygw and s3proxy over folders, and Ceph's RADOS
# gateway. Sourced by stores.sh; never run. They are started empty, on $s3_port, and know the key pair testkey and testsecret.

need_versitygw() { need_go versitygw github.com/versity/versitygw/cmd/versitygw@v1.8.0; }

versitygw_start() {
  s3_data=$scratch/versitygw
  mkdir "$s3_data"
  ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY \
    process_start "$logs/versitygw.log" versitygw --quiet --port "127.0.0.1:$s3_port" posix "$s3_data"
  s3_pids=("$started_pid")
}

s3proxy_version=4.1.0
s3proxy_dir=$target/tools/s3proxy-$s3proxy_version

need_s3proxy() {
  local begin=$SECONDS out fetched=$s3proxy_dir.new
  need_deb java=default-jre-headless
  [ ! -e "$s3proxy_dir/s3proxy-$s3proxy_version.jar" ] || return 0
  need_deb mvn=maven
  say "tools: fetching s3proxy $s3proxy_version"
  rm -rf "$s3proxy_dir" "$fetched"
  out=$(nice -n 5 mvn -q -B -ntp -f tests/lib/s3proxy.xml \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    "-DoutputDirectory=$fetched" -DincludeScope=runtime 2>&1) ||
    die "s3proxy can't be fetched:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  mv "$fetched" "$s3proxy_dir"
  say "tools: s3proxy is there$(took "$begin")"
}

s3proxy_start() {
  s3_data=$scratch/s3proxy
  mkdir -p "$s3_data/objects"
  cat >"$s3_data/s3proxy.conf" <<EOF
s3proxy.endpoint=http://127.0.0.1:$s3_port
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity=$AWS_ACCESS_KEY_ID
s3proxy.credential=$AWS_SECRET_ACCESS_KEY
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir=$s3_data/objects
EOF
  process_start "$logs/s3proxy.log" java -Xmx512m -cp "$s3proxy_dir/*" \
    org.gaul.s3proxy.Main --properties "$s3_data/s3proxy.conf"
  s3_pids=("$started_pid")
}

need_rgw() {
  need_deb radosgw=radosgw ceph-mon=ceph-mon ceph-osd=ceph-osd ceph-mgr=ceph-mgr ceph=ceph-common
}

# A Ceph of one machine: a monitor, a manager, a store of objects in a file, and the gateway.
rgw_start() {
  s3_data=$scratch/ceph
  s3_pids=()
  mkdir -p "$s3_data"/{mon,mgr,osd}
  ceph_configure
  ceph_monitor_start
  ceph_manager_start
  ceph_osd_start
  ceph_gateway_start
}

# Ports of the monitor and the others follow the S3 port. Nothing is kept twice, which Ceph has to be told it may.
ceph_configure() {
  ceph_fsid=$(cat /proc/sys/kernel/random/uuid)
  cat >"$s3_data/ceph.conf" <<EOF
[global]
fsid = $ceph_fsid
mon host = [v2:127.0.0.1:$((s3_port + 1))]
mon initial members = a
public network = 127.0.0.0/8
public addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = $((s3_port + 100))
ms bind port max = $((s3_port + 200))
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $s3_data/\$name.keyring
run dir = $s3_data
admin socket = $s3_data/\$name.asok
log to file = false
log to stderr = true
err to stderr = true
mon data = $s3_data/mon
mgr data = $s3_data/mgr
osd data = $s3_data/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
osd memory target = 939524096
bluestore block size = 21474836480
bluestore block create = true
bluestore fsck on mount = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
auth allow insecure global id reclaim = false
rgw thread pool size = 128
rgw enable usage log = false
rgw enable ops log = false
EOF
}

# ceph_said COMMAND...: one that must succeed; what it says is shown only when it doesn't.
ceph_said() {
  local out
  out=$(CEPH_CONF=$s3_data/ceph.conf timeout 60 "$@" 2>&1) || die "$* failed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
}

# ceph_daemon NAME COMMAND...
ceph_daemon() {
  local name=$1
  shift
  CEPH_CONF=$s3_data/ceph.conf process_start "$logs/ceph-$name.log" "$@"
  s3_pids+=("$started_pid")
}

ceph_monitor_start() {
  local admin=$s3_data/client.admin.keyring mon=$s3_data/mon.keyring
  ceph_said ceph-authtool --create-keyring "$mon" --gen-key -n mon. --cap mon 'allow *'
  ceph_said ceph-authtool --create-keyring "$admin" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  ceph_said ceph-authtool "$mon" --import-keyring "$admin"
  ceph_said monmaptool --create --fsid "$ceph_fsid" --addv a "[v2:127.0.0.1:$((s3_port + 1))]" "$s3_data/monmap"
  ceph_said ceph-mon --mkfs -i a --monmap "$s3_data/monmap" --keyring "$mon"
  ceph_daemon mon ceph-mon -f -i a
  wait_for 60 "$started_pid" env CEPH_CONF="$s3_data/ceph.conf" timeout 5 ceph -s || die "Ceph's monitor did not start"
}

ceph_manager_start() {
  ceph_said ceph auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' mds 'allow *' -o "$s3_data/mgr.x.keyring"
  ceph_daemon mgr ceph-mgr -f -i x
}

ceph_osd_start() {
  local id=$ceph_fsid
  ceph_said ceph osd new "$id"
  ceph_said ceph auth get-or-create osd.0 mon 'allow profile osd' mgr 'allow profile osd' osd 'allow *' \
    -o "$s3_data/osd.0.keyring"
  ceph_said ceph-osd --mkfs -i 0 --osd-uuid "$id"
  ceph_daemon osd ceph-osd -f -i 0
  wait_for 60 "$started_pid" ceph_osd_is_up || die "Ceph's object store did not start"
}

ceph_osd_is_up() { CEPH_CONF=$s3_data/ceph.conf timeout 5 ceph osd stat | grep -q '1 up'; }

ceph_gateway_start() {
  ceph_said ceph auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' -o "$s3_data/client.rgw.a.keyring"
  ceph_said radosgw-admin user create --uid=test --display-name=test \
    --access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY"
  ceph_daemon rgw radosgw -f -n client.rgw.a --rgw-frontends="beast endpoint=127.0.0.1:$s3_port"
}

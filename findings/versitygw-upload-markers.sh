#!/usr/bin/env bash
# versitygw 1.8.0 (Go, posix backend), with boto3 1.43.11: ListMultipartUploads refuses the marker that it gave.
#
# A truncated answer of ListMultipartUploads ends with NextKeyMarker and NextUploadIdMarker, which go into the next request
# as key-marker and upload-id-marker. versitygw looks for the upload of that marker among those *after* the key, doesn't
# find it there, and answers 400 InvalidArgument "Invalid uploadId marker": the second page can't be had, whatever the
# size of pages. So whoever has more than 1,000 uploads open sees the first thousand only; boto3's paginator ends in an
# error.
#
# Output seen:
#   first page: ['a', 'b'], truncated: True
#   second page: 400 InvalidArgument: Invalid uploadId marker
#
# usage: findings/versitygw_upload_markers.sh    exits with 0 while that is so; takes Go, and two minutes to build it
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
"$work/venv/bin/pip" install --quiet --disable-pip-version-check boto3==1.43.11
GOBIN=$work CGO_ENABLED=0 go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
port=${PORT:-21320}
mkdir "$work/data"
ROOT_ACCESS_KEY=key ROOT_SECRET_KEY=secret "$work/versitygw" --quiet --port "127.0.0.1:$port" posix "$work/data" >"$work/log" 2>&1 &
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
for key in "abc":
    s3.create_multipart_upload(Bucket="bucket", Key=key)
first = s3.list_multipart_uploads(Bucket="bucket", MaxUploads=2)
keys = [upload["Key"] for upload in first["Uploads"]]
print(f"first page: {keys}, truncated: {first['IsTruncated']}")
try:
    second = s3.list_multipart_uploads(Bucket="bucket", MaxUploads=2, KeyMarker=first["NextKeyMarker"],
                                       UploadIdMarker=first["NextUploadIdMarker"])
    said = str([upload["Key"] for upload in second["Uploads"]])
except s3.exceptions.ClientError as error:
    answer = error.response
    said = f"{answer['ResponseMetadata']['HTTPStatusCode']} {answer['Error']['Code']}: {answer['Error']['Message']}"
print("second page:", said)
seen = (keys, first["IsTruncated"], said)
sys.exit("changed" if seen != (["a", "b"], True, "400 InvalidArgument: Invalid uploadId marker") else 0)
PY

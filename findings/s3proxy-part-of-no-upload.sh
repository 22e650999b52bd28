#!/usr/bin/env bash
# s3proxy 4.1.0 (Maven: org.gaul:s3proxy, provider filesystem-nio2), with boto3 1.43.11: UploadPart needs no upload.
#
# In S3 an UploadPart whose upload was aborted, or never began, is 404 NoSuchUpload. s3proxy takes it: 200 with an ETag.
# Who has sent a part and got its ETag can't tell whether there is still an upload to complete; CompleteMultipartUpload
# says so when everything has been sent, and the part stays in the folder of the bucket as a file that nothing lists.
#
# Output seen:
#   a part of an aborted upload: 200
#   a part of an upload that never was: 200
#   objects: [], uploads: []
#
# It doesn't start with the jackson-annotations that Maven picks for it, hence the second dependency.
#
# usage: findings/s3proxy_part_of_no_upload.sh    exits with 0 while that is so; takes Maven and Java 17
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
cat >"$work/pom.xml" <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>findings</groupId><artifactId>s3proxy</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.gaul</groupId><artifactId>s3proxy</artifactId><version>4.1.0</version></dependency>
    <dependency>
      <groupId>com.fasterxml.jackson.core</groupId><artifactId>jackson-annotations</artifactId><version>2.21</version>
    </dependency>
  </dependencies>
</project>
XML
mvn -q -B -ntp -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
  "-DoutputDirectory=$work/jars" -DincludeScope=runtime
port=${PORT:-21330}
mkdir "$work/data"
cat >"$work/s3proxy.conf" <<CONF
s3proxy.endpoint=http://127.0.0.1:$port
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity=key
s3proxy.credential=secret
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir=$work/data
CONF
java -cp "$work/jars/*" org.gaul.s3proxy.Main --properties "$work/s3proxy.conf" >"$work/log" 2>&1 &
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


def part(**upload):
    try:
        return s3.upload_part(**upload, PartNumber=1, Body=b"bytes")["ResponseMetadata"]["HTTPStatusCode"]
    except s3.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


upload = {"Bucket": "bucket", "Key": "object"}
begun = s3.create_multipart_upload(**upload)["UploadId"]
s3.abort_multipart_upload(**upload, UploadId=begun)
aborted, never = part(**upload, UploadId=begun), part(**upload, UploadId="00000000-0000-4000-8000-000000000000")
objects = s3.list_objects_v2(Bucket="bucket").get("Contents", [])
uploads = s3.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
print("a part of an aborted upload:", aborted)
print("a part of an upload that never was:", never)
print(f"objects: {objects}, uploads: {uploads}")
sys.exit("changed" if (aborted, never, objects, uploads) != (200, 200, [], []) else 0)
PY

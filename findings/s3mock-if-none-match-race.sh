#!/usr/bin/env bash
# Adobe S3Mock 5.2.0 (Maven: com.adobe.testing:s3mock), with boto3 1.43.11: a conditional write is not atomic.
#
# S3 lets one of many PutObject with `If-None-Match: *` create a key and answers the others 412 (or 409): that is what
# locks and "create once" are built on. S3Mock looks first and writes then: of eight clients that write one key at the
# same moment several, now and then all eight, are told 200. So a test over S3Mock neither shows that such a lock holds
# nor that it is taken once.
#
# Output seen (the numbers differ from run to run):
#   11 of 25 rounds have more than one winner, the worst of them 8 of 8
#
# It doesn't start with the slf4j-api that Maven picks for it, hence the second dependency.
#
# usage: findings/s3mock_if_none_match_race.sh    exits with 0 while that is so; takes Maven and Java 17
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
  <groupId>findings</groupId><artifactId>s3mock</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>com.adobe.testing</groupId><artifactId>s3mock</artifactId><version>5.2.0</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>2.0.18</version></dependency>
  </dependencies>
</project>
XML
mvn -q -B -ntp -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
  "-DoutputDirectory=$work/jars" -DincludeScope=runtime
port=${PORT:-21340}
mkdir "$work/data"
java -cp "$work/jars/*" com.adobe.testing.s3mock.S3MockApplication --server.address=127.0.0.1 \
  --server.port=$((port + 1)) --com.adobe.testing.s3mock.httpPort="$port" \
  --com.adobe.testing.s3mock.store.root="$work/data" >"$work/log" 2>&1 &
server=$!

"$work/venv/bin/python" - "http://127.0.0.1:$port" <<'PY'
import sys, threading, time
import boto3
from botocore.config import Config

CLIENTS, ROUNDS = 8, 25


def client():
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="key",
                        aws_secret_access_key="secret", config=config)


clients = [client() for _ in range(CLIENTS)]
for _ in range(120):
    try:
        clients[0].create_bucket(Bucket="bucket")
        break
    except Exception:
        time.sleep(1)
for one in clients:
    one.list_buckets()  # with a connection of its own


def winners(key):
    together, won = threading.Barrier(CLIENTS), []

    def put(one):
        together.wait()
        try:
            one.put_object(Bucket="bucket", Key=key, Body=b"x", IfNoneMatch="*")
            won.append(one)
        except one.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error

    threads = [threading.Thread(target=put, args=(one,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won)


counts = [winners(f"key-{n}") for n in range(ROUNDS)]
several = sum(count > 1 for count in counts)
print(f"{several} of {ROUNDS} rounds have more than one winner, the worst of them {max(counts)} of {CLIENTS}")
sys.exit("changed" if several == 0 else 0)
PY

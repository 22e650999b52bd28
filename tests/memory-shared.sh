#!/usr/bin/env bash
# Pushes a large blob through a member that doesn't own its repository and pulls it through another one, as tests/memory.sh
# does, but on three processes of `portolan serve` on SeaweedFS and dynoxide: what memory each of them takes, and how
# often the bytes go to S3 and come back, counted by the members and by SeaweedFS.
#
# usage: tests/memory-shared.sh [MIB]    the blob's size, 1024 if none is given; PORTOLAN=path tests another binary
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/cluster.sh
. tests/lib/large.sh

mib=${1:-1024}
bytes=$((mib << 20))
# MiB, of the first member and of the second, which only pass the bytes on, and of the third, which owns the repositories.
limits=(96 96 128)

# part_bytes: what a part of a blob holds unless the configuration says otherwise.
part_bytes=$((8 << 20))

# s3_bytes received|sent: by SeaweedFS's count, in the bodies of requests and responses for the members' bucket.
s3_bytes() {
  ask "http://127.0.0.1:$s3_metrics_port/metrics" | awk -v name="SeaweedFS_s3_bucket_traffic_$1_bytes_total{" '
    index($1, name) == 1 { sum += $2 }
    END { printf "%.0f\n", sum }'
}

# blob_requests OPERATION: what all members together have asked of S3, whatever came of it.
blob_requests() {
  local member
  for member in "${members[@]}"; do ask "https://$member/metrics"; done |
    awk -v store='store="blobs"' -v operation="operation=\"$1\"" '
      /^portolan_store_requests_total{/ && index($1, store) && index($1, operation) { sum += $2 }
      END { print sum + 0 }'
}

# counted: the bytes that S3 received and sent, and the parts, whole objects and reads asked of it.
counted() {
  s3_bytes received
  s3_bytes sent
  blob_requests part
  blob_requests put
  blob_requests get
}

# measured TEXT COMMAND...: the command's check, each member's peak of memory, and in $counts what was counted.
measured() {
  local text=$1 i pid before after
  shift
  for pid in "${member_pids[@]}"; do peak_forget "$pid"; done
  mapfile -t before < <(counted)
  check "$text" "$@"
  mapfile -t after < <(counted)
  counts=()
  for i in "${!after[@]}"; do counts+=($((after[i] - before[i]))); done
  for i in 0 1 2; do within "$text: ${members[i]}" "$(memory "${member_pids[i]}" VmHWM)" "${limits[i]}"; done
}

# pushed TEXT COMMAND...: a push that measured makes, which S3 gets once.
pushed() {
  measured "$@"
  equal "$1: S3 received the bytes once" "$bytes" "${counts[0]}"
  equal "$1: in as few parts as they take" $((bytes / part_bytes)) "${counts[2]}"
  equal "$1: nothing is put but these" 0 "${counts[3]}"
  equal "$1: the members read nothing back" 0 "${counts[4]}"
  equal "$1: S3 sent no byte back" 0 "${counts[1]}"
}

report_begin memory-shared
need_shared
cluster_start
for i in 0 1 2; do say "idle: ${members[i]} $(memory "${member_pids[i]}" VmRSS) MiB"; done
digest_make
whole=$(repository_owned_by "${members[2]}" memory/whole)
streamed=$(repository_owned_by "${members[2]}" memory/streamed)
pushed "a blob of $mib MiB pushed by PUT through ${members[0]} for ${members[2]}" push_whole "$whole"
pushed "the same by PATCH without a length" push_streamed "$streamed"
measured "pulled through ${members[1]}, exact" pull "$whole"
equal "S3 sent the bytes once" "$bytes" "${counts[1]}"
cluster_stop

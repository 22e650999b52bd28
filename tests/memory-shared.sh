#!/usr/bin/env bash
# Pushes a large blob through a member that doesn't own its repository and pulls it through another one, as tests/memory.sh
# does, but on three processes of `portolan serve` on SeaweedFS and dynoxide: what memory each of them takes, and how
# often the bytes go to S3 and come back, counted by the members and by SeaweedFS. Then pieces of it, by clients that ask for all
# from a byte on and leave after a piece, as containerd's parallel fetch does: of what they don't take little is read.
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

# bytes_of METRIC [LABEL]: the sum of all members.
bytes_of() {
  local member
  for member in "${members[@]}"; do ask "https://$member/metrics"; done |
    awk -v metric="$1" -v label="${2:-}" 'index($0, metric) == 1 && index($0, label) { sum += $NF } END { printf "%.0f\n", sum }'
}

# read_so_far: the bytes that S3 sent, that members read of it, and that they got from each other.
read_so_far() {
  s3_bytes sent
  bytes_of portolan_store_read_bytes_total
  bytes_of portolan_forward_body_bytes_total 'direction="download"'
}

# piece_taken HTTP MEMBER BYTES: by a client that leaves then; what was read for it is at most 1.3 times that, or 1 MiB more.
piece_taken() {
  local http=$1 member=$2 piece=$3 first=$((4 << 20)) taken before after read most i
  most=$((piece * 13 / 10))
  [ "$most" -ge $((piece + (1 << 20))) ] || most=$((piece + (1 << 20)))
  mapfile -t before < <(read_so_far)
  taken=$(python3 tests/lib/piece.py "$http" "$member" "$mesh_ca" "/v2/$whole/blobs/$digest" "$first" "$piece")
  equal "a piece of $piece bytes by HTTP/$http through $member" \
    "$(content | tail -c +$((first + 1)) | head -c "$piece" | sha256sum | cut -d ' ' -f 1)" "$taken"
  mapfile -t after < <(read_so_far)
  for i in 0 1 2; do read[i]=$((after[i] - before[i])); done
  check "S3 sent ${read[0]} bytes for it, members read ${read[1]} and passed on ${read[2]}: none more than $most" \
    test "${read[0]}" -le "$most" -a "${read[1]}" -le "$most" -a "${read[2]}" -le "$most"
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
for member in "${members[1]}" "${members[2]}"; do
  for http in 1 2; do
    for piece in $((64 << 10)) $((512 << 10)) $((4 << 20)); do piece_taken "$http" "$member" "$piece"; done
  done
done
cluster_stop

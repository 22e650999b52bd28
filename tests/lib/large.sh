# shellcheck shell=bash
# One large blob, of $mib MiB and $digest, and the memory of the processes it goes through. Sourced, after mesh.sh; never
# run. It is pushed through the first member and pulled through the second.

# Bytes that don't compress, the same each time, made as fast as they are read.
content() {
  openssl enc -aes-128-ctr -nosalt -K 00000000000000000000000000000001 -iv 00000000000000000000000000000000 \
    -in <(head -c "$((mib << 20))" /dev/zero) 2>/dev/null
}

# digest_make: sets $digest.
digest_make() {
  say "making the digest of $mib MiB"
  digest=sha256:$(content | sha256sum | cut -d ' ' -f 1)
}

# memory PID FIELD: VmRSS (now) or VmHWM (the peak since peak_forget) of a process, in MiB.
memory() { awk -v field="$2:" '$1 == field { print int($2 / 1024) }' "/proc/$1/status"; }
peak_forget() { echo 5 >"/proc/$1/clear_refs"; }

# within TEXT FIGURE LIMIT
within() { check "$1: $2 MiB, at most $3" test "$2" -le "$3"; }

# The time limit is for what hangs; it is no measure.
ask_long() { ask --max-time 900 "$@"; }

# push_whole REPOSITORY: by one PUT that says how long it is.
push_whole() {
  local at
  at=$(upload_begin "$1")
  content | ask_long -X PUT -H 'Expect:' -H "Content-Length: $((mib << 20))" \
    -H 'Content-Type: application/octet-stream' -T - "$at?digest=$digest"
}

# push_streamed REPOSITORY: by one PATCH without a length.
push_streamed() {
  local at
  at=$(upload_begin "$1")
  content | ask_long -X PATCH -H 'Expect:' -H 'Content-Type: application/octet-stream' -T - "$at"
  ask -X PUT "$at?digest=$digest"
}

# upload_begin REPOSITORY: the address of a new session, by the first member.
upload_begin() { upload_at "$scheme://${members[0]}" "$1"; }

# pull REPOSITORY: through the second member; fails unless it is the blob.
pull() {
  local got
  got=$(ask_long "$scheme://${members[1]}/v2/$1/blobs/$digest" | sha256sum)
  [ "sha256:${got%% *}" = "$digest" ]
}

# shellcheck shell=bash
# What a client did against a mesh and what the mesh saw of it, as checks and as rows of the table in docs/clients.md.
# Sourced, after report.sh, mesh.sh and image.sh; never run.
#
# A script sets $rows, the file of the rows. A client's function is called with these set:
#   client      the name it is chosen by
#   push, pull  the members it enters by
#   owner       the third, who owns $repository, so that everything has to be forwarded
# and sets, before its first `did`:
#   version     what it is, with its version
#   know        nothing, or what a user has to know of the next thing it does

# did TEXT COMMAND...: one check, that the command succeeds, and one row. What it printed is in $shown.
did() {
  local text=$1 begin status=0 counted seen
  shift
  begin=$(stat -c %s "$logs/mesh.log")
  {
    printf '$ %s\n' "$*"
    shown=$(bounded "$@" 2>&1) || status=$?
    # Of progress bars, only where they ended.
    shown=$(printf '%s\n' "$shown" | sed 's/\x1b\[[0-9;]*[A-Za-z]//g; s/.*\r//')
    printf '%s\n' "$shown"
  } >>"$logs/clients.log"
  # A client may be gone a little before the last of its requests is written.
  sleep 0.5
  { read -r counted && read -r seen; } < <(python3 tests/lib/seen.py "$logs/mesh.log" "$begin" "$repository")
  if [ "$status" -eq 0 ]; then
    pass "$client $text"
    say "          $seen"
  else
    fail "$client $text: exit status $status"
    printf '%s\n' "$shown" | excerpt
    seen="**failed**; $seen"
  fi
  printf '%s\t%s\t%s\t%s\t%s\n' "$client" "$version" "$text" "$seen" "$know" >>"$rows"
  requests=$((requests + ${counted% *})) forwarded=$((forwarded + ${counted#* }))
  know=
}

# bounded COMMAND...: which may be a function.
bounded() {
  if declare -F "$1" >/dev/null; then "$@"; else timeout 300 "$@"; fi
}

# client_run NAME: its function, and one check more.
client_run() {
  client=$1 requests=0 forwarded=0 know=
  repository=$(repository_owned_by "$owner" "clients/$client" "$(below "$client")")
  say "$client pushes through $push and pulls through $pull; $repository is $owner's"
  "${client//-/_}_client"
  equal "all $requests requests of $client for $repository were forwarded" "$requests" "$forwarded"
}

# below CLIENT: what the client adds to the name of the repository that it is told.
below() {
  case $1 in
    helm*) echo /chart ;;
  esac
}

# repository_below NAME: one more repository of the client's, that the same member owns.
repository_below() { repository_owned_by "$owner" "$repository/$1"; }

# table_write: puts the rows in the place of those that docs/clients.md has of the same clients.
table_write() { python3 tests/lib/clients_table.py docs/clients.md "$rows" "$@"; }

deb_version() { dpkg-query --show --showformat '${Version}' "$1"; }

# digest_shown: the last digest in what was shown.
digest_shown() { grep -o 'sha256:[0-9a-f]\{64\}' <<<"$shown" | tail -n 1; }

# shellcheck shell=bash
# What benches are built to. Sourced, never run.

# built BENCH: the path of one of benches/.
built() {
  cargo build --locked --release --bench "$1" --message-format=json-render-diagnostics |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])' "$1"
}

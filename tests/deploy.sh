#!/usr/bin/env bash
# What deploy/ has for Kubernetes, compose, Prometheus and Grafana: the chart linted by helm 3 and 4, what it renders over the
# files of values in its ci/ validated against Kubernetes' schemas, and its configuration by `portolan verify` with the
# files that its pods see; the same of the plain manifests; the rules by promtool; and a mesh, started as processes from the
# very compose file, that serves a push and whose metrics a real Prometheus answers the dashboards' queries with.
#
# usage: tests/deploy.sh [PART]...    all parts when none is named: rules, manifests, chart, compose
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib/report.sh
. tests/lib/tools.sh
. tests/lib/stores.sh
. tests/lib/certificates.sh
. tests/lib/mesh.sh
. tests/deploy/tools.sh

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(rules manifests chart compose)
for part in "${parts[@]}"; do
  [[ $part =~ ^(rules|manifests|chart|compose)$ ]] || die "no such part: $part"
done

chart=deploy/helm/portolan
rules=deploy/prometheus/portolan.rules.yaml
dashboards=(deploy/grafana/*.json)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# render HELM VALUES [OPTION]...: for the oldest Kubernetes that the chart is for; HELM's own idea of it may be older.
render() {
  "$tools_bin/$1" template registry-1 "$chart" --namespace registry --kube-version 1.25 -f "$2" "${@:3}"
}

lint() {
  local out
  out=$("$tools_bin/$1" lint --strict --kube-version 1.25 "$chart" -f "$2" 2>&1) || { echo "$out" && return 1; }
}

# What Secrets have that the chart expects to be there, by the names of the files that pods see.
secrets_make() {
  spare=$scratch/secrets
  mkdir "$spare"
  certificate_authority "$spare/ca" "tests of Portolan"
  certificate "$spare/tls" "$spare/ca" "DNS:member.registry-1-portolan.registry.svc,DNS:member.registry.internal,DNS:member.portolan.internal" \
    serverAuth,clientAuth
  printf %s 0123456789abcdef >"$spare/hashKey"
  # From the test vectors of bcrypt.
  # shellcheck disable=SC2016
  echo 'ann:$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW' >"$spare/users"
  # The key of RFC 7517, appendix A.1.
  cat >"$spare/jwks.json" <<'JWKS'
{"keys": [{"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
           "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}
JWKS
}

# verified FOLDER MEMBER: what a pod sees is a configuration without a fault, of the member of that name.
verified() {
  local out environment
  mapfile -t environment < <("$python" tests/deploy/place.py "$1/manifests.yaml" "$1/pod" "$spare")
  [ ${#environment[@]} -gt 0 ] || return 1
  out=$(env -i "${environment[@]}" "$portolan" verify "$1/pod/etc/portolan/config/config.json" 2>&1) ||
    { echo "$out" && return 1; }
  grep -q "this m.* $2\$" <<<"$out" || { echo "$out" && return 1; }
}

chart_checks() {
  local values name folder host port helm
  for values in "$chart"/ci/*-values.yaml; do
    name=$(basename "$values" -values.yaml)
    folder=$scratch/chart/$name
    mkdir -p "$folder"
    for helm in helm3 helm4; do check "$helm lint: $name" lint "$helm" "$values"; done
    check "helm template: $name" render helm4 "$values"
    render helm4 "$values" >"$folder/manifests.yaml" || continue
    check "what is rendered is as Kubernetes' schemas want it: $name" \
      "$python" tests/deploy/validate.py "$folder/manifests.yaml" "${crds[@]}"
    host='[a-z1-]*-0\.[a-z1-]*-mesh\.registry\.svc'
    port=$(sed -n 's/.*containerPort: //p' "$folder/manifests.yaml" | head -n 1)
    ! grep -q '^kind: Deployment' "$folder/manifests.yaml" || host='192\.0\.2\.7'
    check "its configuration passes portolan verify: $name" verified "$folder" "$host:$port"
  done
  check "there are ten files of values and more" [ "$(find "$chart/ci" -name '*-values.yaml' | wc -l)" -ge 10 ]
  equal "helm 3 renders the same" "$(rendered helm4)" "$(rendered helm3)"
  refuses "a list of members" 'config.cluster.members' --set 'config.cluster.members={a:1}'
  refuses "a misspelt value" replica --set replica=3
  refuses "no bucket" config.storage.storageDriver.bucket --set config.storage.storageDriver.bucket=
  refuses "a drain that is cut" terminationGracePeriodSeconds --set terminationGracePeriodSeconds=30
  refuses "a pattern as the name in a certificate" mesh.memberSan --set 'mesh.memberSan=*.example.org'
  equal "policies change without a restart" "$(restarts logins-values.yaml)" \
    "$(restarts logins-values.yaml --set 'config.http.accessControl.repositories.x/**.defaultPolicy={read}')"
  check "everything else takes one" \
    [ "$(restarts logins-values.yaml)" != "$(restarts logins-values.yaml --set config.log.level=debug)" ]
  equal "pods have the time that the unit of systemd has to end" \
    "$(sed -n 's/^TimeoutStopSec=\(.*\)s$/\1/p' deploy/portolan.service)" \
    "$(sed -n 's/^terminationGracePeriodSeconds: //p' "$chart/values.yaml")"
  equal "the chart is of this version" "$version" "$(sed -n 's/^appVersion: //p' "$chart/Chart.yaml")"
  check "the README has every value with its default" "$python" tests/deploy/values.py "$chart"
  minted_checks
  HELM=$tools_bin/helm4 deploy/kubernetes/render "$scratch/plain.yaml"
  equal "deploy/kubernetes/portolan.yaml is what the chart renders" "$(cat "$scratch/plain.yaml")" \
    "$(cat deploy/kubernetes/portolan.yaml)"
}

manifests_checks() {
  local folder=$scratch/plain
  mkdir "$folder"
  cp deploy/kubernetes/portolan.yaml "$folder/manifests.yaml"
  check "the plain manifests are as Kubernetes' schemas want them" \
    "$python" tests/deploy/validate.py "$folder/manifests.yaml"
  check "their configuration passes portolan verify" verified "$folder" 'portolan-0\.portolan-mesh\.registry\.svc:5000'
}

# rendered HELM: a digest of the objects, of values with which the chart mints nothing.
rendered() {
  render "$1" "$chart/ci/existing-secrets-values.yaml" | "$python" -c '
import json, sys, yaml
print(json.dumps([each for each in yaml.safe_load_all(sys.stdin) if each], sort_keys=True))' | sha256sum
}

# refuses WHAT WORD OPTION...: helm refuses that and says the word.
refuses() {
  local what=$1 word=$2 out
  shift 2
  if out=$(render helm4 "$chart/ci/irsa-values.yaml" "$@" 2>&1 >/dev/null); then
    fail "the chart takes $what"
  elif [[ $out = *"$word"* ]]; then
    pass "the chart refuses $what"
  else
    fail "the chart refuses $what otherwise: $out"
  fi
}

# What the chart minted is found again at an upgrade, which takes an API server to ask; here, one that knows those Secrets.
minted_checks() {
  local folder=$scratch/minted port helm
  mkdir "$folder"
  render helm4 "$chart/ci/irsa-values.yaml" >"$folder/installed.yaml"
  read -r port _ < <(python3 tests/lib/free_ports.py 127.0.0.1)
  process_start "$logs/cluster.log" "$python" tests/deploy/cluster.py "$port" "$folder/installed.yaml" registry-1
  wait_for 20 "$started_pid" ask "http://127.0.0.1:$port/version" || die "the cluster's stand-in did not start"
  cat >"$folder/kubeconfig" <<YAML
{apiVersion: v1, kind: Config, current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}],
 clusters: [{name: it, cluster: {server: "http://127.0.0.1:$port"}}], users: [{name: it, user: {}}]}
YAML
  for helm in helm3 helm4; do
    equal "$helm keeps what the chart minted" "$(minted <"$folder/installed.yaml")" "$(upgraded "$helm" | minted)"
  done
  check "another memberSan has another certificate" \
    [ "$(minted <"$folder/installed.yaml")" != "$(upgraded helm4 --set mesh.memberSan=other.example.org | minted)" ]
  process_stop "$started_pid" || true
}

# upgraded HELM OPTION...: what that renders in the cluster of minted_checks.
upgraded() {
  local helm=$1
  shift
  KUBECONFIG=$scratch/minted/kubeconfig render "$helm" "$chart/ci/irsa-values.yaml" --dry-run=server \
    --disable-openapi-validation "$@"
}

# The keys and certificates among manifests, none of them empty.
minted() { grep -E '^  (hashKey|ca.crt|tls.crt|tls.key): [A-Za-z0-9+/=]{20,}$'; }

# restarts VALUES OPTION...: the checksum whose change restarts members.
restarts() {
  local values=$1
  shift
  render helm4 "$chart/ci/$values" "$@" | sed -n 's/^ *checksum\/config: //p'
}

rules_checks() {
  check "promtool finds the rules well-formed" promtool check rules --lint-fatal "$rules"
  check "each alert fires when it should and not before" promtool test rules deploy/prometheus/tests.yaml
  check "rules and dashboards ask for what is exported, all of it; each alert is tested and says what to do" \
    "$python" tests/deploy/queries.py check docs/metrics.md "$rules" "${dashboards[@]}"
  "$python" tests/deploy/queries.py rules "${dashboards[@]}" >"$scratch/dashboards.yaml"
  check "promtool can read the dashboards' queries" promtool check rules "$scratch/dashboards.yaml"
}

# compose_start: the services of the compose file, each on a loopback address of its own.
compose_start() {
  local name address image program
  compose=$scratch/compose
  mkdir "$compose"
  deploy/compose/certificates "$compose/tls" 2>"$logs/certificates.log"
  "$python" tests/deploy/compose.py deploy/compose/compose.yaml "$compose" >"$scratch/services"
  members=() scheme=http mesh_ca=
  while read -r name address image; do
    case $image in
      chrislusf/seaweedfs:"$seaweedfs_version")
        # Its sockets would be in /tmp, for one of its kind alone.
        sed -i "s|\$| -filer.localSocket=$compose/filer.sock -s3.localSocket=$compose/s3.sock|" "$compose/$name.sh"
        program=("$seaweedfs_dir/bin/weed")
        ;;
      ghcr.io/nubo-db/dynoxide:"$dynoxide_version") program=("$dynoxide_dir/bin/dynoxide") ;;
      *PORTOLAN_IMAGE*) program=("$portolan") && members+=("$address:5000") ;;
      *) die "the compose file has the image $image, which isn't what is tested here" ;;
    esac
    # Compose restarts what ends because its stores don't answer yet.
    [ "${program[0]}" != "$portolan" ] || wait_for 60 "$started_pid" stores_answer || die "the stores did not become ready"
    process_start "$logs/compose-$name.log" bash "$compose/$name.sh" "${program[@]}"
  done <"$scratch/services"
  equal "the compose file has three members" 3 "${#members[@]}"
  wait_for 60 "$started_pid" mesh_is_ready || die "the members of the compose file did not become ready"
}

# The first services of the compose file, at the ports that its configuration names.
stores_answer() {
  ask http://127.0.1.1:8333/healthz && python3 -c 'import socket; socket.create_connection(("127.0.1.2", 8000), 1)'
}

prometheus_start() {
  local targets
  targets=$(printf '"%s",' "${members[@]}")
  cat >"$scratch/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$PWD/$rules]
scrape_configs: [{job_name: portolan, static_configs: [{targets: [${targets%,}]}]}]
YAML
  read -r prometheus_port _ < <(python3 tests/lib/free_ports.py 127.0.0.1)
  process_start "$logs/prometheus.log" prometheus --config.file="$scratch/prometheus.yml" \
    --storage.tsdb.path="$scratch/prometheus" --web.listen-address="127.0.0.1:$prometheus_port"
  prometheus=http://127.0.0.1:$prometheus_port
  wait_for 60 "$started_pid" ask "$prometheus/-/ready" || die "Prometheus did not become ready"
}

# Pushed through each member in turn, pulled through the others.
push_and_pull() {
  local member n=0
  printf 'a layer of the compose file' >"$scratch/blob"
  digest=sha256:$(sha256sum "$scratch/blob" | cut -d ' ' -f 1)
  for member in "${members[@]}"; do
    n=$((n + 1))
    ask -o "$scratch/pushed" -X POST --data-binary "@$scratch/blob" -H 'Content-Type: application/octet-stream' \
      "http://$member/v2/team/app-$n/blobs/uploads/?digest=$digest" || return 1
    for other in "${members[@]}"; do
      ask "http://$other/v2/team/app-$n/blobs/$digest" | cmp - "$scratch/blob" || return 1
    done
  done
}

answered() { "$python" tests/deploy/queries.py run "$prometheus" portolan "$rules" "${dashboards[@]}"; }

compose_checks() {
  local i
  compose_start
  prometheus_start
  check "the mesh of the compose file serves a push through each member and pulls through the others" push_and_pull
  # Rates take two scrapes with requests between them.
  for ((i = 0; i < 15; i++)); do
    push_and_pull >"$logs/pushes.log" 2>&1 || break
    ! answered >"$logs/queries.log" 2>&1 || break
    sleep 2
  done
  check "a Prometheus that scrapes it answers the dashboards' queries, and no alert fires" answered
}

report_begin deploy
need_deploy "${parts[@]}"
python=$validate_dir/bin/python
[ -x "$portolan" ] || die "there is no $portolan: run cargo build first"
secrets_make
for part in "${parts[@]}"; do
  say "== $part =="
  "${part}_checks"
done

# shellcheck shell=bash
# What tests/deploy.sh takes. Sourced, after tools.sh and stores.sh; never run.

. tests/clients/tools.sh

validate_version=1.37.0
validate_dir=$target/tools/kubernetes-validate-$validate_version
# Whose definitions of custom resources the chart uses.
cert_manager=github.com/cert-manager/cert-manager@v1.21.2
prometheus_operator=github.com/prometheus-operator/prometheus-operator@v0.85.0

# need_deploy PART...
need_deploy() {
  local part
  need_kubernetes_validate
  for part in "$@"; do
    case $part in
      rules) need_deb promtool=prometheus ;;
      manifests) need_deb openssl=openssl ;;
      chart)
        need_deb openssl=openssl
        need_clients_extra helm-3 helm-4
        crds_fetch
        ;;
      compose)
        need_deb prometheus=prometheus openssl=openssl curl=curl
        need_seaweedfs
        need_dynoxide
        ;;
    esac
  done
}

need_kubernetes_validate() {
  local begin=$SECONDS out
  [ ! -x "$validate_dir/bin/kubernetes-validate" ] || return 0
  need_deb python3=python3
  # Debian's own Python leaves out what makes a virtual environment, and refuses packages outside of one.
  python3 -c 'import ensurepip' 2>/dev/null || deb_install python3-venv
  say "tools: installing kubernetes-validate $validate_version"
  rm -rf "$validate_dir"
  out=$(python3 -m venv "$validate_dir" 2>&1 && "$validate_dir/bin/pip" install --quiet --disable-pip-version-check \
    "kubernetes-validate==$validate_version" 2>&1) ||
    die "kubernetes-validate can't be installed:"$'\n'"$(printf '%s\n' "$out" | tail -n 20)"
  say "tools: kubernetes-validate is there$(took "$begin")"
}

# crds_fetch: sets $crds, the files.
crds_fetch() {
  local folder
  need_go_compiler
  folder=$(module_fetch "$cert_manager")/deploy/crds
  crds=("$folder"/cert-manager.io_{certificates,issuers}.yaml)
  folder=$(module_fetch "$prometheus_operator")/example/prometheus-operator-crd
  crds+=("$folder/monitoring.coreos.com_servicemonitors.yaml")
  for folder in "${crds[@]}"; do [ -e "$folder" ] || die "there is no $folder"; done
}

# module_fetch MODULE@VERSION: says where its files are.
module_fetch() {
  local out
  out=$(cd / && go mod download -json "$1") || die "no $1 to be had: $out"
  python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])' <<<"$out"
}

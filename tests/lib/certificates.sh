# shellcheck shell=bash
# Certificates for a mesh of tests: one authority, a pair for each member and one for an operator, by openssl. Sourced,
# after report.sh; never run.

# certificates_make FOLDER HOST...: in FOLDER, ca.crt and ca.key, HOST.crt and HOST.key for each address or name, which
# may be shown by both ends of a connection, and operator.crt and operator.key.
certificates_make() {
  local folder=$1 host
  shift
  mkdir -p "$folder"
  certificate_authority "$folder/ca" "tests of Portolan"
  for host in "$@"; do certificate "$folder/$host" "$folder/ca" "$(san "$host")" serverAuth,clientAuth; done
  certificate "$folder/operator" "$folder/ca" DNS:operator clientAuth
}

# san HOST: how a certificate names it.
san() {
  case $1 in
    *[!0-9.]*) echo "DNS:$1" ;;
    *) echo "IP:$1" ;;
  esac
}

# certificate_authority PAIR NAME: PAIR.crt and PAIR.key.
certificate_authority() {
  openssl_quiet req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.crt" -days 30 \
    -subj "/CN=$2" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# certificate PAIR AUTHORITY SANS USAGES: PAIR.crt and PAIR.key.
certificate() {
  local pair=$1 authority=$2 sans=$3 usages=$4
  openssl_quiet req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$pair.key" -out "$pair.csr" \
    -subj "/CN=${pair##*/}"
  openssl_quiet x509 -req -in "$pair.csr" -CA "$authority.crt" -CAkey "$authority.key" -CAcreateserial -out "$pair.crt" -days 30 \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=%s\nkeyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n' \
      "$sans" "$usages")
  rm "$pair.csr"
}

openssl_quiet() {
  local out
  out=$(openssl "$@" 2>&1) || die "openssl $1 failed:"$'\n'"$out"
}

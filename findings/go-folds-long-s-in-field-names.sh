#!/usr/bin/env bash
# To a client in Go the field `layerſ` of a manifest is `layers`.
#
# encoding/json takes a field's name in any case, which is documented. One expects ASCII's cases; but it folds as Unicode does,
# so U+017F (ſ, the long s) is an s and U+212A (K, the kelvin sign) a k. A registry, scanner or admission controller that
# compares names exactly, or lower-cased ASCII, sees an unknown field where every client with the OCI's own types (github.com/
# opencontainers/image-spec v1.1.1, with Go 1.26) sees other layers than those that were checked. Of two spellings in one
# document the last counts. Seen:
#   {"layers":[],"layerſ":[{"digeſt":"sha256:unchecked","ſize":7}]} has layer sha256:unchecked of 7 bytes
# Exits with 0 as long as this is so. Needs go.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	document := `{"layers":[],"layerſ":[{"digeſt":"sha256:unchecked","ſize":7}]}`
	var manifest v1.Manifest
	if err := json.Unmarshal([]byte(document), &manifest); err != nil {
		panic(err)
	}
	for _, layer := range manifest.Layers {
		fmt.Printf("%s has layer %s of %d bytes\n", document, layer.Digest, layer.Size)
	}
}
END
export GOPATH=$work/go GOFLAGS=-mod=mod
go mod init finding >/dev/null 2>&1
go get github.com/opencontainers/image-spec@v1.1.1 >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
[ "$seen" = '{"layers":[],"layerſ":[{"digeſt":"sha256:unchecked","ſize":7}]} has layer sha256:unchecked of 7 bytes' ]

// Reads pieces of a layer as the stargz snapshotter does for a container that starts before its layers are here: by its own
// fs/remote, which asks for several ranges in one request and takes what it gets.
//
// usage: stargz HOST/REPOSITORY:TAG DIGEST SIZE FILE
// FILE is the layer, to compare with. Prints how many bytes were read and how many it fetched for them.
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/stargz-snapshotter/cache"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/remote"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	image := must(reference.Parse(os.Args[1]))
	size := must(strconv.ParseInt(os.Args[3], 10, 64))
	layer := must(os.ReadFile(os.Args[4]))
	hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	blob := must(remote.NewResolver(config.BlobConfig{}, nil).Resolve(
		context.Background(),
		source.RegistryHosts(func(image reference.Spec) ([]docker.RegistryHost, error) { return hosts(image.Hostname()) }),
		image,
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.Digest(os.Args[2]), Size: size},
		cache.NewMemoryCache(),
	))
	// The second read wants chunks on both sides of the one that the first has fetched.
	read := 0
	for _, piece := range []struct{ offset, length int64 }{{60_000, 1_000}, {10_000, 130_000}, {size - 90_000, 90_000}} {
		got := make([]byte, piece.length)
		n := must(blob.ReadAt(got, piece.offset))
		if !bytes.Equal(got[:n], layer[piece.offset:piece.offset+piece.length]) {
			log.Fatalf("the %d bytes at %d are not the layer's", piece.length, piece.offset)
		}
		read += n
	}
	fmt.Printf("%d bytes read, %d fetched of %d\n", read, blob.FetchedSize(), size)
}

// What `ollama push` and `ollama pull` run, without what runs models: the server's transfer, copied beside this file as
// published (tools.sh), for it can't be imported without its C++.
//
// usage: ollama push|pull http://HOST/NAMESPACE/MODEL:TAG
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ollama/ollama/api"
)

func main() {
	transfer := PushModel
	if os.Args[1] == "pull" {
		transfer = PullModel
	}
	quiet := func(api.ProgressResponse) {}
	if err := transfer(context.Background(), os.Args[2], &registryOptions{Insecure: true}, quiet); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

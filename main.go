// Command magnum is a multi-tenant container service: server, agent and client
// in one binary.
package main

import (
	"os"

	"github.com/stackforge/magnum/command"
)

func main() {
	os.Exit(command.Run(os.Args[1:]))
}

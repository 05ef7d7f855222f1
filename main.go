// Command parley is a messaging server whose every conversation is an open,
// ordered, replayable stream. See README.md, or `parley --help`.
package main

import (
	_ "embed"
	"os"

	"parley/cmd"
)

// natsConf configures the NATS server of `parley dev`, and of a real cluster.
//
//go:embed nats.conf
var natsConf string

func main() { os.Exit(cmd.Main(natsConf)) }

//go:build unix

package main

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

var faultRounds = flag.Int("fault-rounds", 1, "how often the server is killed under load")

// A killed server has lost nothing that it acknowledged, and what it had not
// acknowledged is said again and is there once.
func TestKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	d := startDevChild(t, "")
	load := startLoad(t, 8, 4, d.place(t))
	for range *faultRounds {
		load.awaitAcks(t, 50+rand.Int64N(400))
		d.kill()
		d.start(t)
		if rand.N(4) == 0 { // a start that is cut off costs nothing either
			eventually(t, "the admin port answers, which opens first", func() bool {
				status, _ := getStatus(d.admin, "/healthz")
				return status != 0
			})
			d.kill()
			d.start(t)
		}
		d.waitReady(t)
	}
	load.awaitAcks(t, 100)
	load.finish(t)
	messages := load.check(t, d.place(t), d.log(t), filepath.Join(d.data, storeFile))
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *faultRounds, load.acks.Load(), messages)
}

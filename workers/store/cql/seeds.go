package cql

import (
	"context"
	"net"
	"sync"
	"time"
)

// seedWithin is how long a seed may take to accept a connection. It is what one
// that swallows packets costs at the start.
const seedWithin = time.Second

// warnOfSeeds tells of seeds that are away. The driver says nothing of one as long
// as another answers: operators would learn of it with the last.
func warnOfSeeds(ctx context.Context, cfg Config) {
	dialer := net.Dialer{Timeout: seedWithin}
	var dials sync.WaitGroup
	for _, host := range cfg.Hosts {
		dials.Go(func() {
			conn, err := dialer.DialContext(ctx, "tcp", withPort(host))
			if err != nil {
				cfg.Log.Warn("a node of the store's URL is away: the others serve", "node", host, "err", err)
				return
			}
			_ = conn.Close() // nothing was said on it
		})
	}
	dials.Wait()
}

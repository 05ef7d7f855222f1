package natsserver

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	watchEvery  = time.Second
	reviveEvery = 5 * time.Second // at most so often for one node
	// roomBytes is what must fit on the disk before a node is revived, so that
	// it does not break again at once.
	roomBytes = 4 << 20
)

// watchLoop revives nodes that cannot write. A server whose disk was full for a
// moment never writes that stream again, and only a restart heals it: with a
// server of its own that is the supervisor's work, here it is ours. What was
// acknowledged is on the disk and comes back.
func (s *Server) watchLoop(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for i := range s.cfg.Nodes {
				s.reviveOnce(ctx, i)
			}
		}
	}
}

func (s *Server) reviveOnce(ctx context.Context, i int) {
	s.mu.Lock()
	n := s.nodes[i]
	log := s.cfg.Log.With("node", n.name)
	if n.srv != nil && !n.broken && (n.log.broken.Load() || !n.srv.JetStreamEnabled()) {
		n.broken = true
		log.Error("NATS cannot write to its data directory: it is restarted when there is room", "dir", n.dir)
	}
	due := n.broken && time.Since(n.revivedAt) >= reviveEvery
	if due {
		n.revivedAt = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := checkRoom(n.dir); err != nil {
		log.Warn("NATS still waits for room in its data directory", "err", err)
		return
	}
	if err := s.RestartNode(ctx, i); err != nil {
		if ctx.Err() == nil {
			log.Error("NATS is not back yet, trying again", "err", err)
		}
		return
	}
	s.mu.Lock()
	n.broken = false
	s.mu.Unlock()
	log.Info("NATS writes again")
}

// checkRoom writes and syncs roomBytes, since what df says is not what a quota allows.
func checkRoom(dir string) error {
	file, err := os.CreateTemp(dir, ".room-")
	if err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.Write(make([]byte, roomBytes)); err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	return nil
}

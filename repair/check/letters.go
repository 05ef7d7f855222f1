package check

import (
	"context"
	"fmt"
	"sync"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
)

// letters are the events that persist gave up on. The stream DEAD bounds them by
// its bytes: a few million at the very most.
type letters struct {
	mu   sync.RWMutex
	seqs map[letter]struct{}
}

type letter struct {
	stream string
	seq    uint64
}

func (l *letters) has(of streams.Shard, seq uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, ok := l.seqs[letter{of.Stream(), seq}]
	return ok
}

// loadLetters adds those that there are now to those that were there before.
func (c *Checker) loadLetters(ctx context.Context) error {
	seqs, err := again(ctx, c.cfg.RetryWithin, func() (map[letter]struct{}, error) {
		seqs := make(map[letter]struct{})
		for l, err := range dead.List(ctx, c.cfg.JetStream, streams.PersistConsumer) {
			switch {
			case err != nil && l.ID == 0:
				return nil, err
			case err == nil:
				seqs[letter{l.Stream, l.Seq}] = struct{}{}
			}
		}
		return seqs, nil
	})
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	c.letters.mu.Lock()
	defer c.letters.mu.Unlock()
	for l := range c.letters.seqs {
		seqs[l] = struct{}{}
	}
	c.letters.seqs = seqs
	return nil
}

// lastSeqs are the last seqs that the log has of chats, as far as it was walked.
// It saves a question to the log: past its bound, some are asked for again.
type lastSeqs struct {
	mu     sync.RWMutex
	byChat map[schemas.Chat]uint64 // at most lastSeqsMax
}

const lastSeqsMax = 200_000

func (l *lastSeqs) get(chat schemas.Chat) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byChat[chat]
}

func (l *lastSeqs) set(chat schemas.Chat, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byChat == nil {
		l.byChat = make(map[schemas.Chat]uint64)
	}
	if _, ok := l.byChat[chat]; !ok && len(l.byChat) >= lastSeqsMax {
		for other := range l.byChat {
			delete(l.byChat, other)
			break
		}
	}
	l.byChat[chat] = seq
}

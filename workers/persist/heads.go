package persist

import (
	"context"
	"fmt"

	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/store"
)

// headCache holds heads of one shard's chats while this process owns the shard:
// only its owner moves them. Past its bound any others than those of the batch at
// hand are forgotten and read from the store again.
type headCache struct {
	byChat map[schemas.Chat]store.Head // the zero head for a chat without events
	max    int
}

func newHeadCache(max int) headCache {
	return headCache{byChat: make(map[schemas.Chat]store.Head), max: max}
}

func (c *headCache) clear() { clear(c.byChat) }

func (c *headCache) get(chat schemas.Chat) store.Head { return c.byChat[chat] }

// load brings the heads of all chats of events into the cache, in one read.
func (c *headCache) load(ctx context.Context, st Store, events []fold.Event) error {
	wanted := make(map[schemas.Chat]struct{}, len(events))
	var absent []schemas.Chat
	for i := range events {
		chat := events[i].Chat
		if _, ok := wanted[chat]; ok {
			continue
		}
		wanted[chat] = struct{}{}
		if _, ok := c.byChat[chat]; !ok {
			absent = append(absent, chat)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	heads, err := st.Heads(ctx, absent)
	if err != nil {
		return fmt.Errorf("read heads of %d chats: %w", len(absent), err)
	}
	c.makeRoom(len(absent), wanted)
	for _, chat := range absent {
		c.byChat[chat] = heads[chat]
	}
	return nil
}

func (c *headCache) makeRoom(n int, keep map[schemas.Chat]struct{}) {
	for chat := range c.byChat {
		if len(c.byChat)+n <= c.max {
			return
		}
		if _, ok := keep[chat]; !ok {
			delete(c.byChat, chat)
		}
	}
}

// apply moves the heads on to where a committed batch has them.
func (c *headCache) apply(batch *store.Batch) {
	for i := range batch.Chats {
		c.byChat[batch.Chats[i].Chat] = batch.Chats[i].Head
	}
}

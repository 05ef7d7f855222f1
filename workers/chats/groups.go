package chats

import (
	"context"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"parley/schemas"
	"parley/streams"
)

const (
	// membersPerRead bounds one read of a group's members.
	membersPerRead = 5000
	// reloadPast is how many sequences of a shard are read over rather than the
	// store asked anew.
	reloadPast = 100_000
)

// groups keeps groups in memory. It stays true without being told: each use asks
// the log's leader for the timeline's end and folds what came. Three things end an
// entry all the same: the log forgets at its age limit, what has happened in the
// shard since is read over, and a shard that was lost takes with it what was folded
// and not stored.
type groups struct {
	cfg   Config
	cache *otter.Cache[schemas.Chat, *entry]
}

// entry is one group's place.
type entry struct {
	used  chan struct{} // has room for one: who uses the group is in it
	group *group        // nil until it was loaded
	at    time.Time
}

// groupWeight is what a group weighs beside its members.
const groupWeight = 10

func newGroups(cfg Config) (*groups, error) {
	cache, err := otter.New(&otter.Options[schemas.Chat, *entry]{
		MaximumWeight: uint64(cfg.CacheMembersMax),
		Weigher: func(_ schemas.Chat, e *entry) uint32 {
			if e.group == nil {
				return groupWeight
			}
			return groupWeight + uint32(len(e.group.members))
		},
		// On the caller's goroutine: the cache has none of its own to stop.
		Executor: func(fn func()) { fn() },
	})
	if err != nil {
		return nil, fmt.Errorf("make cache of groups: %w", err)
	}
	return &groups{cfg: cfg, cache: cache}, nil
}

// use calls fn with a group folded up to its timeline's end, alone among those who
// use it here. A group that was never made has no name.
func (c *groups) use(ctx context.Context, chat schemas.Chat, fn func(*group) error) error {
	e, err := c.cache.Get(ctx, chat, otter.LoaderFunc[schemas.Chat, *entry](func(context.Context, schemas.Chat) (*entry, error) {
		return &entry{used: make(chan struct{}, 1)}, nil
	}))
	if err != nil {
		return err
	}
	select {
	case e.used <- struct{}{}:
		defer func() { <-e.used }()
	case <-ctx.Done():
		return fmt.Errorf("use %s: others do: %w", chat, ctx.Err())
	}
	if err := c.fold(ctx, e, chat); err != nil {
		e.group = nil // what was folded in part is not used
		return err
	}
	size := len(e.group.members)
	defer func() {
		if e.group != nil && len(e.group.members) != size {
			c.cache.Set(chat, e) // it weighs another number of members
		}
	}()
	return fn(e.group)
}

// fold brings an entry's group up to the timeline's end.
func (c *groups) fold(ctx context.Context, e *entry, chat schemas.Chat) error {
	last, _, err := c.cfg.Log.Last(ctx, chat)
	if err != nil {
		return err
	}
	shard := c.cfg.Log.Layout().Shard(chat)
	old := e.group == nil || time.Since(e.at) > c.cfg.CacheFor || last > e.group.seq+reloadPast || e.group.shard != shard
	if old {
		if e.group, err = c.load(ctx, chat, shard); err != nil {
			return err
		}
		c.cache.Set(chat, e)
	}
	e.at = time.Now()
	e.group.last = last
	return c.foldTail(ctx, e.group, last)
}

// load reads a group from the store. Rows may be newer than the sequence that it is
// folded up to then: what is folded behind it changes those again to the same.
func (c *groups) load(ctx context.Context, chat schemas.Chat, shard streams.Shard) (*group, error) {
	committed, err := c.cfg.Store.Committed(ctx, shard.Token)
	if err != nil {
		return nil, err
	}
	heads, err := c.cfg.Store.Heads(ctx, []schemas.Chat{chat})
	if err != nil {
		return nil, err
	}
	head := heads[chat]
	g := &group{
		chat: chat, shard: shard, name: head.Name, history: head.History, members: make(map[schemas.User]member),
		seq: max(committed, head.LastSeq), newest: head.LastSeq,
	}
	for after := (schemas.User{}); ; {
		page, err := c.cfg.Store.Members(ctx, chat, after, membersPerRead)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			g.members[m.User] = member{role: m.Role, since: m.Since, from: m.From}
			if m.Role.In() {
				g.count++
			}
		}
		if len(page) < membersPerRead {
			return g, nil
		}
		after = page[len(page)-1].User
	}
}

// foldTail folds what the log has above the group's seq, up to last.
func (c *groups) foldTail(ctx context.Context, g *group, last uint64) error {
	return streams.Walk(ctx, c.cfg.Log, g.chat, g.seq, last, func(stored *schemas.StoredEvent) error {
		g.seq, g.newest = stored.Seq, stored.Seq
		g.last = max(g.last, g.seq) // also what came since the leader was asked
		ev, err := schemas.DecodeEvent(stored.JSON)
		if err != nil {
			return nil // persist gives it up too
		}
		g.apply(stored.Seq, ev)
		return nil
	})
}

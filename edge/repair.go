package edge

import (
	"context"
	"errors"
	"maps"
	"slices"

	"parley/schemas"
	"parley/streams"
)

// askRepair has the loop repair what may have been missed: NATS was away, or a
// channel was full.
func (v *liveLoop) askRepair() {
	select {
	case v.repairs <- struct{}{}:
	default:
	}
}

// held is one chat that an audience has been sent something of.
type held struct {
	audience *audience
	chat     schemas.Chat
}

// repair reads every chat that the loop's users and groups have been sent from the log, and
// tells all their sessions to resync.
func (v *liveLoop) repair() {
	if v.repairing {
		v.repairAgain = true
		return
	}
	v.repairing = true
	users, groups := v.everybody()
	var chats []held
	for _, u := range users {
		for chat := range u.cursors {
			chats = append(chats, held{&u.audience, chat})
		}
	}
	for _, g := range groups {
		for chat := range g.cursors {
			chats = append(chats, held{&g.audience, chat})
		}
	}
	v.tasks.Go(func() {
		if err := v.repairChats(v.ctx, chats); err != nil && v.ctx.Err() == nil {
			v.log.Warn("repair chats from the log", "chats", len(chats), "error", err) // the sessions resync all the same
		}
		v.resyncAll(v.ctx, users)
		v.call(func() {
			v.repairing = false
			if v.repairAgain {
				v.repairAgain = false
				v.repair()
			}
		})
	})
}

func (v *liveLoop) everybody() (users []*user, groups []*group) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Values(v.users)), slices.Collect(maps.Values(v.groups))
}

// repairChats takes the last seq of each chat from the log as a hint of what was
// missed. The chats of a shard that does not answer are left: their next events show it.
func (v *liveLoop) repairChats(ctx context.Context, chats []held) error {
	byShard := make(map[streams.Shard][]held)
	layout := v.logReader.Layout()
	for _, h := range chats {
		shard := layout.Shard(h.chat)
		byShard[shard] = append(byShard[shard], h)
	}
	var failed error
	for _, ofShard := range byShard {
		for some := range slices.Chunk(ofShard, streams.MultiLastMax) {
			failed = errors.Join(failed, v.repairSome(ctx, some))
		}
	}
	return failed
}

func (v *liveLoop) repairSome(ctx context.Context, some []held) error {
	names := make([]schemas.Chat, len(some))
	for i, h := range some {
		names[i] = h.chat
	}
	lasts, err := v.logReader.Lasts(ctx, names)
	if err != nil {
		return err
	}
	for _, h := range some {
		if last, ok := lasts[h.chat]; ok {
			v.call(func() { v.handleStored(h.audience, h.chat, streams.Stored{Seq: last, Hint: true}, nil) })
		}
	}
	return nil
}

// resyncAll spreads the resyncs: each makes its client read. What a user was told
// about its groups may be lost too.
func (v *liveLoop) resyncAll(ctx context.Context, users []*user) {
	for some := range slices.Chunk(users, len(users)/resyncSteps+1) {
		v.call(func() {
			for _, u := range some {
				v.resync(&u.audience)
				v.members.loadLater(u)
			}
		})
		if !sleep(ctx, resyncSpread/resyncSteps) {
			return
		}
	}
}

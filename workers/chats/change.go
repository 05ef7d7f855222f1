package chats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oklog/ulid/v2"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// conflictWait is the most that a change waits before it is tried again.
const conflictWait = 20 * time.Millisecond

// decision is what a request makes of a group: an event, or nothing where the group is as
// asked for already.
type decision func(g *group) (*schemas.Event, *schemas.Error)

// change has a group changed as decide says, and returns the seq by which it is
// so. decide may be called several times, each time with a newer group.
func (s *Service) change(ctx context.Context, chat schemas.Chat, by schemas.User, decide decision) (changed, *schemas.Error) {
	for range s.cfg.TriesMax {
		seq, err := s.changeOnce(ctx, chat, by, decide)
		switch {
		case err == nil:
			return changed{chat, seq}, nil
		case !errors.Is(err, streams.ErrConflict):
			return changed{}, s.unavailable("change group", err)
		}
		s.conflicts.Inc()
		select {
		case <-time.After(rand.N(conflictWait)):
		case <-ctx.Done():
			return changed{}, s.unavailable("change group", ctx.Err())
		}
	}
	return changed{}, &schemas.Error{Code: schemas.Conflict, Message: "others changed the group or wrote to it at the same time, again and again: try again", RetryAfter: 0.5}
}

// changeOnce returns [streams.ErrConflict] where something else came first.
func (s *Service) changeOnce(ctx context.Context, chat schemas.Chat, by schemas.User, decide decision) (seq uint64, err error) {
	err = s.groups.use(ctx, chat, func(g *group) error {
		ev, refused := decide(g)
		if refused != nil {
			return refused
		}
		if seq = g.newest; ev == nil {
			return nil
		}
		if seq, err = s.publish(ctx, g, by, ev); err != nil {
			return err
		}
		g.apply(seq, ev)
		g.last = seq
		for user, notice := range schemas.Notices(chat, seq, ev, g.history) {
			s.tell(user, notice)
		}
		return nil
	})
	return seq, err
}

// publish puts an event behind the group's timeline, if that still ends where the
// group was folded to.
func (s *Service) publish(ctx context.Context, g *group, by schemas.User, ev *schemas.Event) (uint64, error) {
	id, err := schemas.ParseID(ulid.Make().String())
	if err != nil {
		return 0, err
	}
	ev.ID, ev.From = id, by
	ev.Count = g.countAfter(ev)
	data, err := schemas.EncodeEvent(ev)
	if err != nil {
		return 0, err
	}
	type outcome struct {
		ack streams.PubAck
		err error
	}
	result := make(chan outcome, 1)
	after := g.last // the publication may outlive this use of the group
	s.cfg.Publisher.Publish(ctx, streams.Publication{
		Subject: g.shard.Timeline(g.chat),
		MsgID:   id.String(),
		Data:    data,
		After:   &after,
		ReadAt:  time.Now(),
		Done:    func(ack streams.PubAck, err error) { result <- outcome{ack, err} },
	})
	var r outcome
	select {
	case r = <-result:
	case <-ctx.Done(): // it may be stored all the same: whoever uses the group next folds it
		return 0, fmt.Errorf("publish change of %s: %w", g.chat, ctx.Err())
	}
	if errors.Is(r.err, streams.ErrLogFull) {
		s.log.Error("log takes no more", "chat", g.chat, "err", r.err)
		return 0, &schemas.Error{Code: schemas.Overloaded, Message: "the log takes no more now", RetryAfter: 5}
	}
	return r.ack.Seq, r.err
}

// countAfter is how many members the group has once ev is applied.
func (g *group) countAfter(ev *schemas.Event) uint64 {
	count := g.count
	for user, role := range ev.Roles() {
		switch was := g.role(user); {
		case role.In() && !was.In():
			count++
		case !role.In() && was.In():
			count--
		}
	}
	return count
}

// create makes a group. The same user gets the same group again; what else the
// request says counts the first time only.
func (s *Service) create(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, create, refused := schemas.DecodeBy[schemas.Create](schemas.TCreate, request)
	if refused != nil {
		return nil, refused
	}
	chat := schemas.GroupChat(create.ID)
	made, first, creator := false, uint64(0), schemas.User{}
	answer, refused := s.change(ctx, chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if made = g.exists(); made {
			first, creator = g.first, g.creator
			return nil, nil
		}
		return created(by, create), nil
	})
	if refused != nil || !made {
		return answer, refused
	}
	if creator.IsZero() {
		var err error
		if first, creator, err = s.first(ctx, chat); err != nil {
			return nil, s.unavailable("read a group's first event", err)
		}
	}
	if creator != by {
		return nil, schemas.Errorf(schemas.Conflict, "%s exists: take another id", chat)
	}
	return changed{chat, first}, nil
}

// created is the first event of a group.
func created(by schemas.User, create *schemas.Create) *schemas.Event {
	ev := &schemas.Event{Type: schemas.GroupEvent, Change: schemas.Created, Name: create.Name, History: create.History}
	if ev.History == "" {
		ev.History = schemas.HistoryJoined
	}
	named := map[schemas.User]struct{}{by: {}}
	for _, user := range create.Members {
		if _, ok := named[user]; !ok {
			named[user] = struct{}{}
			ev.Members = append(ev.Members, user)
		}
	}
	return ev
}

// first returns the seq and the author of a stored chat's first event.
func (s *Service) first(ctx context.Context, chat schemas.Chat) (seq uint64, author schemas.User, err error) {
	events, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Forward: true, Limit: 1})
	if err != nil {
		return 0, author, err
	}
	if len(events) == 0 {
		return 0, author, fmt.Errorf("the store has %s and no event of it", chat)
	}
	return events[0].Seq, events[0].Author, nil
}

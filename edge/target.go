package edge

import (
	"context"
	"math"
	"slices"
	"time"

	"parley/schemas"
	"parley/streams"
)

// checkTarget refuses an event about a message that its sender may not change so,
// or that is not there. An edit disappears together with its message.
func (e *Edge) checkTarget(ctx context.Context, m member, chat schemas.Chat, event *schemas.Event, now time.Time) *schemas.Error {
	if event.Type == schemas.Pin && chat.Kind() == schemas.Group && !m.role.Administers() {
		return schemas.Errorf(schemas.Forbidden, "only the owner and admins of %s pin messages", chat)
	}
	item, err := e.readTarget(ctx, m, chat, event.Target)
	if err != nil {
		return err
	}
	target, decodeErr := schemas.DecodeEvent(item.JSON)
	switch {
	case decodeErr != nil || target.Type != schemas.Message:
		return schemas.Errorf(schemas.Invalid, "target %d of %s is not a message", event.Target, chat)
	case event.Type == schemas.Edit && target.From != event.From:
		return schemas.Errorf(schemas.Forbidden, "only its author edits a message")
	case event.Type == schemas.Delete && target.From != event.From:
		if err := e.mayDelete(ctx, m, chat, target.From); err != nil {
			return err
		}
	case item.Deleted && event.Type != schemas.Delete && !event.Remove:
		return schemas.Errorf(schemas.NotFound, "message %d of %s was deleted", event.Target, chat)
	case event.Type == schemas.React && !event.Remove && !roomFor(event.Emoji, item.Reactions):
		return schemas.Errorf(schemas.Invalid, "message %d of %s has %d different emojis: take one of them", event.Target, chat, schemas.EmojisMax)
	}
	if at, ok := target.Expires(item.Time); ok && event.Type == schemas.Edit {
		event.TTL = uint64(max(math.Ceil(at.Sub(now).Seconds()), 1))
	}
	return nil
}

// roomFor tells whether a message can have an emoji under it. Two who are the first
// with theirs at once may both find room: the bound is for the page, not to the one.
func roomFor(emoji string, reactions []schemas.Reaction) bool {
	return len(reactions) < schemas.EmojisMax ||
		slices.ContainsFunc(reactions, func(r schemas.Reaction) bool { return r.Emoji == emoji })
}

// readTarget returns the message at a seq of a chat, as far as a member may read it.
func (e *Edge) readTarget(ctx context.Context, m member, chat schemas.Chat, seq uint64) (*schemas.Item, *schemas.Error) {
	after, limit := seq-1, int64(1)
	items, _, err := e.askHistory(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, After: &after, Limit: &limit}, From: m.from})
	if err != nil {
		return nil, err
	}
	if len(items) == 0 || items[0].Seq != seq {
		return nil, schemas.Errorf(schemas.NotFound, "%s has no message %d", chat, seq)
	}
	return &items[0], nil
}

// mayDelete tells whether a member may take back what another has said: in a group
// the owner may, and admins may where that other is neither.
func (e *Edge) mayDelete(ctx context.Context, m member, chat schemas.Chat, author schemas.User) *schemas.Error {
	switch {
	case chat.Kind() == schemas.Direct:
		return schemas.Errorf(schemas.Forbidden, "only its author deletes a message")
	case m.role == schemas.Owner:
		return nil
	case m.role != schemas.Admin:
		return schemas.Errorf(schemas.Forbidden, "only its author, the owner and admins of %s delete a message", chat)
	}
	standing, err := e.standing(ctx, chat, author)
	if err != nil && err.Code != schemas.NotMember {
		return err
	}
	if standing.role.Administers() {
		return schemas.Errorf(schemas.Forbidden, "an admin deletes no message of the owner or another admin")
	}
	return nil
}

// standing asks a worker what a user is in a group, which need not be on this edge.
func (e *Edge) standing(ctx context.Context, chat schemas.Chat, user schemas.User) (member, *schemas.Error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	var answer schemas.StandingAnswer
	if err := e.ask(ctx, streams.StandingSubject, schemas.Standing{Chat: chat, Users: []schemas.User{user}}, &answer); err != nil {
		return member{}, err
	}
	if len(answer.Members) == 0 {
		return member{}, notMember(user, chat)
	}
	is := answer.Members[0]
	return member{role: is.Role, since: is.Since, from: is.From}, nil
}

package edge

import (
	"context"
	"math"
	"slices"

	"parley/schemas"
)

// checkTarget refuses an event about a message that its sender may not change so,
// or that is not there. An edit disappears together with its message. Most events have
// no target.
func (sn *sends) checkTarget(ctx context.Context, a *attempt, event *schemas.Event) *schemas.Error {
	if !event.HasTarget() {
		return nil
	}
	m, chat := a.member, a.Chat
	if event.Type == schemas.Pin && chat.Kind() == schemas.Group && !m.role.Administers() {
		return schemas.Errorf(schemas.Forbidden, "only the owner and admins of %s pin messages", chat)
	}
	item, err := sn.reader.message(ctx, m, chat, event.Target)
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
		if err := sn.mayDelete(ctx, m, chat, target.From); err != nil {
			return err
		}
	case item.Deleted && event.Type != schemas.Delete && !event.Remove:
		return schemas.Errorf(schemas.NotFound, "message %d of %s was deleted", event.Target, chat)
	case event.Type == schemas.React && !event.Remove && !roomFor(event.Emoji, item.Reactions):
		return schemas.Errorf(schemas.Invalid, "message %d of %s has %d different emojis: take one of them", event.Target, chat, schemas.EmojisMax)
	}
	if at, ok := target.Expires(item.Time); ok && event.Type == schemas.Edit {
		event.TTL = uint64(max(math.Ceil(at.Sub(a.readAt).Seconds()), 1))
	}
	return nil
}

// roomFor tells whether a message can have an emoji under it. Two who are the first
// with theirs at once may both find room: the bound is for the page, not to the one.
func roomFor(emoji string, reactions []schemas.Reaction) bool {
	return len(reactions) < schemas.EmojisMax ||
		slices.ContainsFunc(reactions, func(r schemas.Reaction) bool { return r.Emoji == emoji })
}

// mayDelete tells whether a member may take back what another has said: in a group
// the owner may, and admins may where that other is neither.
func (sn *sends) mayDelete(ctx context.Context, m member, chat schemas.Chat, author schemas.User) *schemas.Error {
	switch {
	case chat.Kind() == schemas.Direct:
		return schemas.Errorf(schemas.Forbidden, "only its author deletes a message")
	case m.role == schemas.Owner:
		return nil
	case m.role != schemas.Admin:
		return schemas.Errorf(schemas.Forbidden, "only its author, the owner and admins of %s delete a message", chat)
	}
	standing, err := sn.services.standing(ctx, chat, author)
	if err != nil && err.Code != schemas.NotMember {
		return err
	}
	if standing.role.Administers() {
		return schemas.Errorf(schemas.Forbidden, "an admin deletes no message of the owner or another admin")
	}
	return nil
}

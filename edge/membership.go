package edge

import (
	"context"

	"parley/schemas"
	"parley/streams"
)

// membership knows which users on this edge are in which chats, and as what. A direct
// chat says so itself. A group is loaded when a user connects (load.go), entered when
// a notice says so (enter.go), and changed by its own events (follow.go).
type membership struct {
	*base
	services *services
	reader   *reader
	lives    liveLoops
	keys     *sessionKeys
	watches  *watches

	loads loadList
}

// newMembership returns the membership that lives hand their notices to.
func newMembership(b *base, services *services, reader *reader, lives liveLoops, keys *sessionKeys, watches *watches) *membership {
	ms := &membership{base: b, services: services, reader: reader, lives: lives, keys: keys, watches: watches}
	for _, v := range lives {
		v.members = ms
	}
	return ms
}

// memberOf tells what a user with a session here is in a chat, or refuses alike
// for a chat of others and one that does not exist.
func (ms *membership) memberOf(u *user, chat schemas.Chat) (member, *schemas.Error) {
	if chat.HasDirectMember(u.name) {
		return member{role: schemas.Member}, nil
	}
	if g := ms.groupOf(chat); g != nil {
		if m, in := g.memberOf(u); in {
			return m, nil
		}
	}
	if chat.Kind() == schemas.Group && u.isUnknown() {
		return member{}, &schemas.Error{Code: schemas.Unavailable, Message: "no worker has told yet which groups " + u.name.String() + " is in", RetryAfter: 1}
	}
	return member{}, notMember(u.name, chat)
}

// askSize has a group's size be known; its events tell how it goes on.
func (ms *membership) askSize(ctx context.Context, g *group) *schemas.Error {
	if g.size() > 0 {
		return nil
	}
	var answer schemas.StandingAnswer
	if refused := ms.services.ask(ctx, streams.StandingSubject, schemas.Standing{Chat: g.chat, Users: []schemas.User{}}, &answer); refused != nil {
		return refused
	}
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	if g.count == 0 {
		g.count = max(answer.Count, 1)
	}
	return nil
}

// groupOf returns a chat's group, nil where nobody on this edge is in it.
func (ms *membership) groupOf(chat schemas.Chat) *group {
	v := ms.lives.of(chat.String())
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.groups[chat.String()]
}

// audienceIn returns the audience in which u is sent a chat; nil where it is not.
func (ms *membership) audienceIn(u *user, chat schemas.Chat) *audience {
	if chat.Kind() == schemas.Direct {
		return &u.audience
	}
	if g := ms.groupOf(chat); g != nil {
		return &g.audience
	}
	return nil
}

// memberAnywhere tells what a user is in a chat, who need not be on this edge.
func (ms *membership) memberAnywhere(ctx context.Context, name schemas.User, chat schemas.Chat) (member, *schemas.Error) {
	if chat.Kind() == schemas.Group {
		return ms.services.standing(ctx, chat, name)
	}
	if !chat.HasDirectMember(name) {
		return member{}, notMember(name, chat)
	}
	return member{role: schemas.Member}, nil
}

// checkBlocks refuses where the two of a direct chat do not talk.
func (ms *membership) checkBlocks(ctx context.Context, name schemas.User, chat schemas.Chat) *schemas.Error {
	a, b, direct := chat.Users()
	if !direct || a == b {
		return nil
	}
	var answer schemas.PrivacyAnswer
	if err := ms.services.ask(ctx, streams.PrivacySubject, schemas.Privacy{User: name}, &answer); err != nil {
		return err
	}
	for _, other := range answer.Blocks {
		if chat.HasDirectMember(other) {
			return blocked(chat)
		}
	}
	return nil
}

// audienceAnywhere returns an audience on this edge that is sent a chat, of the
// sender or of the other one; nil where there is none.
func (ms *membership) audienceAnywhere(chat schemas.Chat) *audience {
	a, b, direct := chat.Users()
	if !direct {
		return ms.audienceIn(nil, chat)
	}
	for _, name := range []schemas.User{a, b} {
		v := ms.lives.of(name.String())
		v.mu.Lock()
		u := v.users[name.String()]
		v.mu.Unlock()
		if u != nil {
			return &u.audience
		}
	}
	return nil
}

// notMember answers alike for a chat of others and one that does not exist.
func notMember(user schemas.User, chat schemas.Chat) *schemas.Error {
	return schemas.Errorf(schemas.NotMember, "%s is not a member of %s", user, chat)
}

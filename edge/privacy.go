package edge

import (
	"context"

	"parley/schemas"
	"parley/streams"
)

// privacy is with whom a user does not talk, and what it lets others see. It is
// never changed once a user has it.
type privacy struct {
	known      bool                      // a worker has told it
	blocked    map[schemas.User]struct{} // whom it blocks, or who blocks it
	hidesReads bool
	status     schemas.Status // that it has chosen; empty for none
}

func privacyOf(answer *schemas.PrivacyAnswer) privacy {
	p := privacy{known: true, hidesReads: answer.HidesReads, status: answer.Status}
	for _, other := range answer.Blocks {
		if p.blocked == nil {
			p.blocked = make(map[schemas.User]struct{}, len(answer.Blocks))
		}
		p.blocked[other] = struct{}{}
	}
	return p
}

// blocks tells whether there are no messages, receipts, typing and presence between
// the user and another.
func (p privacy) blocks(other schemas.User) bool {
	_, blocked := p.blocked[other]
	return blocked
}

// unknownPrivacy refuses what could tell somebody what a user wants to be hidden.
func unknownPrivacy(name schemas.User) *schemas.Error {
	return &schemas.Error{Code: schemas.Unavailable, Message: "no worker has told yet what " + name.String() + " lets others see", RetryAfter: 1}
}

func (u *user) getPrivacy() privacy {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.privacy
}

// setPrivacy has what a worker told take effect: for messages at once, and for who
// is online in the sessions' keys and what they watch.
func (ms *membership) setPrivacy(u *user, now privacy) {
	u.mu.Lock()
	before := u.privacy
	u.privacy = now
	u.mu.Unlock()
	if !u.isReady() {
		return // its first session is on its way to the welcome
	}
	if !before.known || before.status != now.status {
		for _, s := range u.everySession() {
			ms.keys.refresh(s)
		}
	}
	var changed []schemas.User
	for other := range before.blocked {
		if !now.blocks(other) {
			changed = append(changed, other)
		}
	}
	for other := range now.blocked {
		if !before.blocks(other) {
			changed = append(changed, other)
		}
	}
	ms.watches.refresh(u, changed)
}

// loadPrivacy asks for it, after word that it has changed.
func (ms *membership) loadPrivacy(ctx context.Context, u *user) {
	u.entering.Lock()
	defer u.entering.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var answer schemas.PrivacyAnswer
	if err := ms.services.ask(ctx, streams.PrivacySubject, schemas.Privacy{User: u.name}, &answer); err != nil {
		ms.loadLater(u)
		return
	}
	ms.setPrivacy(u, privacyOf(&answer))
}

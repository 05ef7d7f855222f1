package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
)

const (
	// askWithin bounds the questions about a user who connects, and loadWithin those
	// and what is read from the log then: past it the user is served without its
	// groups, and asked for again by loadLoop.
	askWithin  = 3 * time.Second
	loadWithin = 10 * time.Second
	// loadAgainEvery is between two rounds of those that were not answered.
	loadAgainEvery = time.Second
	// loadsMax bounds the users that are asked for at once by loadLoop.
	loadsMax = 16
)

// loadUser asks workers for a user's groups and blocks, and enters the groups.
// Where no worker answers, or the log does not, the user is served without: it
// talks with whom it likes, and its groups come when both do. Again tells that its
// sessions know of its groups, and have to be told what is new.
func (ms *membership) loadUser(ctx context.Context, u *user, again bool) {
	u.entering.Lock()
	defer u.entering.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	joined, told, err := ms.askUser(ctx, u.name)
	if err == nil {
		ms.setPrivacy(u, privacyOf(told))
		err = ms.enterGroups(ctx, u, joined, again)
	}
	switch {
	case err == nil:
		u.setUnknown(false)
	case !again: // else what is known stays so
		u.setUnknown(true)
	}
	if err != nil && ms.ctx.Err() == nil {
		ms.log.Debug("a user's groups are not known yet", "user", u.name, "error", err)
		ms.loadLater(u)
	}
}

// askUser asks for what a connecting user is in: two requests, side by side.
func (ms *membership) askUser(ctx context.Context, name schemas.User) (joined *schemas.JoinedAnswer, privacy *schemas.PrivacyAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	joined, privacy = &schemas.JoinedAnswer{}, &schemas.PrivacyAnswer{}
	group, ctx := errgroup.WithContext(ctx)
	ask := func(subject string, request, answer any) {
		group.Go(func() error {
			if refused := ms.services.ask(ctx, subject, request, answer); refused != nil {
				return fmt.Errorf("ask %s: %w", subject, refused)
			}
			return nil
		})
	}
	ask(streams.JoinedSubject, schemas.Joined{User: name}, joined)
	ask(streams.PrivacySubject, schemas.Privacy{User: name}, privacy)
	err = group.Wait()
	return joined, privacy, err
}

// enterGroups makes u a member of the groups that a worker named, and returns
// when NATS has their subscriptions. Where the groups are asked for again, those
// that the user is found in only now are told like any that it comes into.
func (ms *membership) enterGroups(ctx context.Context, u *user, joined *schemas.JoinedAnswer, again bool) error {
	layout := ms.logReader.Layout()
	asOf := func(chat schemas.Chat) uint64 { return joined.Stored[layout.Shard(chat).Token] }
	groups := ms.holdGroups(ctx, joined, asOf)
	defer func() {
		for _, g := range groups {
			g.release()
		}
	}()
	chats := make([]schemas.Chat, len(groups))
	for i, g := range groups {
		if err := g.await(ctx); err != nil {
			return err
		}
		chats[i] = g.chat
	}
	lasts, err := ms.logReader.Lasts(ctx, chats)
	if err != nil {
		return err
	}
	for i, g := range groups {
		if err := ms.enterGroup(ctx, u, g, &joined.Groups[i], asOf(g.chat), lasts[g.chat], again); err != nil {
			return err
		}
	}
	ms.leaveOthers(u, joined, asOf)
	if len(chats) > 0 && ms.logReader.Replicated() {
		ms.tasks.Go(func() { ms.lookAgain(ms.ctx, chats) })
	}
	return nil
}

// holdGroups holds the groups that a worker named, and has those that are new here
// subscribed with one flush for all.
func (ms *membership) holdGroups(ctx context.Context, joined *schemas.JoinedAnswer, asOf func(schemas.Chat) uint64) []*group {
	groups := make([]*group, len(joined.Groups))
	var made []*group
	var failed error
	for i := range joined.Groups {
		chat := joined.Groups[i].Chat
		g, isNew := ms.holdGroup(chat, asOf(chat))
		if groups[i] = g; isNew {
			failed = errors.Join(failed, g.subscribe())
			made = append(made, g)
		}
	}
	if failed == nil && len(made) > 0 {
		failed = ms.flusher.flush(ctx)
	}
	for _, g := range made {
		g.failed = failed
		close(g.ready)
	}
	return groups
}

// enterGroup makes u a member of a group, as which is tells as of a seq; last is the
// group's last seq in the log, and not all up to it need be stored.
func (ms *membership) enterGroup(ctx context.Context, u *user, g *group, is *schemas.JoinedGroup, known, last uint64, again bool) error {
	m := member{role: is.Role, since: is.Since, from: is.From}
	if last > known {
		if err := ms.catchUp(ctx, g.chat, u.name, &m, known, last); err != nil {
			return err
		}
		known = last
	}
	before, was := g.memberOf(u)
	in, err := ms.admit(ctx, g, u, m, known)
	switch {
	case err != nil:
		return err
	case !in && was: // its end was missed
		ms.takeOut(u, g)
		return nil
	}
	if now, _ := g.memberOf(u); again && now.since != before.since {
		ms.letIn(ctx, u, g) // word of it was lost
		return nil
	}
	for _, s := range u.everySession() {
		g.attach(s)
	}
	return nil
}

// leaveOthers takes a user out of groups that a worker did not name, where it
// would have known of the membership: its end was missed.
func (ms *membership) leaveOthers(u *user, joined *schemas.JoinedAnswer, asOf func(schemas.Chat) uint64) {
	if joined.More {
		return // it names not all
	}
	named := make(map[schemas.Chat]struct{}, len(joined.Groups))
	for i := range joined.Groups {
		named[joined.Groups[i].Chat] = struct{}{}
	}
	for _, g := range u.everyGroup() {
		m, in := g.memberOf(u)
		if _, ok := named[g.chat]; ok || !in || m.since > asOf(g.chat) {
			continue
		}
		ms.takeOut(u, g)
	}
}

// lookAgain finds what a replica that lagged did not show of groups' ends, and has
// it healed as if a live event had told of it.
func (ms *membership) lookAgain(ctx context.Context, chats []schemas.Chat) {
	if !sleep(ctx, secondLookAfter) {
		return
	}
	lasts, err := ms.logReader.Lasts(ctx, chats)
	if err != nil {
		ms.log.Warn("look again at the ends of groups", "groups", len(chats), "error", err) // their next events show it
		return
	}
	for chat, last := range lasts {
		if g := ms.groupOf(chat); g != nil {
			g.live.call(func() { g.live.handleStored(&g.audience, chat, streams.Stored{Seq: last, Hint: true}, nil) })
		}
	}
}

// loadLater has loadLoop ask for a user's groups.
func (ms *membership) loadLater(u *user) {
	ms.loads.mu.Lock()
	defer ms.loads.mu.Unlock()
	if ms.loads.users == nil {
		ms.loads.users = make(map[*user]struct{})
	}
	ms.loads.users[u] = struct{}{}
}

// loadList are the users whose groups are to be asked for; at most those here.
type loadList struct {
	mu    sync.Mutex
	users map[*user]struct{}
}

// take empties the list, and leaves out who has left meanwhile.
func (l *loadList) take() []*user {
	l.mu.Lock()
	defer l.mu.Unlock()
	users := slices.DeleteFunc(slices.Collect(maps.Keys(l.users)), (*user).hasEnded)
	clear(l.users)
	return users
}

// loadLoop asks for the groups of users of whom they are not known, or may have
// changed unseen. Who was served without is told to read its chats again.
func (ms *membership) loadLoop(ctx context.Context) {
	for sleep(ctx, loadAgainEvery) {
		users := ms.loads.take()
		if n := len(users); n > 0 {
			ms.log.Warn("the groups of users are asked for again", "users", n)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(loadsMax)
		for _, u := range users {
			group.Go(func() error {
				unknown := u.isUnknown()
				ms.loadUser(ctx, u, !unknown)
				if unknown && !u.isUnknown() {
					for _, s := range u.everySession() {
						s.push(resyncFrame)
					}
				}
				return nil
			})
		}
		_ = group.Wait() // they return nothing else
	}
}

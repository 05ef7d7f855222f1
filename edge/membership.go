package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
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

// memberOf tells what a user with a session here is in a chat, or refuses alike
// for a chat of others and one that does not exist.
func (e *Edge) memberOf(u *user, chat schemas.Chat) (member, *schemas.Error) {
	if chat.HasDirectMember(u.name) {
		return member{role: schemas.Member}, nil
	}
	if g := e.groupOf(chat); g != nil {
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
func (e *Edge) askSize(ctx context.Context, g *group) *schemas.Error {
	if g.size() > 0 {
		return nil
	}
	var answer schemas.StandingAnswer
	if refused := e.ask(ctx, streams.StandingSubject, schemas.Standing{Chat: g.chat, Users: []schemas.User{}}, &answer); refused != nil {
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
func (e *Edge) groupOf(chat schemas.Chat) *group {
	v := e.liveLoopOf(chat.String())
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.groups[chat.String()]
}

// audienceIn returns the audience in which u is sent a chat; nil where it is not.
func (e *Edge) audienceIn(u *user, chat schemas.Chat) *audience {
	if chat.Kind() == schemas.Direct {
		return &u.audience
	}
	if g := e.groupOf(chat); g != nil {
		return &g.audience
	}
	return nil
}

// loadUser asks workers for a user's groups and blocks, and enters the groups.
// Where no worker answers, or the log does not, the user is served without: it
// talks with whom it likes, and its groups come when both do. Again tells that its
// sessions know of its groups, and have to be told what is new.
func (e *Edge) loadUser(ctx context.Context, u *user, again bool) {
	u.entering.Lock()
	defer u.entering.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	joined, told, err := e.askUser(ctx, u.name)
	if err == nil {
		e.setPrivacy(u, privacyOf(told))
		err = e.enterGroups(ctx, u, joined, again)
	}
	switch {
	case err == nil:
		u.setUnknown(false)
	case !again: // else what is known stays so
		u.setUnknown(true)
	}
	if err != nil && e.ctx.Err() == nil {
		e.log.Debug("a user's groups are not known yet", "user", u.name, "error", err)
		e.loadLater(u)
	}
}

// askUser asks for what a connecting user is in: two requests, side by side.
func (e *Edge) askUser(ctx context.Context, name schemas.User) (joined *schemas.JoinedAnswer, privacy *schemas.PrivacyAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	joined, privacy = &schemas.JoinedAnswer{}, &schemas.PrivacyAnswer{}
	group, ctx := errgroup.WithContext(ctx)
	ask := func(subject string, request, answer any) {
		group.Go(func() error {
			if refused := e.ask(ctx, subject, request, answer); refused != nil {
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

// ask has a service answer a request of the edge's own.
func (e *Edge) ask(ctx context.Context, subject string, request, answer any) *schemas.Error {
	data, err := json.Marshal(request)
	if err != nil {
		panic("encode request: " + err.Error()) // the types are ours and hold nothing that JSON cannot say
	}
	reply, refused := streams.Ask(ctx, e.conn, subject, data)
	if refused != nil {
		return refused
	}
	if err := json.Unmarshal(reply, answer); err != nil {
		e.log.Error("decode answer", "subject", subject, "error", err)
		return schemas.Errorf(schemas.Internal, "the worker's answer cannot be read")
	}
	return nil
}

// enterGroups makes u a member of the groups that a worker named, and returns
// when NATS has their subscriptions. Where the groups are asked for again, those
// that the user is found in only now are told like any that it comes into.
func (e *Edge) enterGroups(ctx context.Context, u *user, joined *schemas.JoinedAnswer, again bool) error {
	layout := e.logReader.Layout()
	asOf := func(chat schemas.Chat) uint64 { return joined.Stored[layout.Shard(chat).Token] }
	groups := e.holdGroups(ctx, joined, asOf)
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
	lasts, err := e.logReader.Lasts(ctx, chats)
	if err != nil {
		return err
	}
	for i, g := range groups {
		if err := e.enterGroup(ctx, u, g, &joined.Groups[i], asOf(g.chat), lasts[g.chat], again); err != nil {
			return err
		}
	}
	e.leaveOthers(u, joined, asOf)
	if len(chats) > 0 && e.logReader.Replicated() {
		e.tasks.Go(func() { e.lookAgain(e.ctx, chats) })
	}
	return nil
}

// holdGroups holds the groups that a worker named, and has those that are new here
// subscribed with one flush for all.
func (e *Edge) holdGroups(ctx context.Context, joined *schemas.JoinedAnswer, asOf func(schemas.Chat) uint64) []*group {
	groups := make([]*group, len(joined.Groups))
	var made []*group
	var failed error
	for i := range joined.Groups {
		chat := joined.Groups[i].Chat
		g, isNew := e.holdGroup(chat, asOf(chat))
		if groups[i] = g; isNew {
			failed = errors.Join(failed, g.subscribe())
			made = append(made, g)
		}
	}
	if failed == nil && len(made) > 0 {
		failed = e.flusher.flush(ctx)
	}
	for _, g := range made {
		g.failed = failed
		close(g.ready)
	}
	return groups
}

// enterGroup makes u a member of a group, as which is tells as of a seq; last is the
// group's last seq in the log, and not all up to it need be stored.
func (e *Edge) enterGroup(ctx context.Context, u *user, g *group, is *schemas.JoinedGroup, known, last uint64, again bool) error {
	m := member{role: is.Role, since: is.Since, from: is.From}
	if last > known {
		if err := e.catchUp(ctx, g.chat, u.name, &m, known, last); err != nil {
			return err
		}
		known = last
	}
	before, was := g.memberOf(u)
	in, err := e.admit(ctx, g, u, m, known)
	switch {
	case err != nil:
		return err
	case !in && was: // its end was missed
		e.takeOut(u, g)
		return nil
	}
	if now, _ := g.memberOf(u); again && now.since != before.since {
		e.letIn(ctx, u, g) // word of it was lost
		return nil
	}
	for _, s := range u.everySession() {
		g.attach(s)
	}
	return nil
}

// lookAgain finds what a replica that lagged did not show of groups' ends, and has
// it healed as if a live event had told of it.
func (e *Edge) lookAgain(ctx context.Context, chats []schemas.Chat) {
	if !sleep(ctx, secondLookAfter) {
		return
	}
	lasts, err := e.logReader.Lasts(ctx, chats)
	if err != nil {
		e.log.Warn("look again at the ends of groups", "groups", len(chats), "error", err) // their next events show it
		return
	}
	for chat, last := range lasts {
		if g := e.groupOf(chat); g != nil {
			g.live.call(func() { g.live.handleStored(&g.audience, chat, streams.Stored{Seq: last, Hint: true}, nil) })
		}
	}
}

// await returns when NATS has the group's subscription.
func (g *group) await(ctx context.Context) error {
	select {
	case <-g.ready:
		return g.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit makes u a member as the group knows it by now, reading from the log what
// the group does not remember.
func (e *Edge) admit(ctx context.Context, g *group, u *user, m member, asOf uint64) (in bool, err error) {
	for {
		in, known, ok := g.admit(u, m, asOf)
		if ok {
			return in, nil
		}
		if err := e.catchUp(ctx, g.chat, u.name, &m, asOf, known); err != nil {
			return false, err
		}
		asOf = known
	}
}

// catchUpToEnd applies to m what has changed in a group after a seq until now, and
// returns the seq up to which that is.
func (e *Edge) catchUpToEnd(ctx context.Context, chat schemas.Chat, name schemas.User, m *member, after uint64) (uint64, error) {
	last, _, err := e.logReader.Last(ctx, chat)
	if err != nil || last <= after {
		return after, err
	}
	return last, e.catchUp(ctx, chat, name, m, after, last)
}

// catchUp applies to m what changed in a group after one seq and up to another,
// which the log has had.
func (e *Edge) catchUp(ctx context.Context, chat schemas.Chat, name schemas.User, m *member, after, upto uint64) error {
	return streams.Walk(ctx, e.logReader, chat, after, upto, func(stored *schemas.StoredEvent) error {
		if stored.Seq > upto || !changesGroup(stored.JSON) {
			return nil
		}
		if ev, err := schemas.DecodeEvent(stored.JSON); err == nil { // else nobody follows it
			m.apply(groupChange{stored.Seq, ev}, name)
		}
		return nil
	})
}

// leaveOthers takes a user out of groups that a worker did not name, where it
// would have known of the membership: its end was missed.
func (e *Edge) leaveOthers(u *user, joined *schemas.JoinedAnswer, asOf func(schemas.Chat) uint64) {
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
		e.takeOut(u, g)
	}
}

// takeOut ends a membership whose end came by no event here.
func (e *Edge) takeOut(u *user, g *group) {
	g.drop(u)
	frame := jsonFrame(schemas.ChatFrame{T: schemas.TChat, Chat: g.chat, Change: schemas.ChatRemoved})
	for _, s := range u.everySession() {
		s.push(frame)
	}
}

// loadList are the users whose groups are to be asked for; at most those here.
type loadList struct {
	mu    sync.Mutex
	users map[*user]struct{}
}

// loadLater has loadLoop ask for a user's groups.
func (e *Edge) loadLater(u *user) {
	e.loads.mu.Lock()
	defer e.loads.mu.Unlock()
	if e.loads.users == nil {
		e.loads.users = make(map[*user]struct{})
	}
	e.loads.users[u] = struct{}{}
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
func (e *Edge) loadLoop(ctx context.Context) {
	for sleep(ctx, loadAgainEvery) {
		users := e.loads.take()
		if n := len(users); n > 0 {
			e.log.Warn("the groups of users are asked for again", "users", n)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(loadsMax)
		for _, u := range users {
			group.Go(func() error {
				unknown := u.isUnknown()
				e.loadUser(ctx, u, !unknown)
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

package edge

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

// standIn answers what an edge asks workers about groups and blocks, from the
// events that the test itself wrote into the log: the real ones need a store, which
// an edge's tests do not have. See tests/e2e for both together.
type standIn struct {
	t    testing.TB
	rig  *rig
	conn *nats.Conn
	subs []*nats.Subscription

	mu     sync.Mutex
	roles  map[schemas.Chat]map[schemas.User]schemas.JoinedMember
	stored map[string]uint64 // what joined tells; nil: all that was written
	frozen map[schemas.User]schemas.JoinedAnswer
	blocks map[schemas.User][]schemas.User
	hides  map[schemas.User]bool           // what they have read
	status map[schemas.User]schemas.Status // chosen
	shown  map[schemas.User]schemas.Presence
	asOf   time.Time
	asked  map[string]int // by subject
}

// newStandIn serves joined, standing and blocks.
func newStandIn(t testing.TB, r *rig) *standIn {
	t.Helper()
	w := &standIn{t: t, rig: r, conn: r.env.Connect(t, streams.WorkerComponent),
		roles: map[schemas.Chat]map[schemas.User]schemas.JoinedMember{}, frozen: map[schemas.User]schemas.JoinedAnswer{},
		blocks: map[schemas.User][]schemas.User{}, hides: map[schemas.User]bool{}, status: map[schemas.User]schemas.Status{},
		shown: map[schemas.User]schemas.Presence{}, asOf: time.Unix(1_800_000_000, 0).UTC(), stored: map[string]uint64{}, asked: map[string]int{}}
	w.serveAll()
	if err := w.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *standIn) serveAll() {
	serve(w, streams.JoinedSubject, func(q schemas.Joined) any { return w.joinedLocked(q.User) })
	serve(w, streams.StandingSubject, func(q schemas.Standing) any {
		answer := schemas.StandingAnswer{Members: []schemas.JoinedMember{}}
		for _, user := range q.Users {
			if is, ok := w.roles[q.Chat][user]; ok && is.Role.In() {
				answer.Members = append(answer.Members, is)
			}
		}
		for _, is := range w.roles[q.Chat] {
			if is.Role.In() {
				answer.Count++
			}
		}
		return answer
	})
	serve(w, streams.PrivacySubject, func(q schemas.Privacy) any {
		return schemas.PrivacyAnswer{Blocks: append([]schemas.User{}, w.blocks[q.User]...), HidesReads: w.hides[q.User], Status: w.status[q.User]}
	})
	serve(w, streams.PresenceSubject, func(q schemas.Users) any {
		answer := schemas.PresenceAnswer{Users: map[schemas.User]schemas.Presence{}, AsOf: w.asOf}
		for _, user := range q.Users {
			answer.Users[user] = schemas.Presence{Status: schemas.Offline}
			if is, ok := w.shown[user]; ok {
				answer.Users[user] = is
			}
		}
		return answer
	})
}

// setPrivacy has privacy answer what a user lets others see, and tells its edges.
func (w *standIn) setPrivacy(user string, hides bool, status schemas.Status) {
	w.t.Helper()
	u := testUser(w.t, user)
	w.mu.Lock()
	w.hides[u], w.status[u] = hides, status
	w.mu.Unlock()
	w.notify(u, schemas.Notice{ChatFrame: schemas.ChatFrame{T: schemas.TChat, Chat: schemas.DirectChat(u, u), Change: schemas.ChatPrivacy}, Hidden: true})
}

// block has privacy answer that a user does not talk with others, and tells its edges.
func (w *standIn) block(user string, others ...string) {
	w.t.Helper()
	w.setBlocks(user, others...)
	u := testUser(w.t, user)
	w.notify(u, schemas.Notice{ChatFrame: schemas.ChatFrame{T: schemas.TChat, Chat: schemas.DirectChat(u, u), Change: schemas.ChatBlocked}, Hidden: true})
}

func (w *standIn) notify(user schemas.User, notice schemas.Notice) {
	w.t.Helper()
	data, err := json.Marshal(notice)
	if err == nil {
		err = w.conn.Publish(streams.Personal(user), data)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// show has presence answer that a user is so from now on; told, it is told as well.
func (w *standIn) show(user string, status schemas.Status, told bool) {
	w.t.Helper()
	w.mu.Lock()
	w.asOf = w.asOf.Add(time.Second)
	w.shown[testUser(w.t, user)] = schemas.Presence{Status: status}
	asOf := w.asOf
	w.mu.Unlock()
	if told {
		w.tellPresence(user, status, asOf)
	}
}

func (w *standIn) tellPresence(user string, status schemas.Status, asOf time.Time) {
	w.t.Helper()
	data, err := json.Marshal(schemas.PresenceChange{Presence: schemas.Presence{Status: status}, AsOf: asOf})
	if err == nil {
		err = w.conn.Publish(streams.PresenceOf(testUser(w.t, user)), data)
	}
	if err == nil {
		err = w.conn.Flush()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func serve[Q any](w *standIn, subject string, answer func(Q) any) {
	sub, err := w.conn.QueueSubscribe(subject, "q", func(m *nats.Msg) {
		var q Q
		if err := json.Unmarshal(m.Data, &q); err != nil {
			w.t.Errorf("%s was asked %s: %v", subject, m.Data, err)
			return
		}
		w.mu.Lock()
		w.asked[subject]++
		data, err := json.Marshal(answer(q))
		w.mu.Unlock()
		if err != nil {
			w.t.Error(err)
		}
		_ = m.Respond(data)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.subs = append(w.subs, sub)
}

func (w *standIn) joinedLocked(user schemas.User) schemas.JoinedAnswer {
	if answer, ok := w.frozen[user]; ok {
		return answer
	}
	answer := schemas.JoinedAnswer{Groups: []schemas.JoinedGroup{}, Stored: map[string]uint64{}}
	for chat, members := range w.roles {
		if is, ok := members[user]; ok && is.Role.In() {
			answer.Groups = append(answer.Groups, schemas.JoinedGroup{Chat: chat, Role: is.Role, Since: is.Since, From: is.From})
		}
	}
	for shard, seq := range w.stored {
		answer.Stored[shard] = seq
	}
	return answer
}

// freeze has joined answer for a user what it would answer now, from now on: the
// store is behind the log.
func (w *standIn) freeze(user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := testUser(w.t, user)
	w.frozen[u] = w.joinedLocked(u)
}

// setBlocks has blocks answer that a user does not talk with others.
func (w *standIn) setBlocks(user string, others ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocks[testUser(w.t, user)] = nil
	for _, other := range others {
		w.blocks[testUser(w.t, user)] = append(w.blocks[testUser(w.t, user)], testUser(w.t, other))
	}
}

// timesAsked tells how often a subject was asked.
func (w *standIn) timesAsked(subject string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[subject]
}

// write puts an event of a group into the log, as the service chats does; with
// told, who comes in by it is told.
func (w *standIn) write(told bool, chat schemas.Chat, event string) uint64 {
	w.t.Helper()
	event = strings.ReplaceAll(event, `"t":`, `"type":`)
	ev, err := schemas.DecodeEvent([]byte(event))
	if err != nil {
		w.t.Fatal(err)
	}
	shard := w.rig.edge().logReader.Layout().Shard(chat)
	js, err := jetstream.New(w.conn)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ack, err := js.Publish(w.t.Context(), shard.Timeline(chat), []byte(event))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.roles[chat] == nil {
		w.roles[chat] = map[schemas.User]schemas.JoinedMember{}
	}
	for user, role := range ev.Roles() {
		is := w.roles[chat][user]
		is.User, is.Role = user, role
		if ev.Joins() {
			is.Since, is.From = ack.Sequence, ack.Sequence
		}
		w.roles[chat][user] = is
	}
	w.stored[shard.Token] = ack.Sequence
	if told {
		w.tellLocked(chat, ack.Sequence, ev)
	}
	return ack.Sequence
}

func (w *standIn) tellLocked(chat schemas.Chat, seq uint64, ev *schemas.Event) {
	for user, notice := range schemas.Notices(chat, seq, ev, schemas.HistoryJoined) {
		data, err := json.Marshal(notice)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.conn.Publish(streams.Personal(user), data); err != nil {
			w.t.Fatal(err)
		}
	}
}

// create makes group.<id> with an owner and members, and tells them.
func (w *standIn) create(id, owner string, members ...string) (schemas.Chat, uint64) {
	w.t.Helper()
	chat := testChat(w.t, "group."+id)
	quoted, _ := json.Marshal(append([]string{}, members...))
	return chat, w.write(true, chat, fmt.Sprintf(`{"type":"group","id":"%s","from":"%s","change":"created","name":"%s","members":%s,"count":%d}`,
		id, owner, id, quoted, len(members)+1))
}

// change writes a member event: added, removed or left.
func (w *standIn) change(chat schemas.Chat, by, change string, users ...string) uint64 {
	w.t.Helper()
	quoted, _ := json.Marshal(users)
	return w.write(true, chat, fmt.Sprintf(`{"type":"member","id":"c%d","from":"%s","change":"%s","users":%s,"count":9}`,
		w.rig.clock.Now().UnixNano(), by, change, quoted))
}

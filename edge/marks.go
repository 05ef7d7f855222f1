package edge

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

const (
	// marksMax bounds the marks that wait to be told. Past it one is dropped: the next
	// says more, and clients send theirs again.
	marksMax = 1 << 16
	// looksMax bounds a user's marks that wait until the ends of their chats are known.
	looksMax = 2048
	// lookWithin bounds one look at the ends of chats.
	lookWithin = 5 * time.Second
)

// marks gathers how far users here have got, until publishLoop publishes it: at most once
// in [schemas.MarksEvery] for each user and chat, and then the highest.
type marks struct {
	*base
	members *membership
	reader  *reader

	mu      sync.Mutex
	waiting map[markOf]mark
}

type markOf struct {
	chat schemas.Chat
	user schemas.User
}

// mark is how far a user has got.
type mark struct {
	delivered, read reached
	private         bool // nobody else is told of read
}

// reached is a seq, 0 for nothing new, and the session that has got so far.
type reached struct {
	seq     uint64
	session schemas.ID
}

// raise takes another where that is higher.
func (r *reached) raise(other reached) {
	if other.seq > r.seq {
		*r = other
	}
}

// markAsked is a mark as a session sent it.
type markAsked struct {
	session *session
	ref     schemas.Ref
	kind    schemas.Type // TDelivered or TRead
	schemas.Mark
}

// handleMark takes a watermark of a session's user. Where this edge does not know
// that the chat has come so far, or how large the group is, it looks first.
func (ms *marks) handleMark(s *session, frame schemas.Frame) *schemas.Error {
	asked := markAsked{session: s, ref: frame.Ref, kind: frame.T, Mark: *frame.Mark}
	if _, err := ms.members.memberOf(s.user, asked.Chat); err != nil {
		return err
	}
	if !s.user.getPrivacy().known {
		return unknownPrivacy(s.user.name) // resync tells when it is known, and marks are sent again
	}
	a := ms.members.audienceIn(s.user, asked.Chat)
	if a == nil {
		return notMember(s.user.name, asked.Chat) // its group has just ended
	}
	if seq, ok := a.sentUpTo(asked.Chat); ok && asked.Seq <= seq && (a.group == nil || a.group.size() > 0) {
		return ms.gather(&asked, a)
	}
	if !ms.awaitLook(asked) {
		return &schemas.Error{Code: schemas.RateLimited, Message: "more than " + strconv.Itoa(looksMax) + " marks of chats of which nothing came in this session", RetryAfter: 1}
	}
	return nil
}

// awaitLook queues a mark until somebody has looked at its chat's end. It returns
// false where too many wait.
func (ms *marks) awaitLook(asked markAsked) bool {
	u := asked.session.user
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.looks) >= looksMax {
		return false
	}
	u.looks = append(u.looks, asked)
	if !u.looking {
		u.looking = true
		ms.tasks.Go(func() { ms.lookLoop(u) })
	}
	return true
}

// lookLoop looks until no mark waits.
func (ms *marks) lookLoop(u *user) {
	for {
		u.mu.Lock()
		looks := u.looks
		u.looks, u.looking = nil, len(looks) > 0
		u.mu.Unlock()
		if len(looks) == 0 {
			return
		}
		ms.lookUp(u, looks)
	}
}

// lookUp takes those of a user's marks that are not beyond their chats' ends.
func (ms *marks) lookUp(u *user, looks []markAsked) {
	ctx, cancel := context.WithTimeout(ms.ctx, lookWithin)
	defer cancel()
	var chats []schemas.Chat
	seen := make(map[schemas.Chat]struct{})
	for i := range looks {
		if _, ok := seen[looks[i].Chat]; !ok {
			seen[looks[i].Chat] = struct{}{}
			chats = append(chats, looks[i].Chat)
		}
	}
	ends, err := ms.logReader.Lasts(ctx, chats)
	for i := range looks {
		asked := &looks[i]
		refused := unknownEnd(asked.Chat)
		if err == nil {
			refused = ms.lookUpOne(ctx, u, asked, ends)
		}
		if refused != nil {
			asked.session.refuse(schemas.Frame{T: asked.kind, Ref: asked.ref}, refused)
		}
	}
}

// lookUpOne takes a mark that is not beyond its chat's end; ends has those that are
// known to exist, and gets what is found.
func (ms *marks) lookUpOne(ctx context.Context, u *user, asked *markAsked, ends map[schemas.Chat]uint64) *schemas.Error {
	a := ms.members.audienceIn(u, asked.Chat)
	if a == nil {
		return notMember(u.name, asked.Chat) // it has left meanwhile
	}
	if a.group != nil {
		if err := ms.members.askSize(ctx, a.group); err != nil {
			return err
		}
	}
	if asked.Seq > ends[asked.Chat] { // a replica may lag, and the log forgets
		if err := ms.rates.takeRead(u.name, ms.now()); err != nil {
			return err
		}
		end, err := ms.reader.end(ctx, asked.Chat)
		if err != nil {
			return err
		}
		ends[asked.Chat] = end
	}
	if end := ends[asked.Chat]; asked.Seq > end && !ms.reader.hasDisappeared(ctx, asked.Chat, asked.Seq) {
		return schemas.Errorf(schemas.Invalid, "seq %d is beyond the last one of %s, %d", asked.Seq, asked.Chat, end)
	}
	return ms.gather(asked, a)
}

// gather gathers a mark for those who may know of it, and answers.
func (ms *marks) gather(asked *markAsked, a *audience) *schemas.Error {
	u := asked.session.user
	members := uint64(1) // of a direct chat no number matters
	if a.group != nil {
		members = a.group.size()
	}
	hidden := u.getPrivacy().hidesReads || u.blocksIn(asked.Chat)
	here := reached{asked.Seq, asked.session.id}
	var got mark
	if members <= schemas.DeliveredMembersMax && !u.blocksIn(asked.Chat) {
		got.delivered = here // what was read was delivered
	}
	if asked.kind == schemas.TRead {
		got.read, got.private = here, hidden || members > schemas.ReadMembersMax
	}
	if got != (mark{}) && !ms.add(markOf{asked.Chat, u.name}, got) {
		return &schemas.Error{Code: schemas.Overloaded, Message: "too many marks wait to be told", RetryAfter: 1}
	}
	if asked.ref.Present {
		asked.session.push(doneFrame(asked.ref))
	}
	return nil
}

// add gathers a mark. It returns false where there is no room.
func (ms *marks) add(of markOf, got mark) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	waits, known := ms.waiting[of]
	if !known && len(ms.waiting) >= marksMax {
		return false
	}
	if ms.waiting == nil {
		ms.waiting = make(map[markOf]mark)
	}
	waits.delivered.raise(got.delivered)
	waits.read.raise(got.read)
	waits.private = waits.private || got.private
	ms.waiting[of] = waits
	return true
}

// publishLoop tells what was gathered, again and again, and at the end.
func (ms *marks) publishLoop(ctx context.Context) {
	for sleep(ctx, schemas.MarksEvery) {
		if ms.conn.IsConnected() { // else they wait, and get higher
			ms.publishOnce()
		}
	}
	ms.publishOnce()
	ms.publishOnce() // what was kept back
}

// publishOnce publishes one mark of each user and chat. Of who has read to one place
// and been sent what is behind it, the second is told the next time.
func (ms *marks) publishOnce() {
	layout := ms.logReader.Layout()
	for of, m := range ms.take() {
		shard := layout.Shard(of.chat)
		switch {
		case m.read.seq == 0:
			ms.publish(shard.Mark(of.chat, streams.MarkDelivered, of.user), streams.MarkDelivered, m.delivered, false)
			continue
		case m.private:
			ms.publish(streams.PrivateRead(of.user, of.chat), streams.MarkRead, m.read, false)
		default:
			ms.publish(shard.Mark(of.chat, streams.MarkRead, of.user), streams.MarkRead, m.read, m.delivered.seq > 0)
		}
		if m.delivered.seq > m.read.seq || m.private && m.delivered.seq > 0 {
			ms.add(of, mark{delivered: m.delivered})
		}
	}
}

func (ms *marks) take() map[markOf]mark {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	waiting := ms.waiting
	ms.waiting = nil
	return waiting
}

// publish publishes without awaiting an answer: what is lost a later mark repairs.
func (ms *marks) publish(subject string, kind streams.MarkKind, at reached, delivered bool) {
	data, err := json.Marshal(schemas.StoredMark{Seq: at.seq, Session: at.session, Delivered: delivered})
	if err != nil {
		panic("encode mark: " + err.Error()) // a number and a name
	}
	if err := ms.conn.Publish(subject, data); err == nil {
		ms.metrics.marks.WithLabelValues(string(kind)).Inc()
	}
}

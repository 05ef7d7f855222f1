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

// marks gathers how far users here have got, until marksLoop tells it: at most once
// in [schemas.MarksEvery] for each user and chat, and then the highest.
type marks struct {
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

// add gathers a mark. It returns false where there is no room.
func (m *marks) add(of markOf, got mark) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	waits, known := m.waiting[of]
	if !known && len(m.waiting) >= marksMax {
		return false
	}
	if m.waiting == nil {
		m.waiting = make(map[markOf]mark)
	}
	waits.delivered.raise(got.delivered)
	waits.read.raise(got.read)
	waits.private = waits.private || got.private
	m.waiting[of] = waits
	return true
}

func (m *marks) take() map[markOf]mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.waiting
	m.waiting = nil
	return waiting
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
func (e *Edge) handleMark(s *session, frame schemas.Frame) *schemas.Error {
	asked := markAsked{session: s, ref: frame.Ref, kind: frame.T, Mark: *frame.Mark}
	if _, err := e.memberOf(s.user, asked.Chat); err != nil {
		return err
	}
	if !s.user.getPrivacy().known {
		return unknownPrivacy(s.user.name) // resync tells when it is known, and marks are sent again
	}
	a := e.audienceIn(s.user, asked.Chat)
	if a == nil {
		return notMember(s.user.name, asked.Chat) // its group has just ended
	}
	if seq, ok := a.sentUpTo(asked.Chat); ok && asked.Seq <= seq && (a.group == nil || a.group.size() > 0) {
		return e.takeMark(&asked, a)
	}
	if !s.user.awaitLook(asked) {
		return &schemas.Error{Code: schemas.RateLimited, Message: "more than " + strconv.Itoa(looksMax) + " marks of chats of which nothing came in this session", RetryAfter: 1}
	}
	return nil
}

// takeMark gathers a mark for those who may know of it, and answers.
func (e *Edge) takeMark(asked *markAsked, a *audience) *schemas.Error {
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
	if got != (mark{}) && !e.marks.add(markOf{asked.Chat, u.name}, got) {
		return &schemas.Error{Code: schemas.Overloaded, Message: "too many marks wait to be told", RetryAfter: 1}
	}
	if asked.ref.Present {
		asked.session.push(doneFrame(asked.ref))
	}
	return nil
}

// marksLoop tells what was gathered, again and again, and at the end.
func (e *Edge) marksLoop(ctx context.Context) {
	for sleep(ctx, schemas.MarksEvery) {
		if e.conn.IsConnected() { // else they wait, and get higher
			e.tellMarks()
		}
	}
	e.tellMarks()
	e.tellMarks() // what was kept back
}

// tellMarks publishes one mark of each user and chat. Of who has read to one place
// and been sent what is behind it, the second is told the next time.
func (e *Edge) tellMarks() {
	layout := e.logReader.Layout()
	for of, m := range e.marks.take() {
		shard := layout.Shard(of.chat)
		switch {
		case m.read.seq == 0:
			e.tellMark(shard.Mark(of.chat, streams.MarkDelivered, of.user), streams.MarkDelivered, m.delivered, false)
			continue
		case m.private:
			e.tellMark(streams.PrivateRead(of.user, of.chat), streams.MarkRead, m.read, false)
		default:
			e.tellMark(shard.Mark(of.chat, streams.MarkRead, of.user), streams.MarkRead, m.read, m.delivered.seq > 0)
		}
		if m.delivered.seq > m.read.seq || m.private && m.delivered.seq > 0 {
			e.marks.add(of, mark{delivered: m.delivered})
		}
	}
}

// tellMark publishes without awaiting an answer: what is lost a later mark repairs.
func (e *Edge) tellMark(subject string, kind streams.MarkKind, at reached, delivered bool) {
	data, err := json.Marshal(schemas.StoredMark{Seq: at.seq, Session: at.session, Delivered: delivered})
	if err != nil {
		panic("encode mark: " + err.Error()) // a number and a name
	}
	if err := e.conn.Publish(subject, data); err == nil {
		e.metrics.marks.WithLabelValues(string(kind)).Inc()
	}
}

// awaitLook queues a mark until somebody has looked at its chat's end. It returns
// false where too many wait.
func (u *user) awaitLook(asked markAsked) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.looks) >= looksMax {
		return false
	}
	u.looks = append(u.looks, asked)
	if !u.looking {
		u.looking = true
		u.live.edge.tasks.Go(u.lookLoop)
	}
	return true
}

// lookLoop looks until no mark waits.
func (u *user) lookLoop() {
	for {
		u.mu.Lock()
		looks := u.looks
		u.looks, u.looking = nil, len(looks) > 0
		u.mu.Unlock()
		if len(looks) == 0 {
			return
		}
		u.live.edge.lookUp(u, looks)
	}
}

// lookUp takes those of a user's marks that are not beyond their chats' ends.
func (e *Edge) lookUp(u *user, looks []markAsked) {
	ctx, cancel := context.WithTimeout(e.ctx, lookWithin)
	defer cancel()
	var chats []schemas.Chat
	seen := make(map[schemas.Chat]struct{})
	for i := range looks {
		if _, ok := seen[looks[i].Chat]; !ok {
			seen[looks[i].Chat] = struct{}{}
			chats = append(chats, looks[i].Chat)
		}
	}
	ends, err := e.logReader.Lasts(ctx, chats)
	for i := range looks {
		asked := &looks[i]
		refused := unknownEnd(asked.Chat)
		if err == nil {
			refused = e.lookUpOne(ctx, u, asked, ends)
		}
		if refused != nil {
			e.refuse(asked.session, schemas.Frame{T: asked.kind, Ref: asked.ref}, refused)
		}
	}
}

// lookUpOne takes a mark that is not beyond its chat's end; ends has those that are
// known to exist, and gets what is found.
func (e *Edge) lookUpOne(ctx context.Context, u *user, asked *markAsked, ends map[schemas.Chat]uint64) *schemas.Error {
	a := e.audienceIn(u, asked.Chat)
	if a == nil {
		return notMember(u.name, asked.Chat) // it has left meanwhile
	}
	if a.group != nil {
		if err := e.askSize(ctx, a.group); err != nil {
			return err
		}
	}
	if asked.Seq > ends[asked.Chat] { // a replica may lag, and the log forgets
		if err := e.takeRead(u.name, e.now()); err != nil {
			return err
		}
		end, err := e.endOf(ctx, asked.Chat)
		if err != nil {
			return err
		}
		ends[asked.Chat] = end
	}
	if end := ends[asked.Chat]; asked.Seq > end && !e.hasDisappeared(ctx, asked.Chat, asked.Seq) {
		return schemas.Errorf(schemas.Invalid, "seq %d is beyond the last one of %s, %d", asked.Seq, asked.Chat, end)
	}
	return e.takeMark(asked, a)
}

// hasDisappeared tells whether the shard's log has had an event that is gone: a chat's
// last one may be. Whose it was nobody knows any more, but nothing that comes is below it.
func (e *Edge) hasDisappeared(ctx context.Context, chat schemas.Chat, seq uint64) bool {
	if seq < e.logReader.Layout().Shard(chat).FirstSeq() {
		return false
	}
	gone, err := e.isGone(ctx, chat, seq)
	return err == nil && gone
}

// endOf returns the seq of a chat's last event, as the log's leader has it, or the
// store where the log has forgotten it.
func (e *Edge) endOf(ctx context.Context, chat schemas.Chat) (uint64, *schemas.Error) {
	seq, inLog, err := e.logReader.Last(ctx, chat)
	switch {
	case err != nil:
		return 0, unknownEnd(chat)
	case inLog:
		return seq, nil
	}
	one := int64(1)
	items, _, refused := e.askHistory(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, Limit: &one}})
	if refused != nil || len(items) == 0 {
		return 0, refused
	}
	return items[0].Seq, nil
}

func unknownEnd(chat schemas.Chat) *schemas.Error {
	return &schemas.Error{Code: schemas.Unavailable, Message: "how far " + chat.String() + " has come cannot be read now: send the mark again", RetryAfter: 1}
}

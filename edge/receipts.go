package edge

import (
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

// receiptsMax bounds the chats of a live loop in which marks were told within
// [schemas.ReceiptsEvery], or are to be. Past it a mark is not told live.
const receiptsMax = 1 << 16

// receiptsOf are an audience's, of one chat.
type receiptsOf struct {
	audience *audience
	chat     schemas.Chat
}

// receipts are marks on their way to the sessions of an audience, which are sent at
// most one frame in [schemas.ReceiptsEvery].
type receipts struct {
	marks  []receivedMark // at most schemas.ReadMembersMax
	toldAt time.Time
}

// receivedMark is how far a user has got, since the last frame.
type receivedMark struct {
	user schemas.User
	mark
	shows bool // others are told what is delivered in the chat
}

// shown is the mark as others are told it.
func (m *receivedMark) shown() schemas.ReceiptMark {
	return schemas.ReceiptMark{User: m.user, Delivered: m.delivered.seq, Read: m.read.seq}
}

// isFrom tells whether all of it came from a session.
func (m *receivedMark) isFrom(session schemas.ID) bool {
	return (m.delivered.seq == 0 || m.delivered.session == session) && (m.read.seq == 0 || m.read.session == session)
}

func (r *receipts) add(from schemas.User, kind streams.LiveKind, stored schemas.StoredMark) {
	at := slices.IndexFunc(r.marks, func(m receivedMark) bool { return m.user == from })
	if at < 0 {
		if at = len(r.marks); at == schemas.ReadMembersMax {
			return
		}
		r.marks = append(r.marks, receivedMark{user: from})
	}
	m, here := &r.marks[at], reached{stored.Seq, stored.Session}
	if kind == streams.LiveIsRead {
		m.read.raise(here)
		m.shows = m.shows || stored.Delivered
	} else {
		m.delivered.raise(here)
		m.shows = true
	}
}

// receiptBoard gathers the receipts of one live loop, which alone calls it.
type receiptBoard struct {
	loop  *liveLoop
	chats map[receiptsOf]*receipts // those of the last second, and what waits of them
}

func newReceiptBoard(v *liveLoop) *receiptBoard {
	return &receiptBoard{loop: v, chats: make(map[receiptsOf]*receipts)}
}

// handleReceipt takes a mark of a member of the audience's chat. The first is told at
// once; what follows gathers.
func (rb *receiptBoard) handleReceipt(a *audience, chat schemas.Chat, kind streams.LiveKind, from schemas.User, data []byte) {
	var stored schemas.StoredMark
	if err := json.Unmarshal(data, &stored); err != nil {
		rb.loop.log.Warn("mark cannot be read", "chat", chat, "user", from, "error", err)
		return
	}
	of := receiptsOf{a, chat}
	r := rb.chats[of]
	if r == nil {
		if len(rb.chats) >= receiptsMax {
			return
		}
		r = &receipts{}
		rb.chats[of] = r
	}
	r.add(from, kind, stored)
	if now := rb.loop.now(); now.Sub(r.toldAt) >= schemas.ReceiptsEvery {
		rb.sendReceipts(of, r, now)
	}
}

// check tells what has gathered long enough, and forgets the chats of which
// nothing did.
func (rb *receiptBoard) check(now time.Time) {
	for of, r := range rb.chats {
		switch {
		case now.Sub(r.toldAt) < schemas.ReceiptsEvery:
		case len(r.marks) == 0:
			delete(rb.chats, of)
		default:
			rb.sendReceipts(of, r, now)
		}
	}
}

// sendReceipts sends the sessions of an audience what has gathered. Most are sent all
// of it, in one frame that they share.
func (rb *receiptBoard) sendReceipts(of receiptsOf, r *receipts, now time.Time) {
	var whole []*session
	for _, s := range of.audience.everySession() {
		marks, all := s.visible(r.marks)
		switch {
		case all:
			whole = append(whole, s)
		case len(marks) > 0:
			rb.loop.deliverTo([]*session{s}, item{frame: receiptFrame(of.chat, marks)})
		}
	}
	if len(whole) > 0 {
		marks := make([]schemas.ReceiptMark, len(r.marks))
		for i := range r.marks {
			marks[i] = r.marks[i].shown()
		}
		rb.loop.deliverTo(whole, item{frame: receiptFrame(of.chat, marks)})
	}
	r.marks, r.toldAt = r.marks[:0], now
}

func receiptFrame(chat schemas.Chat, marks []schemas.ReceiptMark) wireFrame {
	return jsonFrame(schemas.ReceiptFrame{T: schemas.TReceipt, Chat: chat, Marks: marks})
}

// visible returns those of the marks that a session is told: not those that came from
// itself, none of users with whom its user does not talk, and of others no more than
// what was delivered where its user hides what it has read. All tells that it is told
// every one as it is; then marks is nil.
func (s *session) visible(received []receivedMark) (marks []schemas.ReceiptMark, all bool) {
	private := s.user.getPrivacy()
	all = len(received) > 1 || !received[0].isFrom(s.id)
	for i := range received {
		m := &received[i]
		if m.user != s.user.name && (private.blocks(m.user) || private.hidesReads && m.read.seq > 0) {
			all = false
		}
	}
	if all {
		return nil, true
	}
	for i := range received {
		m := &received[i]
		shown := m.shown()
		if private.hidesReads && m.user != s.user.name {
			if shown.Read = 0; m.shows {
				shown.Delivered = max(m.delivered.seq, m.read.seq)
			}
		}
		if !m.isFrom(s.id) && !private.blocks(m.user) && shown.Delivered+shown.Read > 0 {
			marks = append(marks, shown)
		}
	}
	return marks, false
}

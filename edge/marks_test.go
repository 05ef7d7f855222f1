package edge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
)

// listen returns what is published from now on, to who may hear all.
func (r *rig) listen(t testing.TB, subjects ...string) chan *nats.Msg {
	t.Helper()
	msgs := make(chan *nats.Msg, 1<<14)
	conn := r.env.Connect(t, streams.OperatorComponent)
	for _, subject := range subjects {
		if _, err := conn.ChanSubscribe(subject, msgs); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return msgs
}

// nextMark returns the next mark that is published.
func nextMark(t testing.TB, msgs chan *nats.Msg) (subject string, seq uint64) {
	t.Helper()
	select {
	case m := <-msgs:
		var stored schemas.StoredMark
		if err := json.Unmarshal(m.Data, &stored); err != nil {
			t.Fatalf("%s: %s: %v", m.Subject, m.Data, err)
		}
		return m.Subject, stored.Seq
	case <-time.After(failAfter):
		t.Fatal("no mark is published")
	}
	panic("not reached")
}

var markSubjects = []string{"chat.*.direct.*.*.read.*", "chat.*.direct.*.*.delivered.*", "chat.*.group.*.read.*", "chat.*.group.*.delivered.*", "user.*.read.>"}

func TestMarksAreToldTheHighestWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	published := r.listen(t, markSubjects...)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	const chat = "direct.ann.bea"
	var seqs []uint64
	for i := range 100 {
		seqs = append(seqs, ann.sent(fmt.Sprint("m", i), chat, "hi"))
	}
	last := seqs[len(seqs)-1]
	for range seqs {
		bea.await("event")
	}
	for _, i := range []int{7, 3, 99, 50} { // in whatever order
		bea.say(fmt.Sprintf(`{"t":"read","ref":%d,"chat":%q,"seq":%d}`, i, chat, seqs[i]))
	}
	for _, seq := range seqs {
		bea.say(fmt.Sprintf(`{"t":"delivered","chat":%q,"seq":%d}`, chat, seq))
	}
	for _, ref := range []uint64{7, 3, 99, 50} {
		if g := bea.answer(ref); g.T != "done" {
			t.Errorf("got %v", g)
		}
	}
	for highest := uint64(0); highest < last; {
		subject, seq := nextMark(t, published)
		if strings.Contains(subject, ".read.") {
			if seq <= highest {
				t.Errorf("read %d is told behind %d", seq, highest)
			}
			highest = seq
		}
	}
	for {
		g := ann.await("receipt")
		if len(g.Marks) != 1 || g.Marks[0].User.String() != "bea" {
			t.Fatalf("ann is told %v", g)
		}
		if g.Marks[0].Read == last {
			break
		}
	}
	for _, g := range bea.barrier() {
		if g.T == "receipt" {
			t.Errorf("the session that has read is told %v", g)
		}
	}
}

// TestMarksGather: of all that a user says of a chat between two rounds one mark is
// published, and what that does not say in the next one.
func TestMarksGather(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	published := r.listen(t, markSubjects...)
	ms := &marks{base: &base{conn: r.env.Connect(t, streams.EdgeComponent), logReader: r.edge().logReader, metrics: newMetrics(prometheus.NewRegistry())}}
	of := markOf{testChat(t, "direct.ann.bea"), testUser(t, "bea")}
	want := func(rounds string, marks ...string) {
		t.Helper()
		ms.publishOnce()
		if err := ms.conn.Publish(streams.PrivateRead(of.user, of.chat), []byte(`{"seq":1}`)); err != nil { // behind all of them
			t.Fatal(err)
		}
		var got []string
		for subject, seq := nextMark(t, published); seq != 1; subject, seq = nextMark(t, published) {
			got = append(got, fmt.Sprint(subject[strings.LastIndex(subject, "bea."):], " ", seq))
		}
		if !slices.Equal(got, marks) {
			t.Errorf("%s: told %q, want %q", rounds, got, marks)
		}
	}
	for i := range uint64(100) {
		ms.add(of, mark{delivered: reached{seq: 10 + i}})
		if i < 50 {
			ms.add(of, mark{delivered: reached{seq: 10 + i}, read: reached{seq: 10 + i}})
		}
	}
	want("the first round", "bea.read.bea 59")
	want("the second", "bea.delivered.bea 109")
	want("the third")
	ms.add(of, mark{delivered: reached{seq: 200}, read: reached{seq: 200}, private: true})
	want("of what is hidden", "bea.read.direct.ann.bea 200")
	want("of that it was delivered", "bea.delivered.bea 200")
	want("nothing")
}

// TestReadDoesNotHideDelivered: who has read to one place and been sent what is behind
// it tells both, one after the other.
func TestReadDoesNotHideDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	const chat = "direct.ann.bea"
	first, second := ann.sent("m1", chat, "one"), ann.sent("m2", chat, "two")
	bea.await("event")
	bea.await("event")
	published := r.listen(t, markSubjects...)
	bea.say(fmt.Sprintf(`{"t":"read","chat":%q,"seq":%d}`, chat, first))
	bea.say(fmt.Sprintf(`{"t":"delivered","chat":%q,"seq":%d}`, chat, second))
	want := map[string]uint64{".read.bea": first, ".delivered.bea": second}
	for len(want) > 0 {
		subject, seq := nextMark(t, published)
		for suffix, is := range want {
			if strings.HasSuffix(subject, suffix) && seq == is {
				delete(want, suffix)
			}
		}
	}
}

// TestMarksOfChatsOfWhichNothingCame: their ends are looked up, in the log and, where
// that has nothing, in the store; what is beyond them is invalid.
func TestMarksOfChatsOfWhichNothingCame(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	var seqs []uint64
	for i := range 50 {
		seqs = append(seqs, ann.sent("m", fmt.Sprintf("direct.ann.b%d", i), "hi"))
	}
	serve(r.workers, streams.HistorySubject, func(q schemas.HistoryAsk) any {
		answer := schemas.HistoryAnswer{Events: []schemas.Item{}}
		if q.Chat == testChat(t, "direct.ann.old") {
			answer.Events = append(answer.Events, schemas.Item{StoredEvent: schemas.StoredEvent{Seq: 7, JSON: []byte(`{}`)}})
		}
		return answer
	})
	again := r.join(t, r.addEdge(t, nil), "ann")
	published := r.listen(t, markSubjects...)
	for i, seq := range seqs {
		again.say(fmt.Sprintf(`{"t":"delivered","ref":%d,"chat":"direct.ann.b%d","seq":%d}`, 100+i, i, seq))
	}
	for i := range seqs {
		if g := again.answer(uint64(100 + i)); g.T != "done" {
			t.Errorf("got %v", g)
		}
	}
	told := map[string]bool{}
	for len(told) < len(seqs) {
		subject, _ := nextMark(t, published)
		told[subject] = true
	}
	for ref, mark := range map[uint64]struct {
		chat string
		seq  uint64
		want string
	}{
		1: {"direct.ann.b0", seqs[0] + 1, "invalid"}, 2: {"direct.ann.b1", schemas.SeqMax, "invalid"},
		3: {"direct.ann.old", 7, ""}, 4: {"direct.ann.old", 8, "invalid"}, 5: {"direct.ann.nobody", 1, "invalid"},
		6: {"direct.bea.cid", 1, "not_member"}, 7: {"group.none", 1, "not_member"},
	} {
		again.say(fmt.Sprintf(`{"t":"read","ref":%d,"chat":%q,"seq":%d}`, ref, mark.chat, mark.seq))
		if g := again.answer(ref); string(g.Code) != mark.want {
			t.Errorf("%s %d: got %v, want %q", mark.chat, mark.seq, g, mark.want)
		}
	}
}

func TestGuessedMarksAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *Config) { cfg.UserRate = 0.001 }) // a burst of one
	ann := r.join(t, r.edge(), "ann")
	for ref, want := range []schemas.Code{schemas.Unavailable, schemas.RateLimited} { // no worker has a history
		ann.say(fmt.Sprintf(`{"t":"read","ref":%d,"chat":"direct.ann.x%d","seq":9}`, ref, ref))
		if g := ann.answer(uint64(ref)); g.Code != want || g.RetryAfter <= 0 {
			t.Errorf("guess %d: got %v, want %s", ref, g, want)
		}
	}
}

// TestMarksInGroups: what is told depends on how many members there are, and what is
// told to nobody is the user's own.
func TestMarksInGroups(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	published := r.listen(t, markSubjects...)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	for _, size := range []struct {
		members int
		want    [2]string // where delivered goes, and read
	}{
		{schemas.DeliveredMembersMax, [2]string{".group.%s.delivered.bea", ".group.%s.read.bea"}},
		{schemas.DeliveredMembersMax + 1, [2]string{"", ".group.%s.read.bea"}},
		{schemas.ReadMembersMax, [2]string{"", ".group.%s.read.bea"}},
		{schemas.ReadMembersMax + 1, [2]string{"", "user.bea.read.group.%s"}},
	} {
		id := fmt.Sprintf("g%d", size.members)
		members := []string{"bea"}
		for i := range size.members - 2 {
			members = append(members, fmt.Sprintf("u%d", i))
		}
		chat, _ := r.workers.create(id, "ann", members...)
		bea.await("chat")
		ann.await("chat")
		seq := ann.sent("m", chat.String(), "hi")
		for g := bea.next(); g.Seq != seq; g = bea.next() {
		}
		for i, kind := range []string{"delivered", "read"} {
			bea.say(fmt.Sprintf(`{"t":%q,"ref":9,"chat":%q,"seq":%d}`, kind, chat, seq))
			if g := bea.answer(9); g.T != "done" {
				t.Errorf("got %v", g)
			}
			if size.want[i] == "" {
				continue
			}
			if subject, got := nextMark(t, published); !strings.HasSuffix(subject, fmt.Sprintf(size.want[i], id)) || got != seq {
				t.Errorf("%d members: %s is told on %s as %d", size.members, kind, subject, got)
			}
		}
	}
	if n := len(published); n > 0 {
		t.Errorf("%d marks more are told", n)
	}
}

// TestHiddenReads: others are told of a delivery, and who hides is told no more itself.
func TestHiddenReads(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.workers.hides[testUser(t, "bea")] = true
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	const chat = "direct.ann.bea"
	first := ann.sent("m1", chat, "hi")
	bea.await("event")
	published := r.listen(t, markSubjects...)
	bea.say(fmt.Sprintf(`{"t":"read","chat":%q,"seq":%d}`, chat, first))
	if subject, seq := nextMark(t, published); subject != "user.bea.read.direct.ann.bea" || seq != first {
		t.Errorf("what bea has read is told on %s", subject)
	}
	if subject, seq := nextMark(t, published); !strings.HasSuffix(subject, ".delivered.bea") || seq != first {
		t.Errorf("what was delivered to bea is told on %s", subject)
	}
	if g := ann.await("receipt"); g.Marks[0].Delivered != first || g.Marks[0].Read != 0 {
		t.Errorf("ann is told %v", g)
	}
	second := bea.sent("m2", chat, "hi")
	for g := ann.next(); g.Seq != second; g = ann.next() {
	}
	ann.say(fmt.Sprintf(`{"t":"read","chat":%q,"seq":%d}`, chat, second))
	if g := bea.await("receipt"); g.Marks[0].Delivered != second || g.Marks[0].Read != 0 {
		t.Errorf("bea, who hides, is told %v", g)
	}
	// Her own sessions are told, by the worker that has stored it.
	r.workers.notify(testUser(t, "bea"), schemas.Notice{ChatFrame: schemas.ChatFrame{T: schemas.TChat, Chat: testChat(t, chat), Change: schemas.ChatRead, Seq: first}, Hidden: true})
	if g := bea.await("receipt"); g.Chat != chat || g.Marks[0].User.String() != "bea" || g.Marks[0].Read != first {
		t.Errorf("bea's own session is told %v", g)
	}
}

// receiver is a user of a live loop without goroutines, whose clock a test moves.
type receiver struct {
	v    *liveLoop
	user *user
	now  time.Time
}

func newReceiver(t testing.TB) *receiver {
	k := newSink(t, 2)
	r := &receiver{now: time.Unix(1_800_000_000, 0)}
	r.v = newLiveLoop(&base{now: func() time.Time { return r.now }}, []*fanoutLoop{k.loop}, nil)
	r.user = &user{audience: audience{live: r.v}, name: testUser(t, "ann")}
	for i, s := range k.sessions {
		s.user, s.id = r.user, testID(t, fmt.Sprintf("s%d", i))
		r.user.sessions = insertSession(r.user.sessions, s)
	}
	return r
}

// got returns the receipt frames that wait for the fan-out loop, and to how many sessions.
func (r *receiver) got(t testing.TB) (frames []schemas.ReceiptFrame, sessions []int) {
	t.Helper()
	for _, it := range r.v.batches[0] {
		var frame schemas.ReceiptFrame
		if err := json.Unmarshal(it.frame[strings.IndexByte(string(it.frame), '{'):], &frame); err != nil {
			t.Fatal(err)
		}
		frames, sessions = append(frames, frame), append(sessions, len(it.to))
	}
	r.v.batches[0] = nil
	return frames, sessions
}

func (r *receiver) mark(from schemas.User, kind streams.LiveKind, seq uint64, session string) {
	chat := schemas.DirectChat(r.user.name, from)
	r.v.receipts.handleReceipt(&r.user.audience, chat, kind, from, fmt.Appendf(nil, `{"seq":%d,"session":%q}`, seq, session))
}

func TestReceiptFramesAreAtMostOneASecond(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	bea, cid := testUser(t, "bea"), testUser(t, "cid")
	want := func(what string, frames ...string) {
		t.Helper()
		got, _ := r.got(t)
		var are []string
		for _, frame := range got {
			data, _ := json.Marshal(frame.Marks)
			are = append(are, frame.Chat.String()+string(data))
		}
		if strings.Join(are, " ") != strings.Join(frames, " ") {
			t.Errorf("%s: told %q, want %q", what, are, frames)
		}
	}
	r.mark(bea, streams.LiveIsDelivered, 5, "x")
	want("the first", `direct.ann.bea[{"user":"bea","delivered":5}]`)
	r.mark(bea, streams.LiveIsRead, 5, "x")
	r.mark(bea, streams.LiveIsDelivered, 9, "x")
	r.mark(bea, streams.LiveIsDelivered, 7, "x")
	r.mark(cid, streams.LiveIsRead, 3, "x")
	want("within a second", `direct.ann.cid[{"user":"cid","read":3}]`)
	r.now = r.now.Add(schemas.ReceiptsEvery - time.Millisecond)
	r.v.receipts.check(r.now)
	want("just before its end")
	r.now = r.now.Add(time.Millisecond)
	r.v.receipts.check(r.now)
	want("at its end", `direct.ann.bea[{"user":"bea","delivered":9,"read":5}]`)
	r.v.receipts.check(r.now)
	want("again")
	r.now = r.now.Add(schemas.ReceiptsEvery)
	r.v.receipts.check(r.now)
	if n := len(r.v.receipts.chats); n != 0 {
		t.Errorf("%d chats are remembered in which nothing goes on", n)
	}
}

func TestOwnMarksGoToTheOtherSessions(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.mark(r.user.name, streams.LiveIsRead, 5, "s0")
	if frames, sessions := r.got(t); len(frames) != 1 || sessions[0] != 1 || frames[0].Marks[0].Read != 5 {
		t.Errorf("told %v to %v sessions, want one", frames, sessions)
	}
	r.now = r.now.Add(schemas.ReceiptsEvery)
	r.mark(r.user.name, streams.LiveIsRead, 6, "elsewhere")
	if frames, sessions := r.got(t); len(frames) != 1 || sessions[0] != 2 {
		t.Errorf("told %v to %v sessions, want both", frames, sessions)
	}
}

func TestReceiptsAreBounded(t *testing.T) {
	t.Parallel()
	r := &receipts{}
	for i := range 2 * schemas.ReadMembersMax {
		r.add(testUser(t, fmt.Sprintf("u%d", i)), streams.LiveIsRead, schemas.StoredMark{Seq: 1})
	}
	if len(r.marks) != schemas.ReadMembersMax {
		t.Errorf("%d marks wait", len(r.marks))
	}
	m := &marks{}
	for i := range marksMax + 10 {
		of := markOf{chat: testChat(t, "direct.ann.bea"), user: testUser(t, fmt.Sprintf("u%d", i))}
		if took := m.add(of, mark{read: reached{seq: 1}}); took != (i < marksMax) {
			t.Fatalf("mark %d: taken %t", i, took)
		}
	}
	if !m.add(markOf{chat: testChat(t, "direct.ann.bea"), user: testUser(t, "u0")}, mark{read: reached{seq: 2}}) {
		t.Error("a mark that waits is not raised")
	}
}

// TestEachSessionIsToldWhatAnotherHasRead, also where it has told of the same seq that
// it was delivered, within the time in which marks gather.
func TestEachSessionIsToldWhatAnotherHasRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, phone, laptop := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea"), r.join(t, r.edge(), "bea")
	const chat = "direct.ann.bea"
	seq := ann.sent("m", chat, "hi")
	phone.await("event")
	laptop.await("event")
	phone.say(fmt.Sprintf(`{"t":"read","chat":%q,"seq":%d}`, chat, seq))
	laptop.say(fmt.Sprintf(`{"t":"delivered","chat":%q,"seq":%d}`, chat, seq))
	for laptop.await("receipt").Marks[0].Read != seq {
	}
}

// TestHiddenReadsInLargeGroups: what was read there tells nothing of what was delivered.
func TestHiddenReadsInLargeGroups(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.user.privacy = privacy{known: true, hidesReads: true}
	bea := testUser(t, "bea")
	r.mark(bea, streams.LiveIsRead, 5, "x")
	if frames, _ := r.got(t); len(frames) != 0 {
		t.Errorf("told %v", frames)
	}
	r.now = r.now.Add(schemas.ReceiptsEvery)
	r.v.receipts.handleReceipt(&r.user.audience, schemas.DirectChat(r.user.name, bea), streams.LiveIsRead, bea, []byte(`{"seq":6,"delivered":true}`))
	if frames, _ := r.got(t); len(frames) != 2 || frames[0].Marks[0] != (schemas.ReceiptMark{User: bea, Delivered: 6}) { // one for each session
		t.Errorf("told %v", frames)
	}
}

// TestMarkOfWhatHasDisappeared is taken: it was there once.
func TestMarkOfWhatHasDisappeared(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	const chat = "direct.ann.bea"
	seq := ann.sent("m", chat, "hi", `,"ttl":1`)
	eventually(t, "it has disappeared", func() bool {
		_, inLog, err := r.edge().logReader.Last(t.Context(), testChat(t, chat))
		return err == nil && !inLog
	})
	serve(r.workers, streams.HistorySubject, func(schemas.HistoryAsk) any { return schemas.HistoryAnswer{Events: []schemas.Item{}} })
	bea := r.join(t, r.edge(), "bea")
	for ref, want := range map[uint64]schemas.Code{seq: "", seq + 1: schemas.Invalid, 1: schemas.Invalid} {
		bea.say(fmt.Sprintf(`{"t":"read","ref":%d,"chat":%q,"seq":%d}`, ref, chat, ref))
		if g := bea.answer(ref); g.Code != want {
			t.Errorf("%d: got %v, want %q", ref, g, want)
		}
	}
}

func TestMarksOfNotesToOneselfAreToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, too := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann")
	seq := ann.sent("m", "direct.ann.ann", "milk")
	too.await("event")
	ann.say(fmt.Sprintf(`{"t":"read","chat":"direct.ann.ann","seq":%d}`, seq))
	too.await("receipt")
	r.clock.advance(schemas.ReceiptsEvery)
	later := ann.sent("m2", "direct.ann.ann", "bread")
	for g := too.next(); g.Seq != later; g = too.next() {
		if g.T == "receipt" {
			t.Errorf("told again: %v", g)
		}
	}
}

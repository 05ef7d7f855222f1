package parley

import (
	"fmt"
	"testing"

	"parley/schemas"
)

// markJSON is the frame of a mark.
func markJSON(t schemas.Type, chat, seq string) string {
	return `{"t":"` + string(t) + `","chat":"` + chat + `","seq":` + seq + `}`
}

const ab = "direct.alice.bob"

func (r *recorder) chat(f schemas.ChatFrame) { r.said <- f.Chat.String() + " " + string(f.Change) }

// sayBarrier has the client tell rec that all before it is taken.
func (c *scriptConn) sayBarrier(rec *recorder) {
	c.t.Helper()
	c.say(`{"t":"chat","chat":"direct.alice.bob","change":"pinned"}`)
	rec.want("direct.alice.bob pinned")
}

func TestOfABurstTheHighestIsToldAsDelivered(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t)
	client, conn := newScriptServer(t).dial(Options{OnEvent: rec.event, OnChat: rec.chat}, helloEmpty)
	client.writing.Lock() // nothing can be said before all is there
	for i, id := range []string{"a", "b", "c", "d"} {
		conn.sayEvent(uint64(11+i), uint64(10+i), "bob", id)
	}
	rec.want("11 a", "12 b", "13 c", "14 d")
	conn.sayBarrier(rec)
	client.writing.Unlock()
	conn.want(markJSON(schemas.TDelivered, ab, "14"))
	client.Read(directAB, 14)
	conn.want(markJSON(schemas.TRead, ab, "14"))
}

func TestDeliveredIsNotToldOfOwnMessagesNorAgainstTheOption(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts Options
		from string
	}{
		"an own message": {Options{}, "alice"},
		"NoDelivered":    {Options{NoDelivered: true}, "bob"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t)
			test.opts.OnEvent, test.opts.OnChat = rec.event, rec.chat
			client, conn := newScriptServer(t).dial(test.opts, helloEmpty)
			conn.sayEvent(11, 10, test.from, "a")
			rec.want("11 a")
			conn.sayBarrier(rec)
			client.Read(team, 60)
			conn.want(markJSON(schemas.TRead, "group.team", "60")) // one of the event would be before it
		})
	}
}

func TestMarksRiseAndAreToldAgainInEachSession(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	rec := newRecorder(t)
	client, conn := server.dial(Options{OnChat: rec.chat, Reconnect: true}, helloEmpty)
	client.Read(team, 60)
	conn.want(markJSON(schemas.TRead, "group.team", "60"))
	client.Read(directAB, 5)
	conn.want(markJSON(schemas.TRead, ab, "5"))
	client.Read(directAB, 4)
	client.Delivered(directAB, 5) // read says so
	client.Delivered(directAB, 7)
	conn.want(markJSON(schemas.TDelivered, ab, "7"))

	conn.say(`{"t":"resync"}`)
	again := func() {
		t.Helper()
		conn.want(markJSON(schemas.TRead, ab, "5"))
		conn.want(markJSON(schemas.TDelivered, ab, "7"))
	}
	conn.want(markJSON(schemas.TRead, "group.team", "60"))
	again()
	conn.say(`{"t":"chat","chat":"group.team","change":"removed","seq":62}`)
	rec.want("group.team removed")
	conn.NetConn().Close()

	conn = server.accept()
	conn.want(helloEmpty)
	conn.sayWelcome()
	again()
}

func TestMarksAreForgottenAtTheBound(t *testing.T) {
	t.Parallel()
	var m marks
	m.init()
	chat := func(i int) schemas.Chat { return mustChat(fmt.Sprint("group.g", i)) }
	m.raise(chat(0), 1, 0)
	m.raise(chat(1), 1, 0)
	m.raise(chat(0), 2, 0) // so the other one was still for the longest
	for i := 2; len(m.chats) < marksMax; i++ {
		m.raise(chat(i), 1, 0)
	}
	m.raise(team, 1, 0)
	if len(m.chats) != marksMax || m.chats[chat(1)].delivered != 0 || m.chats[chat(0)].delivered != 2 || m.chats[team].delivered != 1 {
		t.Fatalf("%d chats, of the first %+v, of the second %+v, of the last %+v", len(m.chats), m.chats[chat(0)], m.chats[chat(1)], m.chats[team])
	}
	if frames := m.take(); len(frames) != marksMax || frames[marksMax-1].Chat != team {
		t.Fatalf("%d frames, want %d, the last of %s", len(frames), marksMax, team)
	}
	if frames := m.take(); len(frames) != 0 {
		t.Fatalf("%d frames are said twice", len(frames))
	}
}

func TestReceiptsAreHandedOn(t *testing.T) {
	t.Parallel()
	got := make(chan schemas.ReceiptFrame, 1)
	_, conn := newScriptServer(t).dial(Options{OnReceipt: func(f schemas.ReceiptFrame) { got <- f }}, helloEmpty)
	conn.say(`{"t":"receipt","chat":"direct.alice.bob","marks":[{"user":"bob","delivered":14,"read":12}]}`)
	frame := <-got
	want := schemas.ReceiptMark{User: mustUser(t, "bob"), Delivered: 14, Read: 12}
	if frame.Chat != directAB || len(frame.Marks) != 1 || frame.Marks[0] != want {
		t.Fatalf("receipt %+v, want of %s %+v", frame, directAB, want)
	}
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	receipt := func(user string, delivered, read uint64) schemas.Receipt {
		return schemas.Receipt{User: mustUser(t, user), Delivered: delivered, Read: read}
	}
	alice := receipt("alice", 10, 10)
	for name, test := range map[string]struct {
		receipts []schemas.Receipt
		want     Status
	}{
		"nothing is known":              {nil, Status{}},
		"notes to oneself":              {[]schemas.Receipt{alice}, Status{}},
		"sent":                          {[]schemas.Receipt{alice, receipt("bob", 9, 3)}, Status{0, 0, 1}},
		"delivered":                     {[]schemas.Receipt{alice, receipt("bob", 10, 3)}, Status{1, 0, 1}},
		"read":                          {[]schemas.Receipt{alice, receipt("bob", 10, 10)}, Status{1, 1, 1}},
		"read, and delivered untold":    {[]schemas.Receipt{alice, receipt("bob", 0, 11)}, Status{1, 1, 1}},
		"a group":                       {[]schemas.Receipt{alice, receipt("bob", 12, 11), receipt("carol", 10, 9), receipt("dave", 9, 0)}, Status{2, 1, 3}},
		"one who does not tell of it":   {[]schemas.Receipt{receipt("bob", 10, 0)}, Status{1, 0, 1}},
		"the author's own do not count": {[]schemas.Receipt{receipt("alice", 0, 0), receipt("bob", 0, 0)}, Status{0, 0, 1}},
	} {
		if got := StatusOf(10, mustUser(t, "alice"), test.receipts); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

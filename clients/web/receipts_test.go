package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/tests/browser"
)

// TestPageTellsAndShowsReceipts plays the server that takes marks and tells those of others.
func TestPageTellsAndShowsReceipts(t *testing.T) {
	t.Parallel()
	chromium := browser.Start(t)
	for name, test := range map[string]func(*testing.T, *script){
		"tells of what came at once the highest":      marksHighest,
		"reads only what somebody may see":            readsVisible,
		"tells of the list what came with it":         marksListed,
		"tells its marks again in each session":       marksAgain,
		"forgets the marks of a chat that is gone":    forgetsMarks,
		"shows no refusal of what it says by itself":  hidesRefusal,
		"counts what was read in another session":     countsReadElsewhere,
		"shows how far a message has got":             showsTicks,
		"shows how far a message has got in a group":  showsGroupTicks,
		"shows of a large group that it was sent":     showsLargeGroup,
		"asks for receipts again in each session":     asksReceiptsAgain,
		"derives a status by the rules of the server": derivesStatus,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openPage(t, chromium))
		})
	}
}

const flushMS = 200 // between two times at which the page tells its marks

func marksHighest(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	s.holdTimers(flushMS)
	p.event(item(11, 10, "bob", "b2", "two"))
	p.event(item(12, 11, "bob", "b3", "three"))
	p.say(`{"t":"event","chat":"direct.alice.carol","seq":7,"prev":5,"time":"2026-11-23T22:56:17Z","event":{"type":"message","id":"c1","from":"carol","body":{"kind":"text","text":"psst"}}}`)
	browser.Until(t, "carol in the list", func() string { return s.tab.Text("#chats") }, func(text string) bool { return strings.Contains(text, "psst") })
	s.fireTimers()
	p.wantMark("read", chat, 12)
	p.wantMark("delivered", "direct.alice.carol", 7)
	p.event(item(13, 12, "alice", "a1", "mine")) // the server has moved the mark
	s.wantMessages("one", "two", "three", "mine")
	p.event(change(14, 13, "reaction", "bob", 13, `,"emoji":"👍"`))
	s.wantShown("one", "two", "three", "mine | 👍 1")
	s.fireTimers()
	p.wantMark("read", chat, 14)
}

// hide has the page believe that its window is not in view, or is again.
func (s *script) hide(isHidden bool) {
	s.t.Helper()
	browser.Eval[bool](s.tab, fmt.Sprintf(`(() => {
		Object.defineProperty(document, 'hidden', { configurable: true, get: () => %t });
		return document.dispatchEvent(new Event('visibilitychange'));
	})()`, isHidden))
}

func readsVisible(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	s.hide(true)
	p.event(item(11, 10, "bob", "b2", "two"))
	p.wantMark("delivered", chat, 11)
	s.wantRows("bob 1")
	s.hide(false)
	p.wantMark("read", chat, 11)
	s.wantRows("bob")
}

func marksListed(t *testing.T, s *script) {
	p := s.enter("[" + listed("direct.alice.carol", 70, 9, 3, 3, "carol", `,"delivered":60`) + "," + listed("direct.alice.dave", 50, 7, 12, 12, "dave", `,"delivered":50`) + "]")
	p.wantMark("delivered", "direct.alice.carol", 70)
	s.wantRows("bob", "carol 3", "dave 12")
	s.goTo("dave")
	history := p.want("history")
	p.say(`{"t":"page","ref":%d,"chat":"direct.alice.dave","events":[%s],"more":false}`, history.Ref, item(50, 0, "dave", "d1", "hi"))
	p.wantMark("read", "direct.alice.dave", 50)
	s.wantRows("carol 3", "dave")
}

func marksAgain(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	s.hide(true)
	p.event(item(11, 10, "bob", "b2", "two"))
	p.wantMark("delivered", chat, 11)
	p.cut()
	p = s.accept()
	p.again(11)
	p.wantMark("read", chat, 10)
	p.wantMark("delivered", chat, 11)
	p.say(`{"t":"resync"}`)
	p.page(p.want("history"), false)
	p.wantMark("read", chat, 10)
	p.wantMark("delivered", chat, 11)
	s.tab.Reload() // this window knows of the earlier one
	p = s.begin(false, item(11, 10, "bob", "b2", "two"))
	p.wantMark("read", chat, 10)
	p.wantMark("delivered", chat, 11)
	p.wantMark("read", chat, 11) // it is in view now
}

func forgetsMarks(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	p.inChat("group.team", item(60, 55, "carol", "c1", "hi"))
	p.wantMark("delivered", "group.team", 60)
	p.say(`{"t":"chat","chat":"group.team","change":"removed","seq":61}`)
	s.wantRows("bob")
	p.cut()
	p = s.accept()
	p.again(10)
	p.wantMark("read", chat, 10)
	p.event(item(11, 10, "bob", "b2", "two"))
	p.wantMark("read", chat, 11) // and nothing of the group
}

func hidesRefusal(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	p.say(`{"t":"error","code":"invalid","message":"the mark is above the end of the chat"}`)
	p.event(item(11, 10, "bob", "b2", "two"))
	s.wantMessages("one", "two")
	if got := s.tab.Text("#problem"); got != "" {
		t.Errorf("the page says %q", got)
	}
}

func countsReadElsewhere(t *testing.T, s *script) {
	p := s.beginWith("[" + listed("group.team", 80, 30, 40, 7, "bob", `,"name":"Team","members":3,"role":"member","delivered":80`) + "]")
	s.wantRows("Team 7", "bob")
	p.say(`{"t":"receipt","chat":"group.team","marks":[{"user":"bob","read":80},{"user":"alice","read":80}]}`)
	s.wantRows("Team", "bob")
	p.inChat("group.team", item(81, 80, "bob", "m81", "one"))
	p.inChat("group.team", item(82, 81, "bob", "m82", "two"))
	s.wantRows("Team 2", "bob")
	p.say(`{"t":"receipt","chat":"group.team","marks":[{"user":"alice","delivered":82}]}`)
	p.chats = ""
	p.say(`{"t":"receipt","chat":"group.team","marks":[{"user":"alice","read":81}]}`)
	ask := p.want("chats") // how many messages that were only the server knows
	p.say(`{"t":"chats","ref":%d,"chats":[%s]}`, ask.Ref, listed("group.team", 82, 50, 42, 1, "bob", `,"name":"Team","members":3,"role":"member","delivered":82`))
	s.wantRows("Team 1", "bob")
}

// ticks is what stands beside each own message: its status and its words.
func (s *script) ticks() []string {
	s.t.Helper()
	return browser.Eval[[]string](s.tab, `Array.from(document.querySelectorAll('#messages .ticks'), (it) =>
		it.dataset.status + ': ' + it.title + (it.getAttribute('aria-label') === it.title ? '' : ', and another label'))`)
}

func (s *script) wantTicks(want ...string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("ticks %q", want), s.ticks, func(got []string) bool { return slices.Equal(got, want) })
}

func showsTicks(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "alice", "a1", "one"), item(11, 10, "bob", "b1", "two"), item(12, 11, "alice", "a2", "three"))
	ask := p.want("receipts")
	if ask.Chat != chat {
		t.Fatalf("the page asks for %+v", ask)
	}
	s.wantTicks("sent: Sent", "sent: Sent")
	p.say(`{"t":"receipt","chat":%q,"marks":[{"user":"bob","delivered":11}]}`, chat) // while the answer is on its way
	p.say(`{"t":"receipts","ref":%d,"chat":%q,"receipts":[{"user":"alice","delivered":12,"read":12},{"user":"bob","delivered":9,"read":9}]}`, ask.Ref, chat)
	s.wantTicks("delivered: Delivered", "sent: Sent")
	p.say(`{"t":"receipt","chat":%q,"marks":[{"user":"bob","delivered":20,"read":10}]}`, chat) // above what has come here
	s.wantTicks("read: Read", "delivered: Delivered")
	p.event(item(13, 12, "alice", "a3", "four"))
	s.wantTicks("read: Read", "delivered: Delivered", "delivered: Delivered")
	p.say(`{"t":"receipt","chat":%q,"marks":[{"user":"bob","read":13}]}`, chat)
	s.wantTicks("read: Read", "read: Read", "read: Read")
	p.event(change(14, 13, "edit", "alice", 13, `,"body":{"kind":"text","text":"new"}`))
	s.wantShown("one", "two", "three", "new | edited")
	s.wantTicks("read: Read", "read: Read", "read: Read")
	p.event(change(15, 14, "delete", "alice", 13, ""))
	s.wantTicks("read: Read", "read: Read")
}

// inTeam shows a group in which alice has said "hello" at seq 70.
func (s *script) inTeam(receipts string) *peer {
	s.t.Helper()
	p := s.beginWith("[" + listed("group.team", 70, 3, 5, 0, "alice", `,"name":"Team","members":4,"role":"owner","delivered":70`) + "]")
	s.wantRows("Team", "bob")
	s.goTo("group.team")
	var history, ask frame
	history = p.want("history")
	p.say(`{"t":"page","ref":%d,"chat":"group.team","events":[%s],"more":false}`, history.Ref, item(70, 0, "alice", "a1", "hello"))
	for ask.Chat != "group.team" {
		ask = p.want("receipts")
	}
	p.say(`{"t":"receipts","ref":%d,"chat":"group.team",%s}`, ask.Ref, receipts)
	return p
}

func showsGroupTicks(t *testing.T, s *script) {
	p := s.inTeam(`"receipts":[{"user":"alice","delivered":70,"read":70},{"user":"bob","delivered":70,"read":70},{"user":"carol","delivered":70,"read":60},{"user":"dave","delivered":0,"read":0}]`)
	s.wantTicks("sent: Read by 1 of 3, delivered to 2")
	s.tab.Act("hello", "Who has read it")
	s.wantText("#readers-of", "hello")
	s.wantText("#readers-list", "ReadbobDeliveredcarolNot yetdave")
	p.say(`{"t":"receipt","chat":"group.team","marks":[{"user":"dave","delivered":71},{"user":"carol","read":70}]}`)
	s.wantTicks("delivered: Read by 2 of 3, delivered to 3")
	s.wantText("#readers-list", "ReadbobcarolDelivereddave")
	p.inChat("group.team", `{"seq":72,"prev":70,"time":"2026-11-23T22:58:17Z","event":{"type":"member","id":"r","from":"alice","change":"removed","users":["dave"],"count":3}}`)
	s.wantTicks("read: Read by all 2")
	s.wantText("#readers-list", "Readbobcarol")
	s.tab.Click("#readers .cancel")
	p.inChat("group.team", `{"seq":73,"prev":72,"time":"2026-11-23T22:58:17Z","event":{"type":"member","id":"s","from":"alice","change":"added","users":["erin"],"count":4}}`)
	s.wantTicks("read: Read by all 3") // who comes in has nothing before it to read
	p.inChat("group.team", item(74, 73, "alice", "a2", "welcome"))
	s.wantTicks("read: Read by all 3", "sent: Sent")
}

func showsLargeGroup(t *testing.T, s *script) {
	p := s.inTeam(`"receipts":[{"user":"alice","delivered":70,"read":70},{"user":"bob","delivered":70,"read":70}],"cursor":"c"`)
	p.say(`{"t":"receipt","chat":"group.team","marks":[{"user":"bob","read":70}]}`)
	p.inChat("group.team", item(71, 70, "alice", "a2", "again"))
	s.wantTicks("sent: Sent", "sent: Sent")
	s.tab.Click(`[data-seq="70"] .more`)
	if text := s.tab.Text(".actions"); strings.Contains(text, "Who has read it") {
		t.Errorf("one may ask who has read it: %q", text)
	}
}

func asksReceiptsAgain(t *testing.T, s *script) {
	const receipts = `{"t":"receipts","ref":%d,"chat":%q,"receipts":[{"user":"bob","delivered":%d,"read":0}]}`
	p := s.begin(false, item(10, 0, "alice", "a1", "one"))
	p.say(receipts, p.want("receipts").Ref, chat, 9)
	s.wantTicks("sent: Sent")
	p.cut()
	p = s.accept()
	p.again(10)
	p.say(receipts, p.want("receipts").Ref, chat, 10)
	s.wantTicks("delivered: Delivered")
	p.say(`{"t":"resync"}`)
	p.page(p.want("history"), false)
	refused := p.want("receipts")
	p.say(`{"t":"error","ref":%d,"code":"unavailable","message":"later","retryAfter":0.01}`, refused.Ref)
	p.say(receipts, p.want("receipts").Ref, chat, 10)
	s.wantTicks("delivered: Delivered")
}

func derivesStatus(t *testing.T, s *script) {
	for name, test := range map[string]struct{ receipts, direct, group string }{
		"nothing is known":           {``, "Sent", "Sent"},
		"of the author alone":        {`alice 10 10`, "Sent", "Sent"},
		"sent":                       {`alice 10 10,bob 9 9`, "Sent", "Sent"},
		"delivered":                  {`alice 10 10,bob 10 9`, "Delivered", "Delivered to all 1"},
		"delivered to some":          {`bob 10 9,carol 9 9`, "Sent", "Delivered to 1 of 2"},
		"read":                       {`alice 10 10,bob 10 10`, "Read", "Read by all 1"},
		"read, and delivered untold": {`bob 0 11,carol 0 9`, "Sent", "Read by 1 of 2"},
		"read by some":               {`bob 10 10,carol 11 9,dave 0 0`, "Sent", "Read by 1 of 3, delivered to 2"},
	} {
		var receipts []string
		for _, text := range strings.Split(test.receipts, ",") {
			if f := strings.Fields(text); len(f) == 3 {
				receipts = append(receipts, fmt.Sprintf(`{user:%q,delivered:%s,read:%s}`, f[0], f[1], f[2]))
			}
		}
		got := browser.Eval[[]string](s.tab, fmt.Sprintf(`Promise.all([import('/receipts.js'), import('/ticks.js')]).then(([{ statusOf }, { statusWords }]) =>
			[false, true].map((isGroup) => statusWords(statusOf(10, 'alice', [%s]), isGroup)))`, strings.Join(receipts, ",")))
		if got[0] != test.direct || got[1] != test.group {
			t.Errorf("%s: %q, want %q and in a group %q", name, got, test.direct, test.group)
		}
	}
}

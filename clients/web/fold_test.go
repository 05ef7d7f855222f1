package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/tests/browser"
)

// TestPageFoldsChanges plays the server that says what happens to messages.
func TestPageFoldsChanges(t *testing.T) {
	t.Parallel()
	chromium := browser.Start(t)
	for name, test := range map[string]func(*testing.T, *script){
		"applies changes by the server's rules":      folds,
		"shows what a page has folded":               showsFolded,
		"does to an older page what came since":      foldsIntoOlder,
		"lets go of what disappears":                 disappears,
		"redraws an answer to what was deleted":      redrawsAnswers,
		"sends changes until they are in the log":    sendsChanges,
		"tells of a change that was refused":         tellsRefusal,
		"counts unread messages as the server does":  countsUnread,
		"keeps the list in the order of activity":    keepsOrderOfList,
		"asks a second time for the list":            asksListTwice,
		"begins and ends with chats of its user":     followsChats,
		"leaves a chat out that was gone on reading": leavesGone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openPage(t, chromium))
		})
	}
}

// folds has fold.js do changes to a message of bob's at seq 10, and reads what it makes of it.
func folds(t *testing.T, s *script) {
	const (
		message = `{"type":"message","id":"m","from":"bob","body":{"kind":"text","text":"one"},"mentions":["alice"]}`
		edit    = `{"type":"edit","from":%q,"target":10,"body":{"kind":"text","text":%q}}`
		react   = `{"type":"reaction","from":%q,"target":10,"emoji":%q,"remove":%t}`
		del     = `{"type":"delete","from":"bob","target":10}`
		pin     = `{"type":"pin","from":"carol","target":10,"remove":%t}`
	)
	f := fmt.Sprintf
	for name, test := range map[string]struct {
		item    string   // beside seq, time and event
		changes []string // at seq 11, 12…, each a second after the one before
		want    string
	}{
		"nothing":                      {"", nil, "one"},
		"an edit":                      {"", []string{f(edit, "bob", "two")}, "two edited 11"},
		"the last edit":                {"", []string{f(edit, "bob", "two"), f(edit, "bob", "three")}, "three edited 12"},
		"another's edit":               {"", []string{f(edit, "carol", "two")}, "one"},
		"an edit that is in the page":  {`"edited":15,`, []string{f(edit, "bob", "two")}, "one edited 15"},
		"a delete":                     {`"reactions":[{"emoji":"👍","count":1,"users":["carol"]}],`, []string{del}, "deleted"},
		"what comes after a delete":    {"", []string{del, f(edit, "bob", "two"), f(react, "carol", "👍", false), del}, "deleted"},
		"an edit before a delete":      {"", []string{f(edit, "bob", "two"), del}, "deleted edited 11"},
		"a reaction":                   {"", []string{f(react, "carol", "👍", false)}, "one 👍1[carol]"},
		"the same reaction again":      {"", []string{f(react, "carol", "👍", false), f(react, "carol", "👍", false)}, "one 👍1[carol]"},
		"reactions of several":         {"", []string{f(react, "carol", "👍", false), f(react, "bob", "🎉", false), f(react, "bob", "👍", false)}, "one 👍2[carol bob] 🎉1[bob]"},
		"a reaction taken back":        {"", []string{f(react, "carol", "👍", false), f(react, "bob", "👍", false), f(react, "carol", "👍", true)}, "one 👍1[bob]"},
		"the last one taken back":      {"", []string{f(react, "carol", "👍", false), f(react, "carol", "👍", true)}, "one"},
		"taken back and never there":   {"", []string{f(react, "carol", "👍", true)}, "one"},
		"more than a page names":       {`"reactions":[{"emoji":"👍","count":60,"users":["carol"]}],`, []string{f(react, "bob", "👍", false)}, "one 👍61[carol]"},
		"one without a name less":      {`"reactions":[{"emoji":"👍","count":60,"users":["carol"]}],`, []string{f(react, "bob", "👍", true)}, "one 👍59[carol]"},
		"a pin":                        {"", []string{f(pin, false)}, "one pinned"},
		"a pin and an unpin":           {"", []string{f(pin, false), f(pin, true)}, "one"},
		"another target":               {"", []string{`{"type":"edit","from":"bob","target":9,"body":{}}`}, "one"},
		"before it disappears":         {`"ttl":2,`, []string{f(edit, "bob", "two")}, "two edited 11"},
		"after it has disappeared":     {`"ttl":2,`, []string{f(pin, true), f(edit, "bob", "two")}, "one"},
		"an unknown type of an edit's": {"", []string{`{"type":"frobnicate","from":"bob","target":10}`}, "one"},
	} {
		event := message
		item := test.item
		if ttl, ok := strings.CutPrefix(item, `"ttl"`); ok {
			event, item = strings.Replace(event, `"id"`, `"ttl"`+ttl+`"id"`, 1), ""
		}
		changes := make([]string, len(test.changes))
		for i, change := range test.changes {
			changes[i] = f(`{"seq":%d,"time":"2026-11-23T22:56:%02dZ","event":%s}`, 11+i, 1+i, change)
		}
		got := browser.Eval[string](s.tab, f(`import('/fold.js').then(({ fold }) => {
			const item = {%s "seq":10,"time":"2026-11-23T22:56:00Z","event":%s};
			for (const change of [%s]) fold(item, change);
			const { deleted, edited, pinned, reactions, event } = item;
			const said = deleted ? 'deleted' + (event.body.text ?? '') + (event.mentions ?? '') : event.body.text;
			return [said, edited && 'edited ' + edited, pinned && 'pinned',
				...(reactions ?? []).map(({ emoji, count, users }) => emoji + count + '[' + users.join(' ') + ']')].filter(Boolean).join(' ');
		})`, item, event, strings.Join(changes, ",")))
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// change is an event about the message at target, as it stands in a page.
func change(seq, prev uint64, typ, from string, target uint64, rest string) string {
	return fmt.Sprintf(`{"seq":%d,"prev":%d,"time":"2026-11-23T22:56:17.103Z","event":{"type":%q,"id":"c%d","from":%q,"target":%d%s}}`, seq, prev, typ, seq, from, target, rest)
}

// shown is what the page shows of each message: its text, its stamp without the
// time, its reactions.
func (s *script) shown() []string {
	s.t.Helper()
	return browser.Eval[[]string](s.tab, `Array.from(document.querySelectorAll('#messages .message'), (it) =>
		[it.querySelector('.text').textContent, it.querySelector('.stamp').firstChild.textContent.replace(/[ ·]+$/, ''),
			...Array.from(it.querySelectorAll('.reactions button'), (chip) => chip.textContent)].filter(Boolean).join(' | '))`)
}

func (s *script) wantShown(want ...string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("messages %q", want), s.shown, func(got []string) bool { return slices.Equal(got, want) })
}

func showsFolded(t *testing.T, s *script) {
	edited := strings.TrimSuffix(item(10, 0, "bob", "b1", "new"), "}") + `,"edited":12,"pinned":true,"reactions":[{"emoji":"🎉","count":2,"users":["alice","bob"]}]}`
	deleted := strings.TrimSuffix(strings.Replace(item(11, 10, "bob", "b2", "x"), `{"kind":"text","text":"x"}`, `{}`, 1), "}") + `,"deleted":true}`
	p := s.begin(false, edited, deleted, change(12, 11, "edit", "bob", 10, `,"body":{"kind":"text","text":"new"}`))
	want := []string{"new | pinned · edited | 🎉 2", "This message was deleted"}
	s.wantShown(want...)
	if got := s.tab.Text("#pinned"); got != "Pinned · bob: new" {
		t.Errorf("the pinned message is shown as %q", got)
	}
	p.event(change(13, 12, "reaction", "bob", 10, `,"emoji":"🎉","remove":true`))
	p.event(change(14, 13, "pin", "bob", 10, `,"remove":true`))
	p.event(change(15, 14, "edit", "bob", 11, `,"body":{"kind":"text","text":"back"}`))
	s.wantShown("new | edited | 🎉 1", want[1])
}

func foldsIntoOlder(t *testing.T, s *script) {
	var items []string
	for seq := uint64(51); seq <= 100; seq++ {
		items = append(items, item(seq, seq-1, "bob", fmt.Sprint("b", seq), "newer"))
	}
	p := s.begin(true, items...)
	browser.Until(t, "the newest page", s.tab.Messages, func(texts []string) bool { return len(texts) == 50 })
	browser.Eval[bool](s.tab, `document.querySelector('#older').click(), true`)
	history := p.want("history")
	// The page was made before these came, and arrives after them.
	p.event(change(101, 100, "edit", "bob", 50, `,"body":{"kind":"text","text":"edited"}`))
	p.event(change(102, 101, "reaction", "alice", 50, `,"emoji":"👍"`))
	p.page(history, false, item(50, 0, "bob", "b50", "old"))
	browser.Until(t, "the older message as it is by now", func() string { return s.shown()[0] },
		func(got string) bool { return got == "edited | edited | 👍 1" })
}

func disappears(t *testing.T, s *script) {
	// welcome says that it is 2020: there the first has a second left, the others have long.
	at := func(seq uint64, id, text, rest string) string {
		return strings.Replace(strings.Replace(item(seq, seq-1, "bob", id, text), "2026-11-23T22:56:17.103Z", "2020-01-01T00:00:00Z", 1), `"from"`, rest+`"from"`, 1)
	}
	p := s.begin(false, at(10, "b1", "short", `"ttl":2,`), at(11, "b2", "long", `"ttl":3600,`))
	s.wantShown("short | disappears", "long | disappears")
	p.event(at(12, "b3", "stays", ""))
	s.wantShown("long | disappears", "stays")
	p.event(change(13, 12, "reaction", "alice", 10, `,"emoji":"👍"`))
	p.event(change(14, 13, "reaction", "alice", 12, `,"emoji":"👍"`))
	s.wantShown("long | disappears", "stays | 👍 1")
}

func redrawsAnswers(t *testing.T, s *script) {
	answer := strings.Replace(item(11, 10, "alice", "a1", "answer"), `"from"`, `"replyTo":10,"from"`, 1)
	p := s.begin(false, item(10, 0, "bob", "b1", "secret"), answer)
	s.wantMessages("secret", "answer")
	quote := func() string { return s.tab.Text("#messages .quote") }
	if got := quote(); got != "Answers bob secret" {
		t.Errorf("the answer quotes %q", got)
	}
	p.event(change(12, 11, "delete", "bob", 10, ""))
	browser.Until(t, "the quote to be empty", quote, func(got string) bool { return got == "Answers bob This message was deleted" })
	if text := s.tab.Text("#messages"); strings.Contains(text, "secret") {
		t.Errorf("what was deleted is still shown: %q", text)
	}
}

func sendsChanges(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "alice", "a1", "mine"))
	s.wantMessages("mine")
	s.tab.Act("mine", "React with 🎉")
	send := p.want("send")
	if send.Type != "reaction" || send.Target != 10 || send.Emoji != "🎉" || send.Retry || send.Remove {
		t.Fatalf("the page says %+v", send)
	}
	p.cut()
	p = s.accept()
	p.again(10)
	again := p.want("send")
	if again.ID != send.ID || !again.Retry || again.After == nil || *again.After != 10 || again.Emoji != "🎉" {
		t.Fatalf("the page says again %+v, before %+v", again, send)
	}
	p.ack(again, 11)
	p.event(strings.Replace(change(11, 10, "reaction", "alice", 10, `,"emoji":"🎉"`), `"c11"`, quote(again.ID), 1))
	s.wantShown("mine | 🎉 1")
	s.tab.Click("#messages .reactions button") // pressed again it takes it back
	if send := p.want("send"); send.Type != "reaction" || !send.Remove || send.Emoji != "🎉" {
		t.Errorf("the page says %+v", send)
	}
	s.wantNothingPending()
}

func tellsRefusal(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "alice", "a1", "mine"))
	s.wantMessages("mine")
	s.tab.Act("mine", "Delete")
	s.tab.Verb("Delete for everybody?")
	send := p.want("send")
	p.say(`{"t":"error","ref":%d,"id":%q,"code":"not_found","message":"there is no such message"}`, send.Ref, send.ID)
	browser.Until(t, "the sentence", func() string { return s.tab.Text("#problem") }, func(got string) bool { return got == "There is no such message" })
	s.tab.Send("next") // what was refused is not in its way
	if send := p.want("send"); send.Type != "message" {
		t.Errorf("the page says %+v", send)
	}
}

// listed is a chat of the list, whose last event is a message of from's.
func listed(chat string, seq uint64, second int, n, unread uint64, from, rest string) string {
	return fmt.Sprintf(`{"chat":%q,"last":{"seq":%d,"prev":0,"time":"2026-11-23T22:57:%02dZ","n":%d,"event":{"type":"message","id":"m%d","from":%q,"body":{"kind":"text","text":"hi"}}},"unread":%d,"read":0%s}`,
		chat, seq, second, n, seq, from, unread, rest)
}

// rows is what the list shows: name, and the number unread.
func (s *script) rows(list string) []string {
	s.t.Helper()
	return browser.Eval[[]string](s.tab, fmt.Sprintf(`Array.from(document.querySelectorAll('#%s a'), (it) =>
		it.querySelector('.name').textContent + (it.querySelector('.badge') ? ' ' + it.querySelector('.badge').firstChild.textContent : ''))`, list))
}

func (s *script) wantRows(want ...string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("the chats %q", want), func() []string { return s.rows("chats") }, func(got []string) bool { return slices.Equal(got, want) })
}

// enter is begin with an empty page, and with what answers the request for the list.
func (s *script) enter(chats string) *peer {
	s.t.Helper()
	p := s.accept()
	p.chats = chats
	p.want("hello")
	p.welcome(time.Hour)
	p.say(`{"t":"resumed","chats":0,"reset":[]}`)
	p.page(p.want("history"), false)
	return p
}

// beginWith is enter until the list is asked for, and answered.
func (s *script) beginWith(chats string) *peer {
	s.t.Helper()
	p := s.enter(chats)
	s.tab.Send("go on") // whoever waits for it answers the request for the list too
	p.event(strings.Replace(item(10, 0, "alice", "a", "go on"), `"a"`, quote(p.want("send").ID), 1))
	return p
}

// inChat says an event of another chat, later than all that is in the list.
func (p *peer) inChat(chat string, item string) {
	p.t.Helper()
	p.say(`{"t":"event","chat":%q,%s`, chat, strings.Replace(item[1:], "22:56:17", "22:58:17", 1))
}

func countsUnread(t *testing.T, s *script) {
	p := s.beginWith("[" + listed("group.team", 80, 3, 40, 7, "bob", `,"name":"Team","members":3,"role":"member"`) + "]")
	s.wantRows("Team 7", "bob")
	p.inChat("group.team", item(80, 70, "bob", "m80", "again")) // the list has it counted
	p.inChat("group.team", item(81, 80, "bob", "m81", "eight"))
	p.inChat("group.team", change(82, 81, "reaction", "bob", 81, `,"emoji":"👍"`)) // no message
	browser.Until(t, "the last event", func() string { return s.tab.Text("#chats .last") }, func(got string) bool { return got == "bob reacted 👍" })
	if got := s.rows("chats"); !slices.Equal(got, []string{"Team 8", "bob"}) {
		t.Errorf("the chats are %q", got)
	}
	p.inChat("group.team", item(83, 82, "alice", "m83", "from my phone")) // who sends has read
	s.wantRows("Team", "bob")
	p.inChat("group.team", item(84, 83, "bob", "m84", "one"))
	s.wantRows("Team 1", "bob")
	browser.Eval[bool](s.tab, `location.hash = '#alice/group.team', true`)
	s.wantRows("Team", "bob")
}

func keepsOrderOfList(t *testing.T, s *script) {
	p := s.beginWith("[" + strings.Join([]string{
		listed("direct.alice.carol", 70, 9, 1, 0, "carol", ""),
		listed("group.team", 60, 8, 1, 0, "bob", `,"name":"Team","members":3,"role":"member"`),
		listed("direct.alice.dave", 50, 7, 1, 0, "dave", `,"pinned":true`),
		listed("direct.alice.erin", 40, 6, 1, 1, "erin", `,"archived":true`),
	}, ",") + "]")
	s.wantRows("dave", "carol", "Team", "bob")
	if got := s.rows("archived"); !slices.Equal(got, []string{"erin 1"}) {
		t.Errorf("archived are %q", got)
	}
	p.inChat("group.team", item(61, 60, "bob", "m61", "news"))
	s.wantRows("dave", "Team 1", "carol", "bob")
	p.say(`{"t":"chat","chat":"direct.alice.dave","change":"unpinned"}`)
	p.say(`{"t":"chat","chat":"direct.alice.erin","change":"unarchived"}`)
	s.wantRows("Team 1", "carol", "dave", "erin 1", "bob")
	p.say(`{"t":"chat","chat":"group.team","change":"muted"}`)
	browser.Until(t, "a title that does not count what is muted", func() string { return browser.Eval[string](s.tab, `document.title`) },
		func(got string) bool { return got == "(1) bob · Parley" })
}

// asksListTwice has a chat stored only after the first answer: no event of it comes live.
func asksListTwice(t *testing.T, s *script) {
	p := s.begin(false)
	s.holdTimers(2000)
	p.say(`{"t":"chats","ref":%d,"chats":[]}`, p.want("chats").Ref)
	browser.Until(t, "the page to wait", s.fireTimers, func(held int) bool { return held == 1 })
	p.say(`{"t":"chats","ref":%d,"chats":[%s]}`, p.want("chats").Ref, listed("direct.alice.carol", 70, 9, 1, 1, "carol", ""))
	s.wantRows("bob", "carol 1")
	if held := s.fireTimers(); held != 0 {
		t.Error("the list is asked for again and again")
	}
}

func followsChats(t *testing.T, s *script) {
	p := s.beginWith("[]")
	p.say(`{"t":"chat","chat":"group.team","change":"added","seq":60}`)
	p.cut()
	p = s.accept()
	if hello := p.want("hello"); len(hello.Resume) != 2 || hello.Resume["group.team"] != 59 {
		t.Errorf("hello resumes %v", hello.Resume)
	}
	p.welcome(time.Hour)
	p.say(`{"t":"resumed","chats":0,"reset":[]}`)
	p.inChat("group.team", `{"seq":60,"prev":55,"time":"2026-11-23T22:58:17Z","event":{"type":"group","id":"g","from":"bob","change":"created","name":"Team","members":["alice"],"count":2}}`)
	s.wantRows("Team", "bob")
	browser.Eval[bool](s.tab, `location.hash = '#alice/group.team', true`)
	history := p.want("history") // not for a gap before 60
	if history.After != nil || history.Before == nil || *history.Before != 60 {
		t.Fatalf("the page asks for %+v", history)
	}
	p.page(history, false)
	browser.Until(t, "the number of members", func() string { return s.tab.Text("#about") }, func(got string) bool { return got == "2 members" })
	p.say(`{"t":"chat","chat":"group.team","change":"removed","seq":61}`)
	browser.Until(t, "the sentence", func() string { return s.tab.Text("#told") }, func(got string) bool { return got == "You are no longer in Team." })
	p.cut()
	p = s.accept()
	if hello := p.want("hello"); len(hello.Resume) != 1 || hello.Resume[chat] != 10 {
		t.Errorf("hello resumes %v", hello.Resume)
	}
	p.welcome(time.Hour)
	p.say(`{"t":"resumed","chats":0,"reset":[]}`)
	s.wantState("online")
	browser.Eval[bool](s.tab, `location.hash = '#alice/bob', true`)
	s.wantMessages("go on")
	s.tab.Send("next") // a request for the group's history would be before it
	p.want("send")
}

func leavesGone(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	p.event(item(15, 13, "bob", "b3", "three"))
	history := p.want("history")
	p.say(`{"t":"error","ref":%d,"code":"not_member","message":"alice is not a member of direct.alice.bob"}`, history.Ref)
	s.wantMessages()
	browser.Until(t, "another view", func() bool { return browser.Eval[bool](s.tab, `document.querySelector('#chat').hidden`) }, func(is bool) bool { return is })
}

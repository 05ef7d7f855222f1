package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/tests/browser"
)

// TestPageShowsPresenceAndTyping plays the server that tells who is there, who
// types, and what the user has chosen to let others see.
func TestPageShowsPresenceAndTyping(t *testing.T) {
	t.Parallel()
	chromium := browser.Start(t)
	for name, test := range map[string]func(*testing.T, *script){
		"watches the others of direct chats":        watchesDirect,
		"watches again in each session":             watchesAgain,
		"watches no more than it may":               watchesBounded,
		"tells how long ago somebody was there":     tellsLastSeen,
		"shows who types for a while":               showsTyping,
		"shows of each chat who types there":        showsTypingByChat,
		"switches receipts and status":              switchesSettings,
		"shows what the server has after a refusal": showsSettingRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openPage(t, chromium))
		})
	}
}

// wantUsers waits for a frame about users, which are to be these.
func (p *peer) wantUsers(t string, users ...string) frame {
	p.t.Helper()
	got := p.want(t)
	if !slices.Equal(got.Users, users) {
		p.t.Fatalf("the page says %s of %q, want of %q", t, got.Users, users)
	}
	return got
}

// sayPresence answers a watch, or with ref 0 tells a change.
func (p *peer) sayPresence(ref uint64, users string) {
	p.t.Helper()
	if ref == 0 {
		p.say(`{"t":"presence","users":{%s}}`, users)
		return
	}
	p.say(`{"t":"presence","ref":%d,"users":{%s}}`, ref, users)
}

// dots is the presence that the list shows of each chat, as a status and in words.
func (s *script) wantDots(want ...string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("the dots %q", want), func() []string {
		return browser.Eval[[]string](s.tab, `Array.from(document.querySelectorAll('#chats a'), (it) => {
			const dot = it.querySelector('.presence');
			return it.querySelector('.name').textContent + (dot ? ' ' + dot.dataset.status + ': ' + dot.textContent : '');
		})`)
	}, func(got []string) bool { return slices.Equal(got, want) })
}

func watchesDirect(t *testing.T, s *script) {
	p := s.enter("[" + strings.Join([]string{
		listed("direct.alice.carol", 70, 9, 1, 0, "carol", ""),
		listed("group.team", 60, 8, 1, 0, "bob", `,"name":"Team","members":3,"role":"member"`),
		listed("direct.alice.alice", 50, 7, 1, 0, "alice", ""),
		listed("direct.alice.erin", 40, 6, 1, 0, "erin", `,"archived":true`),
		listed("direct.alice.dave", 30, 5, 1, 0, "dave", ""),
	}, ",") + "]")
	p.sayPresence(p.wantUsers("watch", "bob").Ref, `"bob":{"status":"online"}`)
	p.sayPresence(p.wantUsers("watch", "carol", "dave", "erin").Ref, `"carol":{"status":"away"},"dave":{"status":"offline"},"erin":{"status":"offline"}`)
	s.wantDots("bob online: online", "carol away: away", "Team", "alice (notes to yourself)", "dave offline: offline")
	s.wantText("#about", "online")
	p.sayPresence(0, `"bob":{"status":"offline","lastSeen":"2019-12-31T23:55:00Z"}`) // welcome says that it is 2020
	s.wantText("#about", "last seen 5 minutes ago")
	s.goTo("carol")
	p.want("history")
	p.wantUsers("unwatch", "bob") // nothing was said there: it has left the list
	s.wantText("#about", "away")
	s.wantDots("carol away: away", "Team", "alice (notes to yourself)", "dave offline: offline")
	s.goTo("group.team")
	s.wantText("#about", "3 members")
}

func watchesAgain(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.sayPresence(p.wantUsers("watch", "bob").Ref, `"bob":{"status":"online"}`)
	s.wantText("#about", "online")
	p.cut()
	s.wantText("#about", "") // nobody knows
	p = s.accept()
	p.again(10)
	p.sayPresence(p.wantUsers("watch", "bob").Ref, `"bob":{"status":"away"}`)
	s.wantText("#about", "away")
	p.say(`{"t":"resync"}`)
	p.page(p.want("history"), false)
	s.holdTimers(10_000)
	p.say(`{"t":"error","ref":%d,"code":"internal","message":"a defect"}`, p.wantUsers("watch", "bob").Ref)
	browser.Until(t, "the page to wait before it asks again", s.fireTimers, func(held int) bool { return held > 0 })
	p.sayPresence(p.wantUsers("watch", "bob").Ref, `"bob":{"status":"online"}`)
	s.wantText("#about", "online")
}

// watchesBounded has presence.js want other users while it is answered, refused, and begun anew.
func watchesBounded(t *testing.T, s *script) {
	got := browser.Eval[[]string](s.tab, `import('/presence.js').then(async ({ Presence }) => {
		const said = [];
		let answer;
		const ask = (frame) => new Promise((resolve, reject) => {
			said.push(frame.t + ' ' + (frame.users.length > 3 ? frame.users.length : frame.users.join(' ')));
			answer = { yes: () => resolve({ users: {} }), no: (code) => reject({ code }) };
		});
		const settle = async (how, code) => { answer[how](code); await new Promise((resolve) => setTimeout(resolve)); };
		const presence = new Presence(ask);
		const many = Array.from({ length: 600 }, (_, i) => 'u' + i);
		presence.want(many);
		presence.want(['bob', ...many]); // one question at a time
		await settle('yes');
		await settle('yes'); // of the unwatch
		await settle('yes');
		presence.want(['bob', 'carol']);
		await settle('yes');
		presence.again(); // the watch of carol was of the session before
		await settle('no', 'disconnected');
		await settle('yes');
		presence.want(['bob', 'carol']);
		presence.stop();
		return said;
	})`)
	want := []string{"watch 500", "unwatch u499", "watch bob", "unwatch 499", "watch carol", "watch bob carol"}
	if !slices.Equal(got, want) {
		t.Errorf("the page says %q, want %q", got, want)
	}
}

func tellsLastSeen(t *testing.T, s *script) {
	for lastSeen, want := range map[string]string{
		"":                         "offline",
		"2026-11-24T02:59:31Z":     "last seen just now",
		"2026-11-24T03:00:05Z":     "last seen just now", // its clock is ahead
		"2026-11-24T02:59:00Z":     "last seen 1 minute ago",
		"2026-11-24T02:55:00.123Z": "last seen 4 minutes ago",
		"2026-11-23T22:00:00Z":     "last seen 5 hours ago",
		"2026-11-23T02:00:00Z":     "last seen yesterday",
		"2026-11-20T02:00:00Z":     "last seen 4 days ago",
		"2026-10-20T12:00:00Z":     "last seen on ",
	} {
		got := browser.Eval[string](s.tab, fmt.Sprintf(`import('/presence.js').then(({ presenceWords }) =>
			presenceWords({ status: 'offline', lastSeen: %q || undefined }, Date.parse('2026-11-24T03:00:00Z')))`, lastSeen))
		if got != want && !(strings.HasSuffix(want, "on ") && strings.HasPrefix(got, want)) {
			t.Errorf("last seen %s: %q, want %q", lastSeen, got, want)
		}
	}
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	s.holdTimers(60_000)
	p.sayPresence(p.wantUsers("watch", "bob").Ref, `"bob":{"status":"offline","lastSeen":"2019-12-31T23:59:30Z"}`)
	s.wantText("#about", "last seen just now")
	browser.Eval[bool](s.tab, `(() => {
		const now = performance.now.bind(performance);
		performance.now = () => now() + 10 * 60_000;
		return true;
	})()`)
	s.fireTimers()
	s.wantText("#about", "last seen 10 minutes ago")
}

func showsTyping(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	s.holdTimers(6000)
	p.say(`{"t":"typing","chat":%q,"user":"bob"}`, chat)
	s.wantText("#typing", "bob is typing…")
	p.say(`{"t":"typing","chat":%q,"user":"bob"}`, chat) // goes on
	p.event(change(11, 10, "reaction", "bob", 10, `,"emoji":"👍"`))
	s.wantShown("one | 👍 1")
	if got := s.tab.Text("#typing"); got != "bob is typing…" {
		t.Errorf("after a reaction the page says %q", got)
	}
	if held := s.fireTimers(); held != 1 {
		t.Errorf("%d timers run, want one", held)
	}
	s.wantText("#typing", "")
	p.say(`{"t":"typing","chat":%q,"user":"bob"}`, chat)
	s.wantText("#typing", "bob is typing…")
	p.event(item(12, 11, "bob", "b2", "two"))
	s.wantMessages("one", "two")
	s.wantText("#typing", "")
	if held := s.fireTimers(); held != 0 {
		t.Errorf("%d timers still run", held)
	}
}

func showsTypingByChat(t *testing.T, s *script) {
	p := s.beginWith("[" + listed("group.team", 80, 30, 40, 0, "bob", `,"name":"Team","members":5,"role":"member"`) + "]")
	s.wantRows("Team", "bob")
	for _, user := range []string{"alice", "bob"} { // of oneself it is not told
		p.say(`{"t":"typing","chat":"group.team","user":%q}`, user)
	}
	p.say(`{"t":"typing","chat":%q,"user":"bob"}`, chat)
	s.wantText("#typing", "bob is typing…")
	s.goTo("group.team")
	s.wantText("#title", "Team")
	s.wantText("#typing", "bob is typing…")
	p.say(`{"t":"typing","chat":"group.team","user":"carol"}`)
	s.wantText("#typing", "bob and carol are typing…")
	p.say(`{"t":"typing","chat":"group.team","user":"dave"}`)
	s.wantText("#typing", "3 people are typing…")
	p.inChat("group.team", item(81, 80, "bob", "m81", "done"))
	s.wantText("#typing", "carol and dave are typing…")
}

// chosen is what the dialog of settings shows: the status, and whether receipts are on.
func (s *script) wantChosen(want string) {
	s.t.Helper()
	browser.Until(s.t, "the settings "+want, func() string {
		return browser.Eval[string](s.tab, `document.querySelector('#status').disabled ? 'none' :
			document.querySelector('#status input:checked')?.value + ' ' + document.querySelector('#read-receipts').checked`)
	}, func(got string) bool { return got == want })
}

// openSettings opens the dialog; the server has profile.
func (s *script) openSettings(p *peer, profile string) {
	s.t.Helper()
	s.tab.Click("#own")
	s.wantChosen("none")
	p.say(`{"t":"profiles","ref":%d,"profiles":[{"user":"alice"%s}]}`, p.wantUsers("profile", "alice").Ref, profile)
}

func switchesSettings(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "alice", "a1", "one"))
	p.say(`{"t":"receipts","ref":%d,"chat":%q,"receipts":[{"user":"bob","delivered":10,"read":10}]}`, p.want("receipts").Ref, chat)
	s.wantTicks("read: Read")
	s.openSettings(p, `,"readReceipts":true,"status":"away"`)
	s.wantChosen("away true")
	s.tab.Click(`#status input[value="invisible"]`)
	status := p.want("status")
	if status.Status != "invisible" {
		t.Fatalf("the page says %+v", status)
	}
	p.say(`{"t":"done","ref":%d}`, status.Ref)
	s.tab.Click("#read-receipts")
	set := p.want("profile.set")
	if set.ReadReceipts == nil || *set.ReadReceipts {
		t.Fatalf("the page says %+v", set)
	}
	p.say(`{"t":"done","ref":%d}`, set.Ref)
	// From now on it is not told what others have read.
	p.say(`{"t":"receipts","ref":%d,"chat":%q,"receipts":[{"user":"bob","delivered":10,"read":0}]}`, p.want("receipts").Ref, chat)
	s.wantTicks("delivered: Delivered")
	s.wantChosen("invisible false")
}

func showsSettingRefused(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	s.openSettings(p, "") // nothing was ever chosen
	s.wantChosen("online true")
	s.tab.Click("#read-receipts")
	p.say(`{"t":"error","ref":%d,"code":"unavailable","message":"the store does not answer"}`, p.want("profile.set").Ref)
	p.say(`{"t":"profiles","ref":%d,"profiles":[{"user":"alice","readReceipts":true,"status":"online"}]}`, p.want("profile").Ref)
	s.wantChosen("online true")
	s.wantText("#own-settings .problem", "the store does not answer")
}

package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/tests/browser"

	"github.com/chromedp/chromedp"
	"github.com/gorilla/websocket"
)

// TestPageKeepsTheProtocol plays the server to the page in a real browser: one
// browser, a window and a server of its own for each rule.
func TestPageKeepsTheProtocol(t *testing.T) {
	t.Parallel()
	chromium := browser.Start(t)
	for name, test := range map[string]func(*testing.T, *script){
		"resumes from the highest seq":              resumes,
		"reads the chat anew after a reset":         readsAnew,
		"fills a gap from history":                  fillsGap,
		"asks once for a gap that stays":            asksOnce,
		"repairs on resync":                         repairsOnResync,
		"drops what it holds":                       dropsDuplicates,
		"sends again after a lost connection":       sendsAgain,
		"does not send again what came":             doesNotSendAgain,
		"sends again after a reload":                sendsAfterReload,
		"keeps the order over a refusal":            keepsOrder,
		"shows what was refused":                    showsRefusal,
		"looks for a send whose event stays away":   looksForEcho,
		"reads older pages when scrolled up":        readsOlder,
		"renews its token":                          renews,
		"gets a new token when one is refused":      getsNewToken,
		"comes back after the delay of a drain":     obeysDrain,
		"stays away when revoked":                   staysAway,
		"shows messages of chats that are not open": showsUnread,
		"shows text as it was written":              showsText,
		"waits as the close code asks":              waitsByCode,
		"names its user to a proxy":                 namesUser,
		"hangs up when the page goes away":          hangsUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openPage(t, chromium))
		})
	}
}

func namesUser(t *testing.T, s *script) {
	const want = "parley_user=alice"
	p := s.begin(false)
	if p.cookie != want {
		t.Errorf("the handshake has the cookies %q, want %q", p.cookie, want)
	}
	// Another window of the browser is somebody else; all share the cookie.
	browser.Eval[string](s.tab, `document.cookie = 'parley_user=bob; Path=/v1/ws'`)
	p.cut()
	if p = s.accept(); p.cookie != want {
		t.Errorf("the next handshake has the cookies %q, want %q", p.cookie, want)
	}
}

// hangsUp has a browser keep the page for the way back: its user is gone all the same.
func hangsUp(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.wantMark("read", chat, 10)
	s.tab.Do("leave the page", chromedp.Navigate("about:blank"))
	_ = p.socket.SetReadDeadline(time.Now().Add(frameWithin))
	for {
		if _, _, err := p.socket.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseNoStatusReceived, websocket.CloseGoingAway) {
				t.Errorf("the connection ends with %v", err)
			}
			break
		}
	}
	browser.Eval[bool](s.tab, `history.back(), true`)
	s.accept().want("hello")
}

func resumes(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	p.event(item(11, 10, "bob", "b2", "two"))
	s.wantMessages("one", "two")
	p.cut()
	p = s.accept()
	p.again(11, item(14, 11, "bob", "b3", "three"))
	p.event(item(15, 14, "bob", "b4", "four"))
	s.wantMessages("one", "two", "three", "four")
	s.tab.Send("next") // a request for history would be before it
	p.want("send")
}

func readsAnew(t *testing.T, s *script) {
	p := s.begin(false, item(10, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	p.cut()
	p = s.accept()
	p.want("hello")
	p.welcome(time.Hour)
	p.say(`{"t":"resumed","chats":0,"reset":[{"chat":%q,"reason":"ahead"}]}`, chat)
	history := p.want("history")
	if history.Before != nil || history.After != nil {
		t.Fatalf("after a reset the page asks for %+v, want the newest", history)
	}
	p.event(item(5, 4, "bob", "b5", "five")) // lower than all that was held: the log is another
	p.page(history, false, item(4, 0, "bob", "b4", "four"))
	s.wantMessages("four", "five")
}

func fillsGap(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	p.event(item(15, 13, "bob", "b3", "three"))
	history := p.want("history")
	if history.After == nil || *history.After != 11 || history.Before != nil {
		t.Fatalf("for a gap after 11 the page asks for %+v", history)
	}
	p.event(item(16, 15, "bob", "b4", "four"))
	p.page(history, false, item(13, 11, "bob", "b2", "two"), item(15, 13, "bob", "b3", "three"))
	s.wantMessages("one", "two", "three", "four")
}

func asksOnce(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	p.event(item(15, 13, "bob", "b3", "three"))
	p.page(p.want("history"), false)
	s.wantMessages("one", "three")
	p.event(item(16, 0, "bob", "b4", "four")) // what was before it expired: no gap
	s.wantMessages("one", "three", "four")
	s.tab.Send("next") // a second request would be before it
	p.want("send")
}

func repairsOnResync(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	p.say(`{"t":"resync"}`)
	history := p.want("history")
	if history.After == nil || *history.After != 11 {
		t.Fatalf("on resync the page asks for %+v, want what is after 11", history)
	}
	p.page(history, false, item(12, 11, "bob", "b2", "two"))
	s.wantMessages("one", "two")
}

func dropsDuplicates(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	p.event(item(11, 0, "bob", "b1", "one"))
	p.event(item(9, 0, "bob", "b0", "an old one"))
	p.event(item(12, 11, "bob", "b1", "the same send, later in the log"))
	p.event(item(13, 12, "alice", "b1", "the same id of somebody else"))
	p.event(item(14, 13, "bob", "b2", "two"))
	s.wantMessages("one", "the same id of somebody else", "two")
	s.tab.Send("next") // nothing looked like a gap
	p.want("send")
}

func sendsAgain(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	s.tab.Send("mine")
	first := p.want("send")
	if first.Retry || first.After != nil || first.Body.Text != "mine" {
		t.Fatalf("the first try is %+v", first)
	}
	p.cut()
	p = s.accept()
	p.again(11, item(12, 11, "bob", "b2", "two"))
	second := p.want("send")
	if second.ID != first.ID || !second.Retry || second.After == nil || *second.After != 11 {
		t.Fatalf("the second try is %+v, want id %s, retry, after 11: what was known at the first", second, first.ID)
	}
	p.ack(second, 13)
	p.event(item(13, 12, "alice", first.ID, "mine"))
	s.wantMessages("one", "two", "mine")
	s.wantNothingPending()
}

func doesNotSendAgain(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.tab.Send("mine")
	first := p.want("send")
	p.cut()
	p = s.accept()
	p.again(11, item(12, 11, "alice", first.ID, "mine"))
	s.wantMessages("one", "mine")
	s.wantNothingPending()
	s.tab.Send("next")
	if next := p.want("send"); next.ID == first.ID || next.Retry {
		t.Fatalf("the page sent %+v, want another message for the first time", next)
	}
}

func sendsAfterReload(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	s.tab.Send("mine")
	first := p.want("send")
	s.tab.Reload()
	p = s.begin(false, item(11, 0, "bob", "b1", "one"))
	second := p.want("send")
	if second.ID != first.ID || !second.Retry || *second.After != 11 {
		t.Fatalf("after a reload the page sent %+v, want a retry of %s", second, first.ID)
	}
	p.ack(second, 12)
	p.event(item(12, 11, "alice", first.ID, "mine"))
	s.wantMessages("one", "mine")
}

func keepsOrder(t *testing.T, s *script) {
	p := s.begin(false)
	s.tab.Send("first")
	s.tab.Send("second")
	refused := p.want("send")
	p.say(`{"t":"error","ref":%d,"id":%q,"code":"rate_limited","message":"slower","retryAfter":0.05}`, refused.Ref, refused.ID)
	again := p.want("send")
	if again.ID != refused.ID || again.Retry {
		t.Fatalf("after a refusal for the rate the page sent %+v, want the same again, and no search for it", again)
	}
	p.say(`{"t":"error","ref":%d,"id":%q,"code":"unavailable","message":"no answer from the log","retryAfter":0.05}`, again.Ref, again.ID)
	again = p.want("send")
	if again.ID != refused.ID || !again.Retry {
		t.Fatalf("after a failure the page sent %+v, want a retry of the same", again)
	}
	p.ack(again, 21)
	second := p.want("send")
	p.event(item(21, 0, "alice", again.ID, "first"))
	p.event(item(22, 21, "alice", second.ID, "second")) // before its ack
	p.ack(second, 22)
	s.wantMessages("first", "second")
	s.wantNothingPending()
}

func showsRefusal(t *testing.T, s *script) {
	p := s.begin(false)
	s.tab.Send("mine")
	send := p.want("send")
	p.say(`{"t":"error","ref":%d,"id":%q,"code":"forbidden","message":"bob does not take your messages"}`, send.Ref, send.ID)
	browser.Until(t, "the refusal", func() string {
		return browser.Eval[string](s.tab, `document.querySelector('#pending .failed .note')?.textContent ?? ''`)
	}, func(note string) bool { return note == "Not sent: bob does not take your messages" })
	browser.Eval[bool](s.tab, `document.querySelector('#pending button').click(), true`)
	if again := p.want("send"); again.ID != send.ID || !again.Retry {
		t.Fatalf("Try again sent %+v", again)
	}
}

func looksForEcho(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	s.tab.Send("mine")
	send := p.want("send")
	p.ack(send, 12)
	history := p.want("history")
	if history.After == nil || *history.After != 11 {
		t.Fatalf("the page asks for %+v, want what is after 11", history)
	}
	p.page(history, false, item(12, 11, "alice", send.ID, "mine"))
	s.wantMessages("one", "mine")
	s.wantNothingPending()
}

func readsOlder(t *testing.T, s *script) {
	page := func(from, to uint64) (items, texts []string) {
		for seq := from; seq <= to; seq++ {
			items = append(items, item(seq, seq-1, "bob", fmt.Sprint("b", seq), fmt.Sprint("message ", seq)))
			texts = append(texts, fmt.Sprint("message ", seq))
		}
		return items, texts
	}
	newest, newestTexts := page(51, 100)
	older, olderTexts := page(1, 50)
	p := s.begin(true, newest...)
	s.wantMessages(newestTexts...)
	top := `(() => { const at = document.querySelector('[data-seq="51"]').getBoundingClientRect().top; return Math.round(at); })()`
	browser.Eval[bool](s.tab, `document.querySelector('#log').scrollTop = 100, true`)
	history := p.want("history")
	if history.Before == nil || *history.Before != 51 || history.After != nil {
		t.Fatalf("scrolled up, the page asks for %+v, want what is before 51", history)
	}
	before := browser.Eval[int](s.tab, top)
	p.page(history, false, older...)
	s.wantMessages(append(olderTexts, newestTexts...)...)
	// Two pages of one day have one line for it.
	if days := browser.Eval[int](s.tab, `document.querySelectorAll('.day').length`); days != 1 {
		t.Errorf("the day stands %d times", days)
	}
	// The line of the day and the button above may come or go: a few lines of slack, against 50 messages.
	if after := browser.Eval[int](s.tab, top); after < before-100 || after > before+100 {
		t.Errorf("what was read moved from %d to %d", before, after)
	}
	if hint := s.tab.Text("#beginning"); !strings.Contains(hint, "beginning") {
		t.Errorf("above the first message stands %q", hint)
	}
}

func renews(t *testing.T, s *script) {
	p := s.accept()
	hello := p.want("hello")
	p.welcome(500 * time.Millisecond)
	p.say(`{"t":"resumed","chats":0,"reset":[]}`)
	p.page(p.want("history"), false)
	renew := p.want("renew")
	if renew.Token == "" || renew.Token == hello.Token {
		t.Fatalf("renewed with %q after a hello with %q", renew.Token, hello.Token)
	}
	p.say(`{"t":"renewed","ref":%d,"expires":"2020-01-01T00:00:02Z"}`, renew.Ref)
	p.want("renew")
}

func getsNewToken(t *testing.T, s *script) {
	p := s.accept()
	first := p.want("hello")
	p.say(`{"t":"error","code":"unauthenticated","message":"the token is of another server"}`)
	p.close(schemas.CloseUnauthenticated, "")
	p = s.accept()
	if second := p.want("hello"); second.Token == first.Token {
		t.Fatalf("the refused token %q came again", second.Token)
	}
}

func obeysDrain(t *testing.T, s *script) {
	p := s.begin(false, item(11, 0, "bob", "b1", "one"))
	s.wantMessages("one")
	p.close(schemas.CloseDraining, `{"delay":30}`)
	s.accept().again(11)
	s.wantState("online")
}

func staysAway(t *testing.T, s *script) {
	p := s.begin(false)
	p.close(schemas.CloseRevoked, "")
	s.wantState("stopped")
	if got := s.tab.Text("#state"); !strings.HasPrefix(got, "This session was ended") {
		t.Errorf("the page says %q", got)
	}
}

func showsUnread(t *testing.T, s *script) {
	p := s.begin(false)
	p.say(`{"t":"event","chat":"direct.alice.carol","seq":7,"prev":5,"time":"2026-11-23T22:56:17Z","event":{"type":"message","id":"c1","from":"carol","body":{"kind":"text","text":"psst"}}}`)
	browser.Until(t, "carol in the list", func() string { return s.tab.Text("#chats") },
		func(text string) bool { return strings.Contains(text, "1 unread") })
	browser.Eval[bool](s.tab, `location.hash = '#alice/carol', true`)
	history := p.want("history")
	if history.Chat != "direct.alice.carol" || history.Before == nil || *history.Before != 7 {
		t.Fatalf("the page asks for %+v, want what is before the event it holds", history)
	}
	s.wantMessages("psst")
	if got := s.tab.Text("#chats"); strings.Contains(got, "unread") {
		t.Errorf("the list says %q after the chat was opened", got)
	}
}

func showsText(t *testing.T, s *script) {
	texts := []string{
		`<img src=x onerror="document.title='broken'"> &lt;b&gt;`,
		"two\nlines  and   spaces",
		"👩🏽‍🚀🏳️‍🌈",
		"שלום, עולם!",
		strings.Repeat("unbroken", 200),
	}
	long := strings.Repeat("x", 4999) + "👍" + strings.Repeat("y", 90_000)
	var items []string
	for i, text := range texts {
		items = append(items, item(uint64(i+1), uint64(i), "bob", fmt.Sprint("b", i), text))
	}
	items = append(items, item(99, 0, "bob", "b99", long))
	s.begin(false, items...)
	s.wantMessages(append(slices.Clone(texts), long[:4999]+"…")...)
	browser.Eval[bool](s.tab, `document.querySelector('#messages .all').click(), true`)
	s.wantMessages(append(texts, long)...)
	if wide := browser.Eval[bool](s.tab, `document.querySelector('#log').scrollWidth > document.querySelector('#log').clientWidth`); wide {
		t.Error("a long word makes the log scroll sideways")
	}
	if title := browser.Eval[string](s.tab, `document.title`); title == "broken" {
		t.Error("a text became markup")
	}
	direction := browser.Eval[string](s.tab, `getComputedStyle(document.querySelectorAll('#messages .text')[3]).direction`)
	if direction != "rtl" {
		t.Errorf("Hebrew is shown %s", direction)
	}
}

func waitsByCode(t *testing.T, s *script) {
	// [code, reason, failures] → delay in ms with the least and with the most of chance.
	got := browser.Eval[[][]int](s.tab, `import('/reconnect.js').then(({ reconnectDelay }) => [
		[1006, '', 0], [1006, '', 3], [1006, '', 40], [4002, '', 0], [4008, '', 0], [4008, '', 1],
		[4012, '{"delay":1234}', 5], [4012, 'nonsense', 0], [4012, '{"delay":1e12}', 0], [4013, '', 0], [4003, '', 0],
	].map(([code, reason, failures]) => [() => 0, () => 1].map((random) => reconnectDelay({ code, reason }, failures, random) ?? -1)))`)
	want := [][]int{
		{250, 500}, {2000, 4000}, {15000, 30000}, {0, 0}, {0, 0}, {500, 1000},
		{1234, 1234}, {250, 500}, {60000, 60000}, {1000, 1000}, {-1, -1},
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("delays %v, want %v", got, want)
	}
}

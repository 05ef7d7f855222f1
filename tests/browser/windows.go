package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
)

// TwoWindows has alice and bob chat at the server at url (like
// http://127.0.0.1:8080/), in two windows that share nothing: messages and typing
// arrive, texts look as they were written, a reload shows the history. Then
// stop stops the server and start starts it again, with the same data at the
// same address; what alice wrote meanwhile arrives once. Nil for both leaves that out.
func TwoWindows(t *testing.T, url string, stop, start func()) {
	t.Helper()
	browser := Start(t)
	url = strings.TrimSuffix(url, "/")
	run := ulid.Make().String() // the chat may hold messages of an earlier run
	alice := browser.OpenPrivate(t, url+"/#alice/bob")
	bob := browser.OpenPrivate(t, url+"/#bob/alice")
	for _, tab := range []*Tab{alice, bob} {
		wantState(t, tab, "online")
		Until(t, "the newest page", func() bool { return Eval[bool](tab, `!document.querySelector('#chat').hidden`) }, isTrue)
	}

	first := "hello " + run
	alice.Type(first)
	wantText(t, bob, "#typing", "alice is typing…")
	alice.Type("\r")
	wantMessages(t, run, bob, first)
	wantMessages(t, run, alice, first)
	wantText(t, bob, "#typing", "")

	second := run + " <b>two\nlines</b> 👩🏽‍🚀 שלום &amp; " + strings.Repeat("long", 500)
	bob.Send(second)
	wantMessages(t, run, alice, first, second)
	wantMessages(t, run, bob, first, second)

	alice.Reload()
	wantState(t, alice, "online")
	wantMessages(t, run, alice, first, second)
	if stop == nil {
		return
	}

	stop()
	Until(t, "alice's connection", alice.State, func(state string) bool { return state != "online" })
	third, fourth := "third "+run, "fourth "+run
	alice.Send(third)
	alice.Send(fourth)
	if got := alice.Pending(); !slices.Equal(got, []string{third, fourth}) {
		t.Errorf("without a server alice has pending %q", got)
	}
	start()
	for _, tab := range []*Tab{alice, bob} {
		wantState(t, tab, "online")
		wantMessages(t, run, tab, first, second, third, fourth)
	}
	Until(t, "alice's pending messages", alice.Pending, func(texts []string) bool { return len(texts) == 0 })

	bob.Send("fifth " + run)
	wantMessages(t, run, alice, first, second, third, fourth, "fifth "+run)
}

func isTrue(is bool) bool { return is }

func wantState(t *testing.T, tab *Tab, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("a connection that is %s", want), tab.State, func(got string) bool { return got == want })
}

func wantText(t *testing.T, tab *Tab, selector, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("%q in %s", want, selector), func() string { return tab.Text(selector) },
		func(got string) bool { return got == want })
}

// wantMessages waits until the messages that name run are exactly want.
func wantMessages(t *testing.T, run string, tab *Tab, want ...string) {
	t.Helper()
	Until(t, fmt.Sprintf("messages %.60q", want), tab.Messages, func(got []string) bool {
		got = slices.DeleteFunc(got, func(text string) bool { return !strings.Contains(text, run) })
		return slices.Equal(got, want)
	})
}

package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
)

// Groups has alice, bob and carol use a group at the server at url, in three windows
// that share nothing, by what people see and press: alice creates the group with
// bob, adds carol, edits, pins and deletes; bob reacts and answers; what was not
// seen is counted; carol is removed, and bob leaves.
func Groups(t *testing.T, url string) {
	t.Helper()
	browser := Start(t)
	url = strings.TrimSuffix(url, "/")
	run := ulid.Make().String()[10:] // the server may know an earlier run's users
	alice, bob, carol := "alice-"+run, "bob-"+run, "carol-"+run
	a := browser.OpenPrivate(t, url+"/#"+alice)
	b := browser.OpenPrivate(t, url+"/#"+bob)
	c := browser.OpenPrivate(t, url+"/#"+carol)
	for _, tab := range []*Tab{a, b, c} {
		wantState(t, tab, "online")
	}

	a.Click("#new-group")
	a.Fill("#group-name", "The <b>team</b>")
	a.Fill("#group-members", bob)
	a.Click("#group-form .primary")
	wantText(t, a, "#title", "The <b>team</b>")
	wantNotice(t, a, "You created the group “The <b>team</b>”")
	wantList(t, b, "The <b>team</b>")

	a.Send("hello " + run)
	a.Send("secnod " + run)
	wantMessages(t, run, a, "hello "+run, "secnod "+run)
	wantUnread(t, b, "The <b>team</b>", "2")
	wantTitle(t, b, "(2) "+bob+" · Parley")
	b.Reload() // the server counts the same
	wantState(t, b, "online")
	wantUnread(t, b, "The <b>team</b>", "2")
	b.OpenChat("The <b>team</b>")
	wantMessages(t, run, b, "hello "+run, "secnod "+run)
	wantUnread(t, b, "The <b>team</b>", "")

	a.Click("#info")
	a.Fill("#add-users", carol)
	a.Click("#add button")
	wantText(t, a, "#members-title", "3 members")
	Until(t, "carol among the members", func() string { return a.Text("#members") }, func(text string) bool { return strings.Contains(text, carol) })
	a.Click("#details .cancel")
	wantNotice(t, b, alice+" added "+carol)
	wantList(t, c, "The <b>team</b>")
	c.OpenChat("The <b>team</b>")
	wantNotice(t, c, alice+" added you")
	if got := c.Messages(); len(got) != 0 {
		t.Errorf("carol reads %q from before she came", got)
	}

	b.Act("hello "+run, "React with 👍")
	wantReactions(t, a, "hello "+run, "👍 1")
	a.Act("hello "+run, "React with 👍")
	wantReactions(t, b, "hello "+run, "👍 2")
	b.Act("hello "+run, "React with 👍") // again: it is taken back
	wantReactions(t, a, "hello "+run, "👍 1")
	a.Act("secnod "+run, "Edit")
	Until(t, "the text to be edited", func() string { return Eval[string](a, `document.querySelector('#text').value`) },
		func(text string) bool { return text == "secnod "+run })
	a.Send("second " + run)
	for _, tab := range []*Tab{a, b} {
		wantMessages(t, run, tab, "hello "+run, "second "+run)
		wantStamp(t, tab, "second "+run, "edited")
	}
	b.Act("hello "+run, "Reply")
	b.Send("answer " + run)
	for _, tab := range []*Tab{a, b} {
		Until(t, "the quote", func() string { return quoteOf(tab, "answer "+run) }, func(text string) bool { return strings.Contains(text, "hello "+run) })
	}
	wantMessages(t, run, c, "answer "+run)
	a.Act("answer "+run, "Pin")
	for _, tab := range []*Tab{a, b, c} {
		wantText(t, tab, "#pinned", "Pinned · "+bob+": answer "+run)
	}
	a.Act("answer "+run, "Unpin")
	Until(t, "no pinned message", func() bool { return Eval[bool](c, `document.querySelector('#pinned').hidden`) }, isTrue)
	a.Act("hello "+run, "Delete")
	a.Verb("Delete for everybody?")
	for _, tab := range []*Tab{a, b} {
		wantMessages(t, run, tab, "second "+run, "answer "+run)
		Until(t, "no quote of what was deleted", func() string { return quoteOf(tab, "answer "+run) }, func(text string) bool { return !strings.Contains(text, "hello") })
	}
	b.Reload() // what the server folded looks like what came live
	wantState(t, b, "online")
	wantMessages(t, run, b, "second "+run, "answer "+run)
	wantStamp(t, b, "second "+run, "edited")

	a.Click("#info")
	a.ClickLabel("Remove " + carol)
	wantText(t, a, "#members-title", "2 members")
	wantText(t, c, "#told", "You are no longer in The <b>team</b>.")
	wantList(t, c)
	a.Fill("#rename-name", "Us")
	a.Click("#rename button")
	wantText(t, b, "#title", "Us")
	wantNotice(t, b, alice+" renamed the group to “Us”")
	a.ClickText("#settings button", "Mute")
	Until(t, "the mark of a muted chat", func() string { return a.Text("#chats") }, func(text string) bool { return strings.Contains(text, "muted") })
	a.ClickText("#settings button", "Archive")
	Until(t, "the archive", func() string { return a.Text("#archived .name") }, func(text string) bool { return text == "Us" })
	a.Click("#details .cancel")

	b.Click("#info")
	b.Click("#leave")
	b.Click("#leave")
	wantNotice(t, a, bob+" left")
	wantList(t, b)
}

func quoteOf(tab *Tab, text string) string {
	tab.t.Helper()
	return Eval[string](tab, fmt.Sprintf(`(%s)(%q)?.querySelector('.quote')?.textContent ?? ''`, findMessage, text))
}

func wantNotice(t *testing.T, tab *Tab, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("the notice %q", want), func() []string {
		return Eval[[]string](tab, `Array.from(document.querySelectorAll('#messages .notice'), (it) => it.textContent)`)
	}, func(got []string) bool {
		for _, text := range got {
			if text == want {
				return true
			}
		}
		return false
	})
}

// wantList waits until the list of chats has exactly these names.
func wantList(t *testing.T, tab *Tab, want ...string) {
	t.Helper()
	Until(t, fmt.Sprintf("the chats %q", want), func() []string {
		return Eval[[]string](tab, `Array.from(document.querySelectorAll('#chats .name'), (it) => it.textContent)`)
	}, func(got []string) bool { return fmt.Sprint(got) == fmt.Sprint(want) })
}

func wantUnread(t *testing.T, tab *Tab, name, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("%q unread in %s", want, name), func() string {
		return Eval[string](tab, fmt.Sprintf(`Array.from(document.querySelectorAll('#chats a')).find((it) => it.querySelector('.name').textContent === %q)?.querySelector('.badge')?.firstChild.textContent ?? ''`, name))
	}, func(got string) bool { return got == want })
}

func wantTitle(t *testing.T, tab *Tab, want string) {
	t.Helper()
	Until(t, "the title", func() string { return Eval[string](tab, `document.title`) }, func(got string) bool { return got == want })
}

// wantReactions waits until under a message there are exactly these.
func wantReactions(t *testing.T, tab *Tab, text string, want ...string) {
	t.Helper()
	Until(t, fmt.Sprintf("the reactions %q", want), func() []string {
		return Eval[[]string](tab, fmt.Sprintf(`Array.from((%s)(%q)?.querySelectorAll('.reactions button') ?? [], (it) => it.textContent)`, findMessage, text))
	}, func(got []string) bool { return fmt.Sprint(got) == fmt.Sprint(want) })
}

func wantStamp(t *testing.T, tab *Tab, text, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("%s beside a message", want), func() string {
		return Eval[string](tab, fmt.Sprintf(`(%s)(%q)?.querySelector('.stamp').textContent ?? ''`, findMessage, text))
	}, func(got string) bool { return strings.Contains(got, want) })
}

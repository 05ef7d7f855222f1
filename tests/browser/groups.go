package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
)

// Groups lets alice, bob and carol use a group at the server at url, in three windows
// that share nothing. It uses only what people see and press.
func Groups(t *testing.T, url string) {
	t.Helper()
	g := openGroupTalk(t, url)
	g.aliceCreates()
	g.bobReads()
	g.aliceAddsCarol()
	g.bothReact()
	g.aliceEdits()
	g.bobReplies()
	g.alicePins()
	g.aliceDeletes()
	g.bobReloads()
	g.aliceRemovesCarol()
	g.aliceRenames()
	g.aliceMutesAndArchives()
	g.bobLeaves()
}

// groupTalk is a talk of three people in a group. Each has a window.
type groupTalk struct {
	t                 *testing.T
	run               string // part of every name and text: the server can know the users of an earlier run
	alice, bob, carol string
	a, b, c           *Tab // the windows of alice, bob and carol
}

// teamName has HTML in it, which no window may interpret.
const teamName = "The <b>team</b>"

func openGroupTalk(t *testing.T, url string) *groupTalk {
	t.Helper()
	browser := Start(t)
	url = strings.TrimSuffix(url, "/")
	run := ulid.Make().String()[10:]
	g := &groupTalk{t: t, run: run, alice: "alice-" + run, bob: "bob-" + run, carol: "carol-" + run}
	g.a = browser.OpenPrivate(t, url+"/#"+g.alice)
	g.b = browser.OpenPrivate(t, url+"/#"+g.bob)
	g.c = browser.OpenPrivate(t, url+"/#"+g.carol)
	for _, tab := range []*Tab{g.a, g.b, g.c} {
		wantState(t, tab, "online")
	}
	return g
}

// text ends a message's text with the run.
func (g *groupTalk) text(text string) string { return text + " " + g.run }

func (g *groupTalk) aliceCreates() {
	g.a.Click("#new-group")
	g.a.Fill("#group-name", teamName)
	g.a.Fill("#group-members", g.bob)
	g.a.Click("#group-form .primary")
	wantText(g.t, g.a, "#title", teamName)
	wantNotice(g.t, g.a, "You created the group “"+teamName+"”")
	wantList(g.t, g.b, teamName)
}

// bobReads has two unread messages, and none after he opened the chat.
func (g *groupTalk) bobReads() {
	g.a.Send(g.text("hello"))
	g.a.Send(g.text("secnod"))
	wantMessages(g.t, g.run, g.a, g.text("hello"), g.text("secnod"))
	wantUnread(g.t, g.b, teamName, "2")
	wantTitle(g.t, g.b, "(2) "+g.bob+" · Parley")
	g.b.Reload() // the server counts the same
	wantState(g.t, g.b, "online")
	wantUnread(g.t, g.b, teamName, "2")
	g.b.OpenChat(teamName)
	wantMessages(g.t, g.run, g.b, g.text("hello"), g.text("secnod"))
	wantUnread(g.t, g.b, teamName, "")
}

// aliceAddsCarol adds a member, who reads nothing from before she came.
func (g *groupTalk) aliceAddsCarol() {
	g.a.Click("#info")
	g.a.Fill("#add-users", g.carol)
	g.a.Click("#add button")
	wantText(g.t, g.a, "#members-title", "3 members")
	Until(g.t, "carol among the members", func() string { return g.a.Text("#members") }, func(text string) bool { return strings.Contains(text, g.carol) })
	g.a.Click("#details .cancel")
	wantNotice(g.t, g.b, g.alice+" added "+g.carol)
	wantList(g.t, g.c, teamName)
	g.c.OpenChat(teamName)
	wantNotice(g.t, g.c, g.alice+" added you")
	if got := g.c.Messages(); len(got) != 0 {
		g.t.Errorf("carol reads %q from before she came", got)
	}
}

func (g *groupTalk) bothReact() {
	g.b.Act(g.text("hello"), "React with 👍")
	wantReactions(g.t, g.a, g.text("hello"), "👍 1")
	g.a.Act(g.text("hello"), "React with 👍")
	wantReactions(g.t, g.b, g.text("hello"), "👍 2")
	g.b.Act(g.text("hello"), "React with 👍") // the second time takes it back
	wantReactions(g.t, g.a, g.text("hello"), "👍 1")
}

func (g *groupTalk) aliceEdits() {
	g.a.Act(g.text("secnod"), "Edit")
	Until(g.t, "the text to be edited", func() string { return Eval[string](g.a, `document.querySelector('#text').value`) },
		func(text string) bool { return text == g.text("secnod") })
	g.a.Send(g.text("second"))
	for _, tab := range []*Tab{g.a, g.b} {
		wantMessages(g.t, g.run, tab, g.text("hello"), g.text("second"))
		wantStamp(g.t, tab, g.text("second"), "edited")
	}
}

func (g *groupTalk) bobReplies() {
	g.b.Act(g.text("hello"), "Reply")
	g.b.Send(g.text("answer"))
	for _, tab := range []*Tab{g.a, g.b} {
		Until(g.t, "the quote", func() string { return quoteOf(tab, g.text("answer")) }, func(text string) bool { return strings.Contains(text, g.text("hello")) })
	}
	wantMessages(g.t, g.run, g.c, g.text("answer"))
}

func (g *groupTalk) alicePins() {
	g.a.Act(g.text("answer"), "Pin")
	for _, tab := range []*Tab{g.a, g.b, g.c} {
		wantText(g.t, tab, "#pinned", "Pinned · "+g.bob+": "+g.text("answer"))
	}
	g.a.Act(g.text("answer"), "Unpin")
	Until(g.t, "no pinned message", func() bool { return Eval[bool](g.c, `document.querySelector('#pinned').hidden`) }, isTrue)
}

// aliceDeletes deletes the message that bob's answer quotes.
func (g *groupTalk) aliceDeletes() {
	g.a.Act(g.text("hello"), "Delete")
	g.a.Verb("Delete for everybody?")
	for _, tab := range []*Tab{g.a, g.b} {
		wantMessages(g.t, g.run, tab, g.text("second"), g.text("answer"))
		Until(g.t, "no quote of what was deleted", func() string { return quoteOf(tab, g.text("answer")) }, func(text string) bool { return !strings.Contains(text, "hello") })
	}
}

// bobReloads checks that the items of the server look like the events that came live.
func (g *groupTalk) bobReloads() {
	g.b.Reload()
	wantState(g.t, g.b, "online")
	wantMessages(g.t, g.run, g.b, g.text("second"), g.text("answer"))
	wantStamp(g.t, g.b, g.text("second"), "edited")
}

// aliceRemovesCarol leaves the group's details open.
func (g *groupTalk) aliceRemovesCarol() {
	g.a.Click("#info")
	g.a.ClickLabel("Remove " + g.carol)
	wantText(g.t, g.a, "#members-title", "2 members")
	wantText(g.t, g.c, "#told", "You are no longer in "+teamName+".")
	wantList(g.t, g.c)
}

func (g *groupTalk) aliceRenames() {
	g.a.Fill("#rename-name", "Us")
	g.a.Click("#rename button")
	wantText(g.t, g.b, "#title", "Us")
	wantNotice(g.t, g.b, g.alice+" renamed the group to “Us”")
}

// aliceMutesAndArchives closes the group's details.
func (g *groupTalk) aliceMutesAndArchives() {
	g.a.ClickText("#settings button", "Mute")
	Until(g.t, "the mark of a muted chat", func() string { return g.a.Text("#chats") }, func(text string) bool { return strings.Contains(text, "muted") })
	g.a.ClickText("#settings button", "Archive")
	Until(g.t, "the archive", func() string { return g.a.Text("#archived .name") }, func(text string) bool { return text == "Us" })
	g.a.Click("#details .cancel")
}

// bobLeaves clicks twice: the second click confirms the first.
func (g *groupTalk) bobLeaves() {
	g.b.Click("#info")
	g.b.Click("#leave")
	g.b.Click("#leave")
	wantNotice(g.t, g.a, g.bob+" left")
	wantList(g.t, g.b)
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

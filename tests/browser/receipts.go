package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/oklog/ulid/v2"
)

// Receipts has alice, bob and carol see at the server at url how far messages have
// got and who is there, in windows that share nothing: ticks go from sent to
// delivered to read, in a group for each member; what bob reads in one window is read
// in his other one; who goes is seen to go; and each lets others see only what it wants.
func Receipts(t *testing.T, url string) {
	t.Helper()
	browser := Start(t)
	url = strings.TrimSuffix(url, "/")
	run := ulid.Make().String()[10:] // the server may know an earlier run's users
	alice, bob, carol := "alice-"+run, "bob-"+run, "carol-"+run
	a := browser.OpenPrivate(t, url+"/#"+alice+"/"+bob)
	wantState(t, a, "online")
	wantText(t, a, "#about", "offline")
	a.Send("first " + run)
	wantMessages(t, run, a, "first "+run)
	wantTicks(t, a, "first "+run, "Sent")

	b := browser.OpenPrivate(t, url+"/#"+bob)
	wantUnread(t, b, alice, "1")
	wantText(t, a, "#about", "online")
	wantTicks(t, a, "first "+run, "Delivered")
	other := browser.OpenPrivate(t, url+"/#"+bob)
	wantUnread(t, other, alice, "1")
	b.OpenChat(alice)
	wantTicks(t, a, "first "+run, "Read")
	wantUnread(t, other, alice, "")
	a.Send("second " + run)
	wantTicks(t, a, "second "+run, "Read")
	b.Reload() // the server knows what was read
	wantState(t, b, "online")
	wantUnread(t, b, alice, "")

	choose := func(selector string) {
		b.Click("#own")
		b.Click(selector)
		Until(t, "the settings to be stored", func() string { return b.Text("#own-settings .problem") }, func(text string) bool { return text == "" })
		b.Click("#own-settings .cancel")
	}
	choose("#read-receipts")
	a.Send("third " + run)
	wantMessages(t, run, b, "first "+run, "second "+run, "third "+run)
	wantTicks(t, a, "third "+run, "Delivered")
	choose(`#status input[value="away"]`)
	wantText(t, a, "#about", "away")
	choose(`#status input[value="online"]`)
	wantText(t, a, "#about", "online")
	choose("#read-receipts")

	c := browser.OpenPrivate(t, url+"/#"+carol)
	wantState(t, c, "online")
	a.Click("#new-group")
	a.Fill("#group-name", "Team")
	a.Fill("#group-members", bob+" "+carol)
	a.Click("#group-form .primary")
	wantText(t, a, "#title", "Team")
	a.Send("hello " + run)
	wantTicks(t, a, "hello "+run, "Delivered to all 2")
	b.OpenChat("Team")
	wantTicks(t, a, "hello "+run, "Read by 1 of 2, delivered to 2")
	a.Act("hello "+run, "Who has read it")
	wantText(t, a, "#readers-list", "Read"+bob+"Delivered"+carol)
	c.OpenChat("Team")
	wantTicks(t, a, "hello "+run, "Read by all 2")
	wantText(t, a, "#readers-list", "Read"+bob+carol)
	a.Click("#readers .cancel")

	a.OpenChat(bob)
	for _, tab := range []*Tab{b, other} {
		tab.Do("leave the page", chromedp.Navigate("about:blank"))
	}
	Until(t, "bob to be gone", func() string { return a.Text("#about") }, func(text string) bool { return strings.HasPrefix(text, "last seen ") })
}

// wantTicks waits until the ticks beside an own message say this.
func wantTicks(t *testing.T, tab *Tab, text, want string) {
	t.Helper()
	Until(t, fmt.Sprintf("%q beside %q", want, text), func() string {
		return Eval[string](tab, fmt.Sprintf(`(%s)(%q)?.querySelector('.ticks')?.title ?? ''`, findMessage, text))
	}, func(got string) bool { return got == want })
}

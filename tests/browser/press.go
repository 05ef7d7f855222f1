package browser

import (
	"fmt"

	"github.com/chromedp/chromedp"
)

// findMessage is a JavaScript function from a message's text to its element.
const findMessage = `(text) => Array.from(document.querySelectorAll('#messages .message')).find((it) => it.querySelector('.text').textContent === text)`

// Click clicks on an element, when it is there and can be.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.press(selector, fmt.Sprintf(`document.querySelector(%q)`, selector))
}

// ClickText clicks on the element of a selector that has exactly this text.
func (tab *Tab) ClickText(selector, text string) {
	tab.t.Helper()
	tab.press(text, fmt.Sprintf(`Array.from(document.querySelectorAll(%q)).find((it) => it.textContent === %q)`, selector, text))
}

// ClickLabel clicks on the element with this label.
func (tab *Tab) ClickLabel(label string) {
	tab.t.Helper()
	tab.press(label, fmt.Sprintf(`document.querySelector('[aria-label=%q]')`, label))
}

// Act opens what can be done to a message, and presses one of it: a verb, or the
// label of an emoji.
func (tab *Tab) Act(text, verb string) {
	tab.t.Helper()
	tab.press("the actions of "+text, fmt.Sprintf(`(%s)(%q)?.querySelector('.more')`, findMessage, text))
	tab.Verb(verb)
}

// Verb presses one of the actions that are open.
func (tab *Tab) Verb(verb string) {
	tab.t.Helper()
	tab.press(verb, fmt.Sprintf(`Array.from(document.querySelectorAll('.actions button')).find((it) => (it.getAttribute('aria-label') ?? it.textContent) === %q)`, verb))
}

// OpenChat opens a chat of the list.
func (tab *Tab) OpenChat(name string) {
	tab.t.Helper()
	tab.press(name, fmt.Sprintf(`Array.from(document.querySelectorAll('#chats a')).find((it) => it.querySelector('.name').textContent === %q)`, name))
}

// Fill puts text into a field at once.
func (tab *Tab) Fill(selector, text string) {
	tab.t.Helper()
	tab.Do("fill "+selector, chromedp.SetValue(selector, text))
}

// press waits until the element that a JavaScript expression gives is in view and
// enabled, and clicks on it as a person's browser would.
func (tab *Tab) press(what, find string) {
	tab.t.Helper()
	Until(tab.t, what+" to be pressed", func() bool {
		return Eval[bool](tab, fmt.Sprintf(`(() => {
			const it = %s;
			if (!it || it.matches(':disabled') || it.getClientRects().length === 0) return false;
			it.click();
			return true;
		})()`, find))
	}, isTrue)
}

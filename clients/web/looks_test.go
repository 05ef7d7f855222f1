package web_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/tests/browser"
)

// TestGroupLooksRight draws a group, with all that may be done to messages, for people
// to look at, into the directory that PARLEY_SCREENSHOTS names.
func TestGroupLooksRight(t *testing.T) {
	directory := os.Getenv("PARLEY_SCREENSHOTS")
	if directory == "" {
		t.Skip("PARLEY_SCREENSHOTS names no directory for the pictures")
	}
	s := openPage(t, browser.Start(t))
	p := s.enter("[" + strings.Join([]string{
		listed("group.team", 80, 30, 40, 0, "bob", `,"name":"The team, its friends and everybody who ever came by","members":3,"role":"owner"`),
		listed("direct.alice.carol", 70, 9, 3, 3, "carol", `,"muted":true`),
		listed("direct.alice.dave", 50, 7, 12, 12, "dave", `,"pinned":true`),
		listed("direct.alice.erin", 40, 6, 1, 0, "erin", `,"archived":true`),
	}, ",") + "]")
	p.sayPresence(p.wantUsers("watch", "bob").Ref, "")
	p.sayPresence(p.wantUsers("watch", "dave", "carol", "erin").Ref, `"dave":{"status":"online"},"carol":{"status":"away"},"erin":{"status":"offline"}`)
	s.wantRows("bob", "dave 12", "The team, its friends and everybody who ever came by", "carol 3")
	browser.Eval[bool](s.tab, `location.hash = '#alice/group.team', true`)
	with := func(item, more string) string { return strings.TrimSuffix(item, "}") + "," + more + "}" }
	of := func(item, more string) string { return strings.Replace(item, `"from"`, more+`,"from"`, 1) }
	items := []string{
		`{"seq":60,"prev":0,"time":"2026-11-23T22:56:17Z","event":{"type":"group","id":"g","from":"alice","change":"created","name":"Team","members":["bob"],"count":2}}`,
		with(item(61, 60, "bob", "b1", "Shall we meet at six? There is a lot to be said about the way in which long lines are broken."), `"pinned":true,"reactions":[{"emoji":"👍","count":2,"users":["alice","carol"]},{"emoji":"🎉","count":1,"users":["bob"]}]`),
		`{"seq":62,"prev":61,"time":"2026-11-23T22:56:17Z","event":{"type":"member","id":"h","from":"alice","change":"added","users":["carol","dave","erin"],"count":5}}`,
		with(of(item(63, 62, "alice", "a1", "half past, please"), `"replyTo":61`), `"edited":70`),
		of(item(64, 63, "carol", "c1", "I come later"), `"replyTo":63`),
		with(strings.Replace(item(65, 64, "bob", "b2", "x"), `{"kind":"text","text":"x"}`, `{}`, 1), `"deleted":true`),
		of(item(66, 65, "alice", "a2", "This goes away."), `"ttl":200000000`),
		with(item(67, 66, "alice", "a3", "ok"), `"reactions":[{"emoji":":shipit:","count":3,"users":["bob","carol","dave"]}]`),
	}
	history := p.want("history")
	p.say(`{"t":"page","ref":%d,"chat":"group.team","events":[%s],"more":false}`, history.Ref, strings.Join(items, ","))
	browser.Until(t, "the messages", s.tab.Messages, func(texts []string) bool { return len(texts) == 6 })
	var receipts frame
	for receipts.Chat != "group.team" {
		receipts = p.want("receipts")
	}
	p.say(`{"t":"receipts","ref":%d,"chat":"group.team","receipts":[{"user":"bob","delivered":66,"read":63},{"user":"carol","delivered":66,"read":64},{"user":"dave","delivered":67,"read":63}]}`, receipts.Ref)
	shoot := func(view string) {
		for _, scheme := range []string{"light", "dark"} {
			for name, width := range map[string]int64{"desktop": 1100, "phone": 390} {
				s.tab.Show(width, 720, scheme)
				picture := filepath.Join(directory, fmt.Sprintf("%s-%s-%s.png", view, name, scheme))
				if err := os.WriteFile(picture, s.tab.Screenshot(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	s.tab.Act("half past, please", "Reply")
	s.tab.Click(`[data-seq="67"] .more`)
	shoot("group")
	s.tab.Click("#info")
	members := p.want("members")
	p.say(`{"t":"members","ref":%d,"chat":"group.team","members":[{"user":"alice","role":"owner","since":60},{"user":"bob","role":"admin","since":60},{"user":"carol","role":"member","since":62}]}`, members.Ref)
	browser.Until(t, "the members", func() string { return s.tab.Text("#members") }, func(text string) bool { return strings.Contains(text, "carol") })
	shoot("details")
	s.tab.Click("#details .cancel")
	s.tab.Verb("Who has read it")
	shoot("readers")
	s.tab.Click("#readers .cancel")
	browser.Eval[bool](s.tab, `location.hash = '#alice', true`)
	s.tab.Click("#new-group")
	shoot("new")
	s.tab.Click("#group .cancel")
	shoot("list")
	s.openSettings(p, "")
	s.wantChosen("online true")
	shoot("own-settings")
	s.tab.Click("#own-settings .cancel")
	s.goTo("dave")
	history = p.want("history")
	p.say(`{"t":"page","ref":%d,"chat":"direct.alice.dave","events":[%s,%s],"more":false}`, history.Ref, item(6, 0, "alice", "a6", "See you at six"), item(7, 6, "dave", "d7", "fine"))
	s.wantMessages("See you at six", "fine")
	shoot("direct")
}

package schemas

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// storedEvents are the events of testdata/events/v1: what version 1 wrote into
// logs that later versions read. A file there is never changed; what a later
// version writes otherwise goes into a folder of its own.
func storedEvents(t *testing.T) map[string]Event {
	t.Helper()
	user := func(s string) User {
		u, err := ParseUser(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	message := func(id, from, body string) Event {
		return Event{Type: Message, ID: mustID(t, id), From: user(from), Body: []byte(body)}
	}
	reply := message("01JDG7T3Q0V8N5M4K2H6W9XZAC", "bob", `{"kind":"text","text":"yes, @alice"}`)
	reply.ReplyTo, reply.Thread, reply.Mentions = 1099511627781, 1099511627776, []string{"alice"}
	everybody := message("all", "a", `{"kind":"text","text":"all"}`)
	everybody.ReplyTo, everybody.Mentions = SeqMax, []string{"*"}
	return map[string]Event{
		"text":      message("01JDG7T3Q0V8N5M4K2H6W9XZAB", "alice", `{"kind":"text","text":"hi"}`),
		"unicode":   message("m_1-x", "A-b_9", `{"kind":"text","text":"zoë 😀 <b>&\u0000\t\n\"\\ `+"\u2028\u007f"+`"}`),
		"reply":     reply,
		"everybody": everybody,
		"image":     message("i", "alice", `{"kind":"image","file":"01JDG7","width":640,"height":480,"text":"us"}`),
		"file":      message("f", "alice", `{"kind":"file","file":"01JDG8","name":"a b.pdf","bytes":0,"mime":"application/pdf"}`),
		"opaque":    message("o", "alice", `{"kind":"opaque","data":"AA==","scheme":"mls"}`),
		"extra":     message("x", "alice", `{"kind":"text","text":"hi","x":[1.50,-0,1e999,{"y":null}],"Å":true}`),
	}
}

func TestStoredEventsOfVersion1(t *testing.T) {
	t.Parallel()
	events := storedEvents(t)
	for name, event := range events {
		file := filepath.Join("testdata", "events", "v1", name+".json")
		written, err := EncodeEvent(&event)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := os.ReadFile(file)
		if os.IsNotExist(err) && *update { // only ever a new one
			stored, err = written, os.WriteFile(file, written, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, written) {
			t.Errorf("%s: an event is now written as\n%s, was\n%s", name, written, stored)
		}
		read, err := DecodeEvent(stored)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(&event, read, cmp.AllowUnexported(User{}, ID{})); diff != "" {
			t.Errorf("%s: (-want +have)\n%s", name, diff)
		}
		if err := checkAgainst("event", stored); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, _ := filepath.Glob("testdata/events/v1/*.json"); len(files) != len(events) {
		t.Errorf("%d events are stored, %d are known", len(files), len(events))
	}
}

func TestDecodeEventOfALaterVersion(t *testing.T) {
	t.Parallel()
	ev, err := DecodeEvent([]byte(`{"v":2,"type":"reaction","id":"r","from":"bob","target":5,"emoji":"👍"}`))
	if err != nil || ev.Type != "reaction" || ev.From.String() != "bob" {
		t.Errorf("%+v: %v", ev, err)
	}
}

func TestDecodeEventRefuses(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, `null`, `[]`, `{}`, `{"type":"message"`, "\xff",
		`{"id":"m","from":"a","body":{}}`,
		`{"type":"message","from":"a","body":{}}`,
		`{"type":"message","id":"m","body":{}}`,
		`{"type":"message","id":"m","from":"a"}`,
		`{"type":"message","id":"m","from":"a","body":null}`,
		`{"type":"message","id":"m","from":"a","body":"hi"}`,
		`{"type":"message","id":"a.b","from":"a","body":{}}`,
		`{"type":"message","id":"m","from":"*","body":{}}`,
		"{\"type\":\"message\",\"id\":\"a\\n\u202e\",\"from\":\"a\",\"body\":{}}",
		`{"type":"message","id":"m","from":"a","body":{},"replyTo":9007199254740992}`,
		`{"type":"message","id":"m","from":"a","body":{},"thread":-1}`,
		`{"type":"message","id":"m","id":"m","from":"a","body":{}}`,
		`{"type":"message","id":"m","from":"a","body":{}} {}`,
		`{"type":"message","id":"m","from":"a","body":{"x":"` + "\n" + `"}}`,
		`{"type":"` + strings.Repeat("\\n", 1000) + `","id":5}`,
		`{"` + strings.Repeat("x", 9000) + `":1,"` + strings.Repeat("x", 9000) + `":1}`,
	} {
		ev, err := DecodeEvent([]byte(data))
		if err == nil {
			t.Errorf("%s: accepted as %+v", data, ev)
			continue
		}
		checkSentence(t, &Error{Internal, err.Error(), 0})
	}
}

func TestEncodeEventRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Event){
		"no type":          func(ev *Event) { ev.Type = "" },
		"no id":            func(ev *Event) { ev.ID = ID{} },
		"no from":          func(ev *Event) { ev.From = User{} },
		"no body":          func(ev *Event) { ev.Body = nil },
		"body a list":      func(ev *Event) { ev.Body = []byte(`[]`) },
		"body broken":      func(ev *Event) { ev.Body = []byte(`{"a"`) },
		"body two objects": func(ev *Event) { ev.Body = []byte(`{},"from":"bob"`) },
		"replyTo 2^53":     func(ev *Event) { ev.ReplyTo = SeqMax + 1 },
	} {
		ev := storedEvents(t)["text"]
		change(&ev)
		if data, err := EncodeEvent(&ev); err == nil {
			t.Errorf("%s: written as %s", name, data)
		}
	}
}

package schemas

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzDecodeFrame checks that an accepted frame validates against its JSON
// Schema and holds its bounds, and that a refused one is answered decently.
func FuzzDecodeFrame(f *testing.F) {
	for _, seed := range []string{
		typicalSend,
		`{"t":"hello","token":"x","device":"web-7f3","resume":{"direct.alice.bob":1099511627780}}`,
		`{"t":"hello","token":["eyJhbGciOiJIUzI1NiJ9"]}`,
		`{"t":"renew","ref":2,"token":"x"}`,
		`{"t":"ping","ref":0}`,
		`{"ref":1,"t":"history","chat":"direct.alice.bob","before":5,"limit":200}`,
		`{"t":"history","chat":"group.x7","after":0}`,
		`{"t":"typing","chat":"direct.bob.alice"}`,
		`{"t":"send","id":"a","chat":"direct.a.b","type":"message","body":{"kind":"image","file":"f","width":1,"height":2},"retry":true,"after":9}`,
		`{"t":"send","id":"a","chat":"direct.a.b","type":"message","body":{"kind":"file","file":"f","name":"n","bytes":0,"mime":"m"},"replyTo":4}`,
		`{"t":"send","id":"a","chat":"direct.a.b","type":"message","body":{"kind":"opaque","data":"\u0000\ud83d\ude00","scheme":"s"},"mentions":["*"]}`,
		`{"t":"send","id":"a","chat":"direct.a.b","type":"message","body":{"kind":"text","Text":"x","x":[[{"y":1e999}]]},"mentions":["a","b"]}`,
		`{"\u0074":"ping","t":"ping"}`,
		"{\"t\":\"\\u202e\\n\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		input := bytes.Clone(data)
		frame, err := DecodeFrame(data)
		if !bytes.Equal(input, data) {
			t.Fatalf("the input was changed to %q", data)
		}
		if frame.Ref.Value > SeqMax || frame.Ref.Value > 0 && !frame.Ref.Present {
			t.Errorf("ref is %+v", frame.Ref)
		}
		if err != nil {
			checkSentence(t, err)
			return
		}
		if frame.T != THello || frame.Hello.Token != "" {
			if err := checkAgainst("client-"+string(frame.T), data); err != nil {
				t.Errorf("accepted against its JSON Schema: %v", err)
			}
		}
		if frame.Send != nil {
			checkAcceptedSend(t, frame.Send)
		}
	})
}

// checkAcceptedSend takes a send through the log and through the decoder again.
func checkAcceptedSend(t *testing.T, send *Send) {
	t.Helper()
	if len(send.Body) > BodyBytesMax || depth(send.Body) > BodyDepthMax || bytes.ContainsAny(send.Body, "\n\r\t\x00") {
		t.Errorf("body of %d bytes, %d levels: %q", len(send.Body), depth(send.Body), send.Body)
	}
	if again, err := checkBody(send.Body); err != nil || !bytes.Equal(again, send.Body) {
		t.Errorf("body %q is read again as %q: %v", send.Body, again, err)
	}
	from, _ := ParseUser("alice")
	stored, err := EncodeEvent(&Event{Type: send.Type, ID: send.ID, From: from, Body: send.Body,
		ReplyTo: send.ReplyTo, Thread: send.Thread, Mentions: send.Mentions})
	if err != nil {
		t.Fatal(err)
	}
	ev, err := DecodeEvent(stored)
	if err != nil || ev.ID != send.ID || ev.From != from || ev.Body.Kind() != '{' || len(ev.Body) > len(send.Body) {
		t.Errorf("stored as %q, read as %+v: %v", stored, ev, err)
	}
	if err := checkAgainst("event", stored); err != nil {
		t.Error(err)
	}
}

// FuzzDecodeEvent checks that an accepted event is written as it was read.
func FuzzDecodeEvent(f *testing.F) {
	files, _ := filepath.Glob("testdata/events/v1/*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"type":"edit","id":"e","from":"a","target":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ev, err := DecodeEvent(data)
		if err != nil {
			checkSentence(t, &Error{Internal, err.Error(), 0})
			return
		}
		if ev.Type != Message && len(ev.Body) == 0 {
			return // of a later version, without the body that this one writes
		}
		written, err := EncodeEvent(ev)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeEvent(written)
		if err != nil || again.ID != ev.ID || again.From != ev.From || again.Type != ev.Type {
			t.Fatalf("%q is read as %+v: %v", written, again, err)
		}
		if rewritten, err := EncodeEvent(again); err != nil || !bytes.Equal(rewritten, written) {
			t.Errorf("written as %q and then as %q: %v", written, rewritten, err)
		}
	})
}

// FuzzParse checks that no accepted name reaches a subject as a wildcard or as an extra token.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"alice", "direct.alice.bob", "direct.b.a", "direct.a.>", "group.*", "group.x7", "a\n", "zoë", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		_, userErr := ParseUser(name)
		if (userErr == nil) != tokenRegexp.MatchString(name) {
			t.Errorf("user %q: %v", name, userErr)
		}
		chat, chatErr := ParseChat(name)
		if chatErr == nil && (chat.String() != name || !chatRegexp.MatchString(name)) {
			t.Errorf("chat %q is accepted as %q", name, chat)
		}
		if a, b, ok := chat.Users(); ok && DirectChat(b, a) != chat {
			t.Errorf("chat %q is of %s and %s", name, a, b)
		}
		for _, err := range []error{userErr, chatErr} {
			if err != nil && (len(err.Error()) > SentenceBytesMax*2 || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%q is refused by %q", name, err)
			}
		}
	})
}

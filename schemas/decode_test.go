package schemas

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// checkSentence holds for every error that a client is told.
func checkSentence(t *testing.T, err *Error) {
	t.Helper()
	if !slices.Contains(Codes(), err.Code) {
		t.Errorf("code %q is none of the protocol", err.Code)
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if err.Message == "" || len(err.Message) > SentenceBytesMax || !utf8.ValidString(err.Message) ||
		strings.ContainsFunc(err.Message, unprintable) {
		t.Errorf("message %q (%d bytes) is not one short printable line", err.Message, len(err.Message))
	}
}

// send returns a send frame with one member replaced or, for "", left out.
func send(name, value string) string {
	members := [][2]string{
		{"t", `"send"`},
		{"ref", `7`},
		{"id", `"m1"`},
		{"chat", `"direct.alice.bob"`},
		{"type", `"message"`},
		{"body", `{"kind":"text","text":"hi"}`},
	}
	var parts []string
	found := false
	for _, m := range members {
		if m[0] == name {
			found = true
			if value == "" {
				continue
			}
			m[1] = value
		}
		parts = append(parts, `"`+m[0]+`":`+m[1])
	}
	if !found && value != "" {
		parts = append(parts, `"`+name+`":`+value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func body(value string) string { return send("body", value) }

func nested(levels int) string {
	return body(`{"kind":"text","text":"hi","x":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + "}")
}

func text(bytes int) string {
	return body(`{"kind":"text","text":"` + strings.Repeat("x", bytes-len(`{"kind":"text","text":""}`)) + `"}`)
}

func mentions(n int) string {
	return send("mentions", `["u`+strings.Repeat(`","u`, n-1)+`"]`)
}

func resume(chats int) string {
	var b strings.Builder
	for i := range chats {
		fmt.Fprintf(&b, `,"direct.a.b%d":%d`, i, i)
	}
	return `{"t":"hello","token":"x","resume":{` + strings.TrimPrefix(b.String(), ",") + `}}`
}

const long = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-" // 64

func TestDecodeFrameAccepts(t *testing.T) {
	t.Parallel()
	seq := func(n uint64) *uint64 { return &n }
	limit := func(n int64) *int64 { return &n }
	alice := mustChat(t, "direct.alice.bob")
	m1 := mustID(t, "m1")
	hi := []byte(`{"kind":"text","text":"hi"}`)
	message := func(change func(*Send)) Frame {
		s := Send{ID: m1, Chat: alice, Type: Message, Body: hi}
		change(&s)
		return Frame{T: TSend, Ref: Ref{7, true}, Send: &s}
	}
	withBody := func(body string) Frame { return message(func(s *Send) { s.Body = []byte(body) }) }
	tests := []struct {
		name  string
		frame string
		want  Frame
	}{
		{"ping", `{"t":"ping"}`, Frame{T: TPing}},
		{"ping, t last, with spaces", "\n {\"x\" : [1, {}] , \"ref\":0,\"t\":\"ping\"}\t\r\n ", Frame{T: TPing, Ref: Ref{0, true}}},
		{"ping, t escaped", `{"\u0074":"p\u0069ng"}`, Frame{T: TPing}},
		{"ref 2^53-1", `{"t":"ping","ref":9007199254740991}`, Frame{T: TPing, Ref: Ref{SeqMax, true}}},
		{"ref inside another member", `{"t":"ping","x":{"ref":"y","T":0}}`, Frame{T: TPing}},
		{"hello", `{"t":"hello","token":"x","device":"web-7f3"}`, Frame{T: THello, Hello: &Hello{Token: "x", Device: mustID(t, "web-7f3")}}},
		{"hello that resumes nothing", `{"t":"hello","token":"x","resume":{}}`, Frame{T: THello, Hello: &Hello{Token: "x", Resume: map[Chat]uint64{}}}},
		{"hello that resumes", `{"t":"hello","token":"x","resume":{"direct.alice.bob":9007199254740991}}`,
			Frame{T: THello, Hello: &Hello{Token: "x", Resume: map[Chat]uint64{alice: SeqMax}}}},
		{"renew", `{"t":"renew","ref":1,"token":"x\u0079"}`, Frame{T: TRenew, Ref: Ref{1, true}, Renew: &Renew{Token: "xy"}}},
		{"typing", `{"t":"typing","chat":"direct.alice.bob"}`, Frame{T: TTyping, Typing: &Typing{Chat: alice}}},
		{"history", `{"t":"history","chat":"direct.alice.bob"}`, Frame{T: THistory, History: &History{Chat: alice}}},
		{"history after 0", `{"t":"history","chat":"direct.alice.bob","after":0}`, Frame{T: THistory, History: &History{Chat: alice, After: seq(0)}}},
		{"history clamped", `{"t":"history","chat":"direct.alice.bob","before":5,"limit":9007199254740991}`,
			Frame{T: THistory, History: &History{Chat: alice, Before: seq(5), Limit: limit(PageEventsMax)}}},
		{"history of 1", `{"t":"history","chat":"direct.alice.bob","limit":1}`, Frame{T: THistory, History: &History{Chat: alice, Limit: limit(1)}}},
		{"send", send("", ""), message(func(*Send) {})},
		{"send to oneself", send("chat", `"direct.a.a"`), message(func(s *Send) { s.Chat = mustChat(t, "direct.a.a") })},
		{"send to a group", send("chat", `"group.x7"`), message(func(s *Send) { s.Chat = mustChat(t, "group.x7") })},
		{"retry", send("retry", `true,"after":5`), message(func(s *Send) { s.Retry, s.After = true, 5 })},
		{"replyTo and thread", send("replyTo", `4,"thread":2`), message(func(s *Send) { s.ReplyTo, s.Thread = 4, 2 })},
		{"mentions", send("mentions", `["bob","c\u0064"]`), message(func(s *Send) { s.Mentions = []string{"bob", "cd"} })},
		{"mentions all", send("mentions", `["*"]`), message(func(s *Send) { s.Mentions = []string{"*"} })},
		{"mentions none", send("mentions", `[]`), message(func(*Send) {})},
		{"unknown members", send("future", `{"Kind":1,"t":[2]}`), message(func(*Send) {})},
		{"members of no field in another case of nothing", body(`{"kind":"text","text":"hi","T":1,"Ref":2}`),
			withBody(`{"kind":"text","text":"hi","T":1,"Ref":2}`)},
		{"body is compacted", body("{ \"kind\" : \"text\",\n\"text\":\"a  b\" , \"x\":[ 1 , 2 ] }"), withBody(`{"kind":"text","text":"a  b","x":[1,2]}`)},
		{"escaped control characters", body(`{"kind":"text","text":"\u0000\u001b\n\u2028\u202e"}`), withBody(`{"kind":"text","text":"\u0000\u001b\n\u2028\u202e"}`)},
		{"surrogate pair", body(`{"kind":"text","text":"\ud83d\ude00😀"}`), withBody(`{"kind":"text","text":"\ud83d\ude00😀"}`)},
		{"kind escaped", body(`{"k\u0069nd":"t\u0065xt","text":"hi"}`), withBody(`{"k\u0069nd":"t\u0065xt","text":"hi"}`)},
		{"huge numbers", body(`{"kind":"text","text":"hi","x":[1e999999,-0,123456789012345678901234567890]}`),
			withBody(`{"kind":"text","text":"hi","x":[1e999999,-0,123456789012345678901234567890]}`)},
		{"brackets in strings are no levels", body(`{"kind":"text","text":"\"` + strings.Repeat("[", 100) + `"}`),
			withBody(`{"kind":"text","text":"\"` + strings.Repeat("[", 100) + `"}`)},
		{"image", body(`{"kind":"image","file":"f","width":1,"height":4294967295}`), withBody(`{"kind":"image","file":"f","width":1,"height":4294967295}`)},
		{"empty file", body(`{"kind":"file","file":"f","name":"n","mime":"m","bytes":0}`), withBody(`{"kind":"file","file":"f","name":"n","mime":"m","bytes":0}`)},
		{"opaque", body(`{"kind":"opaque","data":"AA==","scheme":"mls"}`), withBody(`{"kind":"opaque","data":"AA==","scheme":"mls"}`)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			frame, err := DecodeFrame([]byte(test.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, frame, cmp.AllowUnexported(ID{}, Chat{})); diff != "" {
				t.Errorf("(-want +have)\n%s", diff)
			}
			if err := checkAgainst("client-"+string(frame.T), []byte(test.frame)); err != nil {
				t.Errorf("the JSON Schema refuses it: %v", err)
			}
		})
	}
	for name, frame := range map[string]string{
		"body at its bound":     text(BodyBytesMax),
		"32 levels":             nested(BodyDepthMax),
		"100 mentions":          mentions(MentionsMax),
		"200 chats resumed":     resume(ResumeChatsMax),
		"names of 64":           send("id", `"`+long+`"`),
		"chat at its bound":     send("chat", `"direct.`+long+`.`+long+`"`),
		"hello without a token": `{"t":"hello"}`, // the edge answers unauthenticated
	} {
		if _, err := DecodeFrame([]byte(frame)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeFrameKeepsWhatAnswersNeed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		frame string
		want  Frame
	}{
		"unknown t":         {`{"ref":7,"t":"x"}`, Frame{T: "x", Ref: Ref{7, true}}},
		"ref after a bad t": {`{"t":5,"ref":7}`, Frame{Ref: Ref{7, true}}},
		"t after a bad ref": {`{"ref":-7,"t":"ping"}`, Frame{T: TPing}},
		"broken later on":   {`{"t":"send","ref":7,"id":"m1","chat":}`, Frame{T: TSend, Ref: Ref{7, true}, Send: &Send{ID: mustID(t, "m1")}}},
		"id after a fault":  {`{"t":"send","ref":7,"chat":5,"id":"m1"}`, Frame{T: TSend, Ref: Ref{7, true}, Send: &Send{ID: mustID(t, "m1")}}},
		"id of a bad body":  {send("body", `{}`), Frame{T: TSend, Ref: Ref{7, true}, Send: &Send{ID: mustID(t, "m1")}}},
		"bad id":            {send("id", `"a.b"`), Frame{T: TSend, Ref: Ref{7, true}, Send: &Send{}}},
	} {
		frame, err := DecodeFrame([]byte(test.frame))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if diff := cmp.Diff(test.want, frame, cmp.AllowUnexported(ID{}, Chat{})); diff != "" {
			t.Errorf("%s: (-want +have)\n%s", name, diff)
		}
	}
}

// TestErrorsKeepTheToken puts a token wherever a confused client might.
func TestErrorsKeepTheToken(t *testing.T) {
	t.Parallel()
	const token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
	for _, frame := range []string{
		`{"t":"hello","token":["` + token + `"]}`,
		`{"t":"hello","token":{"jwt":"` + token + `"}}`,
		`{"t":"hello","token":"` + token + `","token":"` + token + `"}`,
		`{"t":"hello","Token":"` + token + `"}`,
		`{"t":"hello","token":"` + token + `","device":"a b"}`,
		`{"t":"hello","token":"` + token + `","resume":{"x":1}}`,
		`{"t":"hello","token":"` + token + `","resume":"` + token + `"}`,
		`{"t":"hello","token":"` + token + `","ref":"` + token + `"}`,
		`{"t":"hello","token":"` + token,
		`{"t":"hello","token":"` + token + `\x"}`,
		`{"t":"hello","token":"` + token + "\n" + `"}`,
		`{"t":"hello","token":` + token + `}`,
		`{"t":"renew","token":["` + token + `"]}`,
		`{"t":"renew","token":{"` + token + `":1,"` + token + `x":{}}}`,
	} {
		_, err := DecodeFrame([]byte(frame))
		if err == nil {
			t.Errorf("%s: accepted", frame)
			continue
		}
		checkSentence(t, err)
		if strings.Contains(err.Message, token[:12]) {
			t.Errorf("%s: answered with the token: %s", frame, err.Message)
		}
	}
}

// TestDecodeFrameSharesNoMemory lets the edge read the next frame into the same bytes.
func TestDecodeFrameSharesNoMemory(t *testing.T) {
	t.Parallel()
	data := []byte(send("mentions", `["bob"]`))
	frame, err := DecodeFrame(data)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%+v %s", frame.Send, frame.Send.Body)
	clear(data)
	if have := fmt.Sprintf("%+v %s", frame.Send, frame.Send.Body); have != want {
		t.Errorf("the frame changed with its input: %s", have)
	}
}

// TestDecodeSendAllocations guards the hottest decoder. The race detector's
// sync.Pool drops at random, so the bound leaves room for that.
func TestDecodeSendAllocations(t *testing.T) {
	data := []byte(typicalSend)
	if n := testing.AllocsPerRun(1000, func() { _, _ = DecodeFrame(data) }); n > 20 {
		t.Errorf("%v allocations: it was 10", n)
	}
}

func mustChat(t *testing.T, s string) Chat {
	t.Helper()
	chat, err := ParseChat(s)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

func mustID(t *testing.T, s string) ID {
	t.Helper()
	id, err := ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// change is a send about another message, with these members beside type.
func change(typ, members string) string {
	return `{"t":"send","ref":7,"id":"m1","chat":"direct.alice.bob","type":"` + typ + `",` + members + `}`
}

// users are n quoted names.
func users(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"u%d"`, i)
	}
	return strings.Join(names, ",")
}

package schemas

import (
	stdcmp "cmp"
	"strings"
	"testing"
)

// refusal is a frame that DecodeFrame refuses.
type refusal struct {
	name   string
	frame  string
	code   Code
	schema bool // its JSON Schema refuses it too
}

// checkRefusals checks that DecodeFrame refuses each frame with its code, that the error
// is fit for a client, and that the JSON Schema refuses the frame where the case says so.
func checkRefusals(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			frame, err := DecodeFrame([]byte(test.frame))
			if err == nil {
				t.Fatalf("accepted as %+v", frame)
			}
			if err.Code != test.code {
				t.Errorf("code %s, want %s: %s", err.Code, test.code, err.Message)
			}
			checkSentence(t, err)
			name := "client-" + stdcmp.Or(string(frame.T), "ping")
			if test.schema && checkAgainst(name, []byte(test.frame)) == nil {
				t.Errorf("the JSON Schema %s accepts it", name)
			}
			// An answer finds its request wherever the frame could be read that far.
			if strings.Contains(test.frame, `"ref":7,`) && test.code != BadFrame && frame.Ref != (Ref{7, true}) {
				t.Errorf("ref is %+v", frame.Ref)
			}
		})
	}
}

func TestDecodeFrameRefusesMalformedJSON(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"empty", ``, BadFrame, false},
		{"only spaces", "  \n", BadFrame, false},
		{"no JSON", `hello`, BadFrame, false},
		{"array", `[{"t":"ping"}]`, BadFrame, false},
		{"string", `"ping"`, BadFrame, false},
		{"null", `null`, BadFrame, false},
		{"cut off", `{"t":"ping"`, BadFrame, false},
		{"cut off in a string", `{"t":"pi`, BadFrame, false},
		{"trailing comma", `{"t":"ping",}`, BadFrame, false},
		{"comment", `{"t":"ping"/**/}`, BadFrame, false},
		{"single quotes", `{'t':'ping'}`, BadFrame, false},
		{"bare name", `{t:"ping"}`, BadFrame, false},
		{"two frames", `{"t":"ping"}{"t":"ping"}`, BadFrame, false},
		{"something after", `{"t":"ping"} x`, BadFrame, false},
		{"byte order mark", "\ufeff{\"t\":\"ping\"}", BadFrame, false},
		{"NUL after", "{\"t\":\"ping\"}\x00", BadFrame, false},
		{"NaN", send("replyTo", `NaN`), BadFrame, false},
		{"leading zero", send("replyTo", `01`), BadFrame, false},
		{"10,001 levels", nested(10_001), BadFrame, false},
		{"levels never closed", `{"t":"send","x":` + strings.Repeat("[", 60_000), BadFrame, false},
	})
}

func TestDecodeFrameRefusesInvalidUTF8(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"bad UTF-8", "{\"t\":\"ping\",\"x\":\"\xff\"}", BadFrame, false},
		{"bad UTF-8 in a name", "{\"t\":\"ping\",\"\xc3\":1}", BadFrame, false},
		{"bad UTF-8 in the text", body("{\"kind\":\"text\",\"text\":\"a\xc3\"}"), BadFrame, false},
		{"UTF-16 half as UTF-8", body("{\"kind\":\"text\",\"text\":\"\xed\xa0\x80\"}"), BadFrame, false},
		{"lone high surrogate", body(`{"kind":"text","text":"\ud83d"}`), BadFrame, false},
		{"lone low surrogate", body(`{"kind":"text","text":"\ude00"}`), BadFrame, false},
		{"surrogates swapped", body(`{"kind":"text","text":"\ude00\ud83d"}`), BadFrame, false},
		{"surrogate in an ignored member", `{"t":"ping","x":["\ud83d"]}`, BadFrame, false},
		{"raw control character", body("{\"kind\":\"text\",\"text\":\"a\nb\"}"), BadFrame, false},
		{"raw NUL", body("{\"kind\":\"text\",\"text\":\"a\x00b\"}"), BadFrame, false},
	})
}

func TestDecodeFrameRefusesDuplicatesAndOtherCase(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"t twice", `{"t":"ping","t":"ping"}`, BadFrame, false},
		{"t twice, once escaped", `{"t":"ping","\u0074":"ping"}`, BadFrame, false},
		{"ref twice", `{"t":"ping","ref":1,"ref":2}`, BadFrame, false},
		{"id twice", send("id", `"a","id":"b"`), BadFrame, false},
		{"ignored member twice", `{"t":"ping","x":1,"x":1}`, BadFrame, false},
		{"duplicate in body", body(`{"kind":"text","text":"a","text":"b"}`), BadFrame, false},
		{"duplicate deep in body", body(`{"kind":"text","text":"a","x":[{"y":{"z":1,"z":2}}]}`), BadFrame, false},
		{"duplicate deep in an ignored member", `{"t":"ping","x":[[{"y":1,"y":1}]]}`, BadFrame, false},
		{"duplicate of a long name", `{"` + strings.Repeat("é", 9000) + `":1,"` + strings.Repeat("é", 9000) + `":1}`, BadFrame, false},
		{"duplicate of a long name, a byte on", `{"x` + strings.Repeat("é", 9000) + `":1,"x` + strings.Repeat("é", 9000) + `":1}`, BadFrame, false},
		{"chat resumed twice", `{"t":"hello","token":"x","resume":{"direct.a.b":1,"direct.a.b":2}}`, BadFrame, false},
		{"T", `{"T":"ping"}`, BadFrame, true},
		{"T beside t", `{"t":"ping","T":"ping"}`, BadFrame, false},
		{"Ref", `{"t":"ping","Ref":1}`, BadFrame, false},
		{"Chat", send("Chat", `"direct.alice.bob"`), BadFrame, false},
		{"replyto", send("replyto", `1`), BadFrame, false},
		{"REPLYTO, escaped", send(`REPLYT\u004f`, `1`), BadFrame, false},
		{"Token in hello", `{"t":"hello","Token":"x"}`, BadFrame, true},
		{"Limit in history", `{"t":"history","chat":"direct.a.b","Limit":5}`, BadFrame, false},
		{"Kind in body", body(`{"Kind":"text","text":"hi"}`), BadFrame, true},
		{"Text in body", body(`{"kind":"text","Text":"hi"}`), BadFrame, true},
		{"Text beside text in body", body(`{"kind":"text","text":"hi","Text":"hi"}`), BadFrame, false},
	})
}

func TestDecodeFrameRefusesTypeAndRef(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"no members", `{}`, BadFrame, false},
		{"t absent", `{"ref":7}`, BadFrame, false},
		{"t empty", `{"t":"","ref":7}`, BadFrame, false},
		{"t a number", `{"t":1,"ref":7}`, BadFrame, false},
		{"t null", `{"t":null,"ref":7}`, BadFrame, false},
		{"t an object", `{"t":{"t":"ping"},"ref":7}`, BadFrame, false},
		{"t unknown", `{"t":"frobnicate","ref":7}`, BadFrame, false},
		{"t of the server", `{"t":"ack","ref":7}`, BadFrame, false},
		{"t in capitals", `{"t":"PING","ref":7}`, BadFrame, false},
		{"t with a space", `{"t":"ping ","ref":7}`, BadFrame, false},
		{"t with control characters", `{"t":"a\u0000\n\u2028\u202e","ref":7}`, BadFrame, false},
		{"t very long", `{"t":"` + strings.Repeat("é", 50_000) + `"}`, BadFrame, false},
		{"ref a fraction", `{"t":"ping","ref":1.5}`, BadFrame, true},
		{"ref written as a fraction", `{"t":"ping","ref":1.0}`, BadFrame, false},
		{"ref with an exponent", `{"t":"ping","ref":1e2}`, BadFrame, false},
		{"ref negative", `{"t":"ping","ref":-1}`, BadFrame, true},
		{"ref minus zero", `{"t":"ping","ref":-0}`, BadFrame, false},
		{"ref a string", `{"t":"ping","ref":"1"}`, BadFrame, true},
		{"ref null", `{"t":"ping","ref":null}`, BadFrame, true},
		{"ref true", `{"t":"ping","ref":true}`, BadFrame, true},
		{"ref a list", `{"t":"ping","ref":[1]}`, BadFrame, true},
		{"ref 2^53", `{"t":"ping","ref":9007199254740992}`, BadFrame, true},
		{"ref beyond 64 bits", `{"t":"ping","ref":18446744073709551617}`, BadFrame, true},
		{"ref huge", `{"t":"ping","ref":1e999}`, BadFrame, false},
	})
}

// Every fault in the shape of a hello is a bad frame.
func TestDecodeFrameRefusesHelloAndRenew(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"hello token a number", `{"t":"hello","token":5}`, BadFrame, true},
		{"hello token null", `{"t":"hello","token":null}`, BadFrame, true},
		{"hello device malformed", `{"t":"hello","token":"x","device":"a.b"}`, BadFrame, true},
		{"hello device empty", `{"t":"hello","token":"x","device":""}`, BadFrame, true},
		{"hello resume a list", `{"t":"hello","token":"x","resume":["direct.a.b"]}`, BadFrame, true},
		{"hello resume null", `{"t":"hello","token":"x","resume":null}`, BadFrame, true},
		{"hello resume malformed chat", `{"t":"hello","token":"x","resume":{"alice":1}}`, BadFrame, true},
		{"hello resume wrong order", `{"t":"hello","token":"x","resume":{"direct.b.a":1}}`, BadFrame, false},
		{"hello resume wildcard", `{"t":"hello","token":"x","resume":{"direct.a.>":1}}`, BadFrame, true},
		{"hello resume seq negative", `{"t":"hello","token":"x","resume":{"direct.a.b":-1}}`, BadFrame, true},
		{"hello resume seq a string", `{"t":"hello","token":"x","resume":{"direct.a.b":"1"}}`, BadFrame, true},
		{"hello resume seq 2^53", `{"t":"hello","token":"x","resume":{"direct.a.b":9007199254740992}}`, BadFrame, true},
		{"hello resume 201 chats", resume(ResumeChatsMax + 1), BadFrame, true},
		{"renew without token", `{"t":"renew"}`, Invalid, true},
		{"renew token empty", `{"t":"renew","token":""}`, Invalid, true},
		{"renew token a list", `{"t":"renew","token":["x"]}`, Invalid, true},
	})
}

func TestDecodeFrameRefusesNamesInSend(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"id absent", send("id", ""), Invalid, true},
		{"id empty", send("id", `""`), Invalid, true},
		{"id null", send("id", `null`), Invalid, true},
		{"id a number", send("id", `5`), Invalid, true},
		{"id with a dot", send("id", `"a.b"`), Invalid, true},
		{"id with a space", send("id", `"a b"`), Invalid, true},
		{"id with a newline", send("id", `"a\n"`), Invalid, true},
		{"id with a NUL", send("id", `"a\u0000"`), Invalid, true},
		{"id of 65", send("id", `"`+long+`x"`), Invalid, true},
		{"id beyond ASCII", send("id", `"zoë"`), Invalid, true},
		{"chat absent", send("chat", ""), Invalid, true},
		{"chat null", send("chat", `null`), Invalid, true},
		{"chat a list", send("chat", `["direct.alice.bob"]`), Invalid, true},
		{"chat empty", send("chat", `""`), Invalid, true},
		{"chat of one user", send("chat", `"direct.alice"`), Invalid, true},
		{"chat of three users", send("chat", `"direct.a.b.c"`), Invalid, true},
		{"chat of an empty user", send("chat", `"direct..bob"`), Invalid, true},
		{"chat in the wrong order", send("chat", `"direct.bob.alice"`), Invalid, false},
		{"chat of any user", send("chat", `"direct.*.bob"`), Invalid, true},
		{"chat of all", send("chat", `"direct.alice.>"`), Invalid, true},
		{"chat of all chats", send("chat", `">"`), Invalid, true},
		{"chat in capitals", send("chat", `"Direct.alice.bob"`), Invalid, true},
		{"group of two tokens", send("chat", `"group.a.b"`), Invalid, true},
		{"group of none", send("chat", `"group"`), Invalid, true},
		{"chat very long", send("chat", `"`+strings.Repeat("direct.", 9000)+`"`), Invalid, true},
	})
}

func TestDecodeFrameRefusesMembersOfSend(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"type absent", send("type", ""), Invalid, true},
		{"type of the server", send("type", `"member"`), Invalid, true},
		{"type unknown", send("type", `"\u202e"`), Invalid, true},
		{"type a number", send("type", `1`), Invalid, true},
		{"replyTo negative", send("replyTo", `-1`), Invalid, true},
		{"replyTo a fraction", send("replyTo", `0.5`), Invalid, true},
		{"replyTo null", send("replyTo", `null`), Invalid, true},
		{"replyTo 2^53", send("replyTo", `9007199254740992`), Invalid, true},
		{"thread a string", send("thread", `"1"`), Invalid, true},
		{"after huge", send("after", `1e400`), Invalid, false},
		{"retry a string", send("retry", `"true"`), Invalid, true},
		{"retry a number", send("retry", `1`), Invalid, true},
		{"ttl 0", send("ttl", `0`), Invalid, true},
		{"ttl of more than a year", send("ttl", `31536001`), Invalid, true},
		{"ttl a string", send("ttl", `"60"`), Invalid, true},
		{"mentions a string", send("mentions", `"bob"`), Invalid, true},
		{"mentions a number", send("mentions", `["bob",1]`), Invalid, true},
		{"mentions nobody", send("mentions", `[""]`), Invalid, true},
		{"mentions a subject", send("mentions", `["a.b"]`), Invalid, true},
		{"mentions all and one", send("mentions", `["*","bob"]`), Invalid, false},
		{"mentions 101", mentions(MentionsMax + 1), Invalid, true},
	})
}

func TestDecodeFrameRefusesBodyOfSend(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"body absent", send("body", ""), Invalid, true},
		{"body null", body(`null`), Invalid, true},
		{"body a string", body(`"hi"`), Invalid, true},
		{"body a list", body(`[]`), Invalid, true},
		{"body empty", body(`{}`), Invalid, true},
		{"kind unknown", body(`{"kind":"video","text":"hi"}`), Invalid, true},
		{"kind a number", body(`{"kind":1}`), Invalid, true},
		{"text absent", body(`{"kind":"text"}`), Invalid, true},
		{"text empty", body(`{"kind":"text","text":""}`), Invalid, true},
		{"text null", body(`{"kind":"text","text":null}`), Invalid, true},
		{"text a number", body(`{"kind":"text","text":5}`), Invalid, true},
		{"image without file", body(`{"kind":"image","width":1,"height":1}`), Invalid, true},
		{"image of no width", body(`{"kind":"image","file":"f","width":0,"height":1}`), Invalid, true},
		{"image of 2^32", body(`{"kind":"image","file":"f","width":4294967296,"height":1}`), Invalid, true},
		{"image of half a pixel", body(`{"kind":"image","file":"f","width":0.5,"height":1}`), Invalid, true},
		{"image file a path", body(`{"kind":"image","file":"../etc","width":1,"height":1}`), Invalid, true},
		{"file without bytes", body(`{"kind":"file","file":"f","name":"n","mime":"m"}`), Invalid, true},
		{"file of 2^53", body(`{"kind":"file","file":"f","name":"n","mime":"m","bytes":9007199254740992}`), Invalid, true},
		{"file without name", body(`{"kind":"file","file":"f","mime":"m","bytes":1}`), Invalid, true},
		{"opaque without scheme", body(`{"kind":"opaque","data":"x"}`), Invalid, true},
		{"33 levels", nested(BodyDepthMax + 1), Invalid, false},
		{"9,000 levels", nested(9_000), Invalid, false},
		{"body a byte over", text(BodyBytesMax + 1), TooLarge, false},
	})
}

func TestDecodeFrameRefusesChangesOfMessages(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"type member", send("type", `"member"`), Invalid, true},
		{"type group", send("type", `"group"`), Invalid, true},
		{"edit without target", send("type", `"edit"`), Invalid, true},
		{"edit without body", change("edit", `"target":5`), Invalid, true},
		{"edit of 0", send("type", `"edit","target":0`), Invalid, true},
		{"delete without target", change("delete", `"x":1`), Invalid, true},
		{"delete of a string", change("delete", `"target":"5"`), Invalid, true},
		{"pin without target", change("pin", `"remove":true`), Invalid, true},
		{"pin remove a string", change("pin", `"target":5,"remove":"yes"`), Invalid, true},
		{"reaction without target", change("reaction", `"emoji":"👍"`), Invalid, true},
		{"reaction without emoji", change("reaction", `"target":5`), Invalid, true},
		{"reaction of nothing", change("reaction", `"target":5,"emoji":""`), Invalid, false},
		{"reaction with a space", change("reaction", `"target":5,"emoji":"a b"`), Invalid, false},
		{"reaction with a line break", change("reaction", `"target":5,"emoji":"a\nb"`), Invalid, false},
		{"reaction of 65 bytes", change("reaction", `"target":5,"emoji":"`+strings.Repeat("x", 65)+`"`), Invalid, true},
	})
}

func TestDecodeFrameRefusesGroups(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"create without id", `{"t":"create","ref":7,"name":"n"}`, Invalid, true},
		{"create without name", `{"t":"create","ref":7,"id":"g"}`, Invalid, true},
		{"create with an id of two tokens", `{"t":"create","ref":7,"id":"a.b","name":"n"}`, Invalid, true},
		{"create with an empty name", `{"t":"create","ref":7,"id":"g","name":""}`, Invalid, true},
		{"create with a name of spaces", `{"t":"create","ref":7,"id":"g","name":"  \u00a0 "}`, Invalid, false},
		{"create with a control character", `{"t":"create","ref":7,"id":"g","name":"a\u0007b"}`, Invalid, false},
		{"create with a line separator", `{"t":"create","ref":7,"id":"g","name":"a\u2028b"}`, Invalid, false},
		{"create with a name of 129 characters", `{"t":"create","ref":7,"id":"g","name":"` + strings.Repeat("é", 129) + `"}`, Invalid, true},
		{"create with a name of 10 KB", `{"t":"create","ref":7,"id":"g","name":"` + strings.Repeat("n", 10_000) + `"}`, Invalid, true},
		{"create with 1,001 members", `{"t":"create","ref":7,"id":"g","name":"n","members":[` + users(UsersMax+1) + `]}`, Invalid, true},
		{"create with a member of no name", `{"t":"create","ref":7,"id":"g","name":"n","members":[""]}`, Invalid, true},
		{"create with everybody", `{"t":"create","ref":7,"id":"g","name":"n","members":["*"]}`, Invalid, true},
		{"create with history of a number", `{"t":"create","ref":7,"id":"g","name":"n","history":1}`, Invalid, true},
		{"create with history some", `{"t":"create","ref":7,"id":"g","name":"n","history":"some"}`, Invalid, true},
		{"add nobody", `{"t":"add","ref":7,"chat":"group.g","users":[]}`, Invalid, true},
		{"add without users", `{"t":"add","ref":7,"chat":"group.g"}`, Invalid, true},
		{"add to nothing", `{"t":"add","ref":7,"users":["bob"]}`, Invalid, true},
		{"add to a direct chat", `{"t":"add","ref":7,"chat":"direct.a.b","users":["bob"]}`, Invalid, false},
		{"remove 1,001", `{"t":"remove","ref":7,"chat":"group.g","users":[` + users(UsersMax+1) + `]}`, Invalid, true},
		{"leave nothing", `{"t":"leave","ref":7}`, Invalid, true},
		{"role of nobody", `{"t":"role","ref":7,"chat":"group.g","role":"admin"}`, Invalid, true},
		{"role left", `{"t":"role","ref":7,"chat":"group.g","user":"bob","role":"left"}`, Invalid, true},
		{"role absent", `{"t":"role","ref":7,"chat":"group.g","user":"bob"}`, Invalid, true},
		{"rename to nothing", `{"t":"rename","ref":7,"chat":"group.g","name":""}`, Invalid, true},
		{"members of nothing", `{"t":"members","ref":7}`, Invalid, true},
		{"members limit 0", `{"t":"members","ref":7,"chat":"group.g","limit":0}`, Invalid, true},
	})
}

func TestDecodeFrameRefusesChatsAndProfiles(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"chats limit 0", `{"t":"chats","ref":7,"limit":0}`, Invalid, true},
		{"chats cursor a number", `{"t":"chats","ref":7,"cursor":5}`, Invalid, true},
		{"chats cursor of 300 bytes", `{"t":"chats","ref":7,"cursor":"` + strings.Repeat("x", 300) + `"}`, Invalid, false},
		{"mute without on", `{"t":"mute","ref":7,"chat":"group.g"}`, Invalid, true},
		{"mute until tomorrow", `{"t":"mute","ref":7,"chat":"group.g","on":true,"until":"tomorrow"}`, Invalid, true},
		{"pin without on", `{"t":"pin","ref":7,"chat":"group.g"}`, Invalid, true},
		{"archive nothing", `{"t":"archive","ref":7,"on":true}`, Invalid, true},
		{"block nobody", `{"t":"block","ref":7,"on":true}`, Invalid, true},
		{"block without on", `{"t":"block","ref":7,"user":"bob"}`, Invalid, true},
		{"profile of nobody", `{"t":"profile","ref":7,"users":[]}`, Invalid, true},
		{"profile of 201", `{"t":"profile","ref":7,"users":[` + users(ProfilesMax+1) + `]}`, Invalid, true},
		{"profile.set nothing", `{"t":"profile.set","ref":7}`, Invalid, false},
		{"profile.set an empty name", `{"t":"profile.set","ref":7,"name":""}`, Invalid, true},
		{"profile.set a language", `{"t":"profile.set","ref":7,"lang":"Portuguese of Brazil"}`, Invalid, false},
		{"profile.set an avatar", `{"t":"profile.set","ref":7,"avatar":"../x"}`, Invalid, false},
		{"profile.set null", `{"t":"profile.set","ref":7,"name":null}`, Invalid, true},
	})
}

func TestDecodeFrameRefusesHistoryAndTyping(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"history raw a string", `{"t":"history","ref":7,"chat":"direct.a.b","raw":"yes"}`, Invalid, true},
		{"history without chat", `{"t":"history","ref":7}`, Invalid, true},
		{"history limit 0", `{"t":"history","chat":"direct.a.b","limit":0}`, Invalid, true},
		{"history limit negative", `{"t":"history","chat":"direct.a.b","limit":-1}`, Invalid, true},
		{"history limit a fraction", `{"t":"history","chat":"direct.a.b","limit":1.5}`, Invalid, true},
		{"history limit a string", `{"t":"history","chat":"direct.a.b","limit":"5"}`, Invalid, true},
		{"history both ways", `{"t":"history","chat":"direct.a.b","before":5,"after":1}`, Invalid, false},
		{"history both ways, both 0", `{"t":"history","chat":"direct.a.b","before":0,"after":0}`, Invalid, false},
		{"history before negative", `{"t":"history","chat":"direct.a.b","before":-5}`, Invalid, true},
		{"history after 2^53", `{"t":"history","chat":"direct.a.b","after":9007199254740992}`, Invalid, true},
		{"history after null", `{"t":"history","chat":"direct.a.b","after":null}`, Invalid, true},
		{"typing without chat", `{"t":"typing"}`, Invalid, true},
		{"typing in the wrong order", `{"t":"typing","chat":"direct.b.a"}`, Invalid, false},
	})
}

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// badTexts are requests with names and ids that cannot be.
func badTexts() (requests []string) {
	long := strings.Repeat("n", 10<<10)
	names := []string{``, ` `, `\t`, `\u0000`, `a\u0007b`, `a\nb`, `\u2028`, long, `\u00a0\u2003`, strings.Repeat("ü", schemas.NameCharsMax+1)}
	for _, name := range names {
		requests = append(requests, `"t":"create","id":"bad","name":"`+name+`"`, `"t":"rename","chat":"$CHAT","name":"`+name+`"`,
			`"t":"profile.set","name":"`+strings.ReplaceAll(name, ` `, `\u0001`)+`"`)
	}
	requests = slices.DeleteFunc(requests, func(r string) bool { return r == `"t":"profile.set","name":""` }) // takes the name away
	for _, id := range []string{``, `a b`, `a.b`, `*`, `>`, `ä`, `a\u0000`, strings.Repeat("i", schemas.TokenBytesMax+1), long} {
		requests = append(requests,
			`"t":"create","id":"`+id+`","name":"x"`,
			`"t":"create","id":"bad","name":"x","members":["`+id+`"]`,
			`"t":"add","chat":"$CHAT","users":["new","`+id+`"]`,
			`"t":"remove","chat":"$CHAT","users":["`+id+`"]`,
			`"t":"role","chat":"$CHAT","user":"`+id+`","role":"admin"`,
			`"t":"block","user":"`+id+`","on":true`,
			`"t":"profile","users":["`+id+`"]`,
			`"t":"leave","chat":"group.`+id+`"`,
			`"t":"send","id":"`+id+`","chat":"$CHAT","type":"message","body":{"kind":"text","text":"x"}`,
			`"t":"send","id":"$NEW","chat":"$CHAT","type":"message","mentions":["mia","`+id+`"],"body":{"kind":"text","text":"x"}`)
	}
	return requests
}

// badRequests are requests that ask for what cannot be.
func badRequests() []string {
	many := strings.Repeat(`"u",`, schemas.UsersMax) + `"u"`
	long := strings.Repeat("n", 10<<10)
	return []string{
		`"t":"create","id":"bad","name":"x","members":[` + many + `]`,
		`"t":"create","id":"bad","name":"x","history":"some"`,
		`"t":"create","id":"bad"`,
		`"t":"create","name":"x"`,
		`"t":"add","chat":"$CHAT","users":[` + many + `]`,
		`"t":"add","chat":"$CHAT","users":[]`,
		`"t":"add","chat":"$CHAT"`,
		`"t":"add","chat":"direct.mia.olga","users":["new"]`,
		`"t":"add","chat":"$CHAT","users":"new"`,
		`"t":"remove","chat":"$CHAT","users":[` + many + `]`,
		`"t":"remove","chat":"$CHAT","users":["nobody-of-that-name"]`,
		`"t":"remove","chat":"$CHAT","users":["mia","nobody-of-that-name"]`,
		`"t":"role","chat":"$CHAT","user":"nobody-of-that-name","role":"admin"`,
		`"t":"role","chat":"$CHAT","user":"mia","role":"left"`,
		`"t":"role","chat":"$CHAT","user":"mia","role":"Owner"`,
		`"t":"role","chat":"$CHAT","user":"mia"`,
		`"t":"leave","chat":"direct.mia.olga"`,
		`"t":"leave"`,
		`"t":"rename","chat":"$CHAT","name":5`,
		`"t":"members","chat":"$CHAT","limit":0`,
		`"t":"members","chat":"$CHAT","cursor":"nonsense"`,
		`"t":"chats","cursor":"nonsense"`,
		`"t":"history","chat":"$CHAT","limit":0`,
		`"t":"history","chat":"$CHAT","before":1,"after":1`,
		`"t":"mute","chat":"$CHAT"`,
		`"t":"mute","chat":"$CHAT","on":true,"until":"yesterday"`,
		`"t":"mute","chat":"$CHAT","on":true,"until":"2001-01-01T00:00:00Z"`,
		`"t":"pin","chat":"$CHAT","on":"yes"`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"member","change":"added","users":["new"]`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"group","change":"renamed","name":"x"`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"reaction","target":1,"emoji":"a\u0000"`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"reaction","target":1,"emoji":"` + long + `"`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"edit","target":0,"body":{"kind":"text","text":"x"}`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"message","ttl":0,"body":{"kind":"text","text":"x"}`,
		`"t":"send","id":"$NEW","chat":"$CHAT","type":"message","body":{"kind":"text","text":""}`,
	}
}

// What cannot be meant is refused with a sentence, and nothing comes of it.
func TestBadGroupRequestsAreInvalid(t *testing.T) {
	t.Parallel()
	w := newRights(t)
	requests := append(badTexts(), badRequests()...)
	for _, members := range requests {
		r := groupRequest{members: members}
		f := w.talks["olga"].Ask("%s", "{"+r.text(w.stage, "olga")+"}")
		var refusal schemas.Error
		if err := json.Unmarshal([]byte(f.Text), &refusal); err != nil || f.Code != schemas.Invalid || !strings.Contains(refusal.Message, " ") || len(refusal.Message) > schemas.SentenceBytesMax {
			t.Errorf("%.200s: %v, want %s with a sentence", members, f, schemas.Invalid)
		}
	}
	w.wantEvents(t, w.stage)
	if f := w.talks["olga"].Ask(`{"t":"members","chat":"group.bad"}`); f.Code != schemas.NotMember {
		t.Errorf("a group came of it: %v", f)
	}
	if !t.Failed() {
		t.Logf("%d requests: 0 answered otherwise, 0 events", len(requests))
	}
}

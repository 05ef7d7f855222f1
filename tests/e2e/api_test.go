package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/tests/harness"
)

func TestBotsSpeakHTTP(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice := d.Talk(t, "alice")
	alice.Do(`{"t":"create","id":"team","name":"The team","members":["bot"]}`)
	const hello = `{"type":"message","body":{"kind":"text","text":"built"}}`
	status, body := d.Post(t, "bot", "group.team", "build-17", hello)
	var ack schemas.Ack
	if err := json.Unmarshal([]byte(body), &ack); err != nil || status != http.StatusCreated || ack.ID != harness.MustID(t, "build-17") || ack.Duplicate {
		t.Fatalf("post: %d %s", status, body)
	}
	if f := alice.AwaitEvent("group.team", ack.Seq); f.Event.From != "bot" {
		t.Errorf("alice heard %v", f)
	}
	status, body = d.Post(t, "bot", "group.team", "build-17", hello)
	var again schemas.Ack
	if err := json.Unmarshal([]byte(body), &again); err != nil || status != http.StatusOK || again.Seq != ack.Seq || !again.Duplicate {
		t.Errorf("the same again: %d %s", status, body)
	}
	if status, body = d.Post(t, "bot", "group.team", "", hello); status != http.StatusCreated {
		t.Errorf("without a key: %d %s", status, body)
	}
	var page schemas.Page
	status, body, _ = d.Call(t, "GET", "/v1/chats/group.team/messages?limit=2", "bot", "", "")
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK || len(page.Events) != 2 || !page.More {
		t.Errorf("messages: %d %s", status, body)
	}
	harness.Eventually(t, "the bot's chat is stored", func() bool {
		status, body, _ = d.Call(t, "GET", "/v1/chats?limit=10", "bot", "", "")
		return strings.Contains(body, `"name":"The team"`)
	})
	if status != http.StatusOK {
		t.Errorf("chats: %d %s", status, body)
	}
	wantRefusals(t, d)
}

// wantRefusals asks for what is refused, with a status and a code.
func wantRefusals(t *testing.T, d *harness.DevServer) {
	t.Helper()
	const hello = `{"type":"message","body":{"kind":"text","text":"built"}}`
	for _, refused := range []struct {
		method, path, user, key, body string
		status                        int
		code                          schemas.Code
	}{
		{"GET", "/v1/chats", "", "", "", 401, schemas.Unauthenticated},
		{"GET", "/v1/chats?limit=0", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats?limit=1&limit=2", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats?cursor=nonsense", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats/group.team/messages?before=5&after=1", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats/group.team/messages?before=x", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats/nonsense/messages", "bot", "", "", 400, schemas.Invalid},
		{"GET", "/v1/chats/group.team/messages", "eve", "", "", 403, schemas.NotMember},
		{"GET", "/v1/chats/group.absent/messages", "eve", "", "", 403, schemas.NotMember},
		{"GET", "/v1/chats/direct.alice.bob/messages", "eve", "", "", 403, schemas.NotMember},
		{"POST", "/v1/chats/group.team/messages", "eve", "a", hello, 403, schemas.NotMember},
		{"POST", "/v1/chats/group.team/messages", "bot", "a b", hello, 400, schemas.Invalid},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `{"type":"message"}`, 400, schemas.Invalid},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `{"type":"message","id":"b","body":{"kind":"text","text":"x"}}`, 400, schemas.Invalid},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `nonsense`, 400, schemas.Invalid},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `{"type":"edit","target":1,"body":{"kind":"text","text":"x"}}`, 404, schemas.NotFound},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `{"type":"message","body":{"kind":"text","text":"` + strings.Repeat("x", 110_000) + `"}}`, 413, schemas.TooLarge},
		{"POST", "/v1/chats/group.team/messages", "bot", "a", `{"type":"message","body":{"kind":"text","text":"` + strings.Repeat("x", 200_000) + `"}}`, 413, schemas.TooLarge},
	} {
		status, body, _ := d.Call(t, refused.method, refused.path, refused.user, refused.key, refused.body)
		var err schemas.Error
		if json.Unmarshal([]byte(body), &err) != nil || status != refused.status || err.Code != refused.code || err.Message == "" {
			t.Errorf("%s %s of %q with %.60s: %d %s, want %d %s", refused.method, refused.path, refused.user, refused.body, status, body, refused.status, refused.code)
		}
	}
}

func TestHTTPFromOtherOrigins(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "", "--origin=https://chat.example.com", "--user-rate=1")
	for origin, want := range map[string]int{"https://chat.example.com": http.StatusOK, "https://evil.example.com": http.StatusForbidden} {
		for method, status := range map[string]int{"GET": want, "OPTIONS": map[int]int{200: 204, 403: 403}[want]} {
			req, err := http.NewRequestWithContext(t.Context(), method, d.URL+"/v1/chats", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", origin)
			req.Header.Set("Authorization", "Bearer "+d.Token(t, "alice"))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			allowed := resp.Header.Get("Access-Control-Allow-Origin") == origin
			if resp.StatusCode != status || allowed != (want == http.StatusOK) {
				t.Errorf("%s from %s: %d, allowed %t", method, origin, resp.StatusCode, allowed)
			}
		}
	}
	limited := false
	for range 10 {
		status, _, header := d.Call(t, "GET", "/v1/chats", "bob", "", "")
		limited = limited || status == http.StatusTooManyRequests && header.Get("Retry-After") != ""
	}
	if !limited {
		t.Error("10 requests at once at a rate of 1 a second were all answered")
	}
}

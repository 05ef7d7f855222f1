package harness

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Call makes an HTTP request of a user.
func (d *DevServer) Call(t testing.TB, method, path, user, key, body string) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.Header.Set("Authorization", "Bearer "+d.Token(t, user))
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

// Post sends over HTTP.
func (d *DevServer) Post(t testing.TB, user, chat, key, body string) (int, string) {
	t.Helper()
	status, answer, _ := d.Call(t, "POST", "/v1/chats/"+chat+"/messages", user, key, body)
	return status, answer
}

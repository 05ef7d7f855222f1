package web_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"parley/clients/web"
	"parley/schemas"

	"github.com/go-json-experiment/json"
)

var expires = time.Date(2026, 11, 24, 22, 56, 17, 0, time.UTC)

// mint stands for the server's maker of tokens.
func mint(user schemas.User) (string, time.Time, error) {
	switch user.String() {
	case "broken":
		return "", time.Time{}, errors.New("the secret cannot be read")
	case "busy":
		return "", time.Time{}, schemas.Errorf(schemas.Unavailable, "come back later")
	}
	return "token-of-" + user.String(), expires, nil
}

func get(t *testing.T, path string, header http.Header) *http.Response {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	for name := range header {
		request.Header.Set(name, header.Get(name))
	}
	recorder := httptest.NewRecorder()
	web.Handler(mint).ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestServesFilesWithTheirTypesAndPolicies(t *testing.T) {
	t.Parallel()
	for path, wantType := range map[string]string{
		"/":            "text/html; charset=utf-8",
		"/index.html":  "text/html; charset=utf-8",
		"/style.css":   "text/css; charset=utf-8",
		"/parley.js":   "text/javascript; charset=utf-8",
		"/favicon.svg": "image/svg+xml",
	} {
		response := get(t, path, nil)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != wantType {
			t.Errorf("GET %s: %d %q, want 200 %q", path, response.StatusCode, response.Header.Get("Content-Type"), wantType)
		}
		policy := response.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("GET %s: content policy %q", path, policy)
		}
		if got := response.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("GET %s: X-Content-Type-Options %q", path, got)
		}
		again := get(t, path, http.Header{"If-None-Match": {response.Header.Get("ETag")}})
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("GET %s with its tag: %d, want 304", path, again.StatusCode)
		}
	}
}

func TestServesNothingElse(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/web.go", "/web_test.go", "/../go.mod", "/dev/token", "/parley.js/x"} {
		if response := get(t, path, nil); response.StatusCode == http.StatusOK {
			t.Errorf("GET %s: 200", path)
		}
	}
}

// What the page is made of keeps to its content policy, and never makes markup of text.
func TestPageHasNoInlineScriptNorMarkupFromText(t *testing.T) {
	t.Parallel()
	page := read(t, get(t, "/", nil))
	for _, forbidden := range []string{`<script>`, `<style`, ` style=`, ` on\w+=`, `javascript:`, `https?://`} {
		if found := regexp.MustCompile(forbidden).FindString(page); found != "" {
			t.Errorf("index.html has %q", found)
		}
	}
	scripts, err := filepath.Glob("*.js")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("find the scripts: %v", err)
	}
	for _, name := range scripts {
		script := read(t, get(t, "/"+name, nil))
		for _, forbidden := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("} {
			if strings.Contains(script, forbidden) {
				t.Errorf("%s has %q", name, forbidden)
			}
		}
	}
}

// tokenAnswer is a token, or the error in its place.
type tokenAnswer struct {
	Token   string       `json:"token"`
	Expires time.Time    `json:"expires"`
	Code    schemas.Code `json:"code"`
	Message string       `json:"message"`
}

func TestGivesTokens(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for name, test := range map[string]struct {
		header     http.Header
		body       string
		wantStatus int
		wantCode   schemas.Code
	}{
		"the page itself":        {http.Header{"Content-Type": {jsonType}, "Origin": {"http://127.0.0.1"}, "Sec-Fetch-Site": {"same-origin"}}, `{"user":"alice"}`, 200, ""},
		"an old browser":         {http.Header{"Content-Type": {jsonType}, "Origin": {"http://127.0.0.1"}}, `{"user":"alice"}`, 200, ""},
		"a program":              {http.Header{"Content-Type": {jsonType + "; charset=utf-8"}}, `{"user":"alice"}`, 200, ""},
		"another site":           {http.Header{"Content-Type": {jsonType}, "Origin": {"http://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, `{"user":"alice"}`, 403, schemas.Forbidden},
		"a sibling site":         {http.Header{"Content-Type": {jsonType}, "Sec-Fetch-Site": {"same-site"}}, `{"user":"alice"}`, 403, schemas.Forbidden},
		"an old browser's other": {http.Header{"Content-Type": {jsonType}, "Origin": {"http://127.0.0.1:8080"}}, `{"user":"alice"}`, 403, schemas.Forbidden},
		"a sandboxed frame":      {http.Header{"Content-Type": {jsonType}, "Origin": {"null"}}, `{"user":"alice"}`, 403, schemas.Forbidden},
		"a form":                 {http.Header{"Content-Type": {"text/plain"}}, `{"user":"alice"}`, 400, schemas.Invalid},
		"a bad name":             {http.Header{"Content-Type": {jsonType}}, `{"user":"alice.>"}`, 400, schemas.Invalid},
		"no name":                {http.Header{"Content-Type": {jsonType}}, `{}`, 400, schemas.Invalid},
		"no JSON":                {http.Header{"Content-Type": {jsonType}}, `user=alice`, 400, schemas.Invalid},
		"too much":               {http.Header{"Content-Type": {jsonType}}, `{"user":"` + strings.Repeat("a", 2000) + `"}`, 413, schemas.TooLarge},
		"a broken server":        {http.Header{"Content-Type": {jsonType}}, `{"user":"broken"}`, 500, schemas.Internal},
		"a busy server":          {http.Header{"Content-Type": {jsonType}}, `{"user":"busy"}`, 503, schemas.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/dev/token", strings.NewReader(test.body))
			request.Header = test.header
			recorder := httptest.NewRecorder()
			web.Handler(mint).ServeHTTP(recorder, request)
			body := recorder.Body.Bytes()
			if recorder.Code != test.wantStatus {
				t.Fatalf("status %d, want %d: %s", recorder.Code, test.wantStatus, body)
			}
			if got := recorder.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q: a token must not be kept", got)
			}
			var answer tokenAnswer
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatalf("answer %s: %v", body, err)
			}
			if answer.Code != test.wantCode || (test.wantCode != "") != (answer.Message != "") {
				t.Errorf("answer %s, want code %q and a sentence", body, test.wantCode)
			}
			if test.wantCode == "" && (answer.Token != "token-of-alice" || !answer.Expires.Equal(expires)) {
				t.Errorf("answer %s", body)
			}
		})
	}
}

// A site may have its name resolve to this machine: what its pages ask is of the same origin.
func TestGivesTokensOnlyByAddress(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200, "192.0.2.7": 200,
		"evil.example:8080": 403, "evil.example": 403, "127.0.0.1.evil.example": 403, "": 403,
	} {
		request := httptest.NewRequest(http.MethodPost, "/dev/token", strings.NewReader(`{"user":"alice"}`))
		request.Host = host
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		web.Handler(mint).ServeHTTP(recorder, request)
		if recorder.Code != want {
			t.Errorf("host %q: status %d, want %d: %s", host, recorder.Code, want, recorder.Body)
		}
	}
}

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read %s: %v", response.Request.URL, err)
	}
	return string(body)
}

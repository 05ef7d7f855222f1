// Package web is the page of a development server: a small chat in plain
// JavaScript modules, served as it is written.
//
// parley.js, with connection.js, reconnect.js, renewal.js, outbox.js, marks.js,
// timeline.js, repairs.js and fold.js beside it, is a client of the protocol to read
// and to build on, and so are chatlist.js, receipts.js, presence.js and typing.js, of
// what a page shows; session.js and what else it imports draw.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"parley/schemas"

	"github.com/go-json-experiment/json"
)

//go:embed index.html style.css favicon.svg *.js
var files embed.FS

// tokenBytesMax bounds the body of a token request: a name has at most 64 bytes.
const tokenBytesMax = 1 << 10

// contentTypes are told here: what the operating system says of .js differs.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// contentPolicy lets the page load its own files and talk to its own server.
// With trusted types off for everybody, no script of it can turn text into markup.
var contentPolicy = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self'",
	"style-src 'self'",
	"img-src 'self'",
	"connect-src 'self'",
	"base-uri 'none'",
	"form-action 'self'",
	"frame-ancestors 'none'",
	"require-trusted-types-for 'script'",
	"trusted-types 'none'",
}, "; ")

// Handler serves the page at / and gives anybody a token for any name:
//
//	POST /dev/token {"user":"alice"} → 200 {"token":"…","expires":"2026-11-24T22:56:17Z"}
//
// So it belongs on a development server only. Its errors are a
// [schemas.Error]; mint may return one too. Other origins are refused: a site
// that somebody visits must not read their chats.
func Handler(mint func(user schemas.User) (token string, expires time.Time, err error)) http.Handler {
	mux := http.NewServeMux()
	for _, file := range readFiles() {
		mux.HandleFunc("GET /"+file.name, file.serve)
		if file.name == "index.html" {
			mux.HandleFunc("GET /{$}", file.serve)
		}
	}
	mux.HandleFunc("POST /dev/token", func(w http.ResponseWriter, r *http.Request) { handleToken(w, r, mint) })
	return withHeaders(mux)
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// staticFile is one file of the page. Its tag changes with its content, so a
// browser may keep it and has to ask.
type staticFile struct {
	name        string
	contentType string
	tag         string
	content     []byte
}

// readFiles reads what was embedded: a failure is a defect of the build.
func readFiles() []staticFile {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("read the embedded page: %v", err))
	}
	var read []staticFile
	for _, entry := range entries {
		content, err := files.ReadFile(entry.Name())
		if err != nil {
			panic(fmt.Sprintf("read the embedded file %s: %v", entry.Name(), err))
		}
		sum := sha256.Sum256(content)
		read = append(read, staticFile{
			name:        entry.Name(),
			contentType: contentTypes[path.Ext(entry.Name())],
			tag:         `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
			content:     content,
		})
	}
	return read
}

func (f staticFile) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.tag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}

type tokenRequest struct {
	User schemas.User `json:"user"`
}

type tokenAnswer struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func handleToken(w http.ResponseWriter, r *http.Request, mint func(schemas.User) (string, time.Time, error)) {
	user, refusal := readTokenRequest(w, r)
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	token, expires, err := mint(user)
	if err != nil {
		var told *schemas.Error
		if !errors.As(err, &told) {
			told = schemas.Errorf(schemas.Internal, "no token could be made for %s: %v", user, err)
		}
		writeError(w, told)
		return
	}
	writeJSON(w, http.StatusOK, tokenAnswer{token, expires})
}

// readTokenRequest refuses before it reads. The content type matters: a form of
// another site cannot send it.
func readTokenRequest(w http.ResponseWriter, r *http.Request) (schemas.User, *schemas.Error) {
	if !byAddress(r.Host) {
		return schemas.User{}, schemas.Errorf(schemas.Forbidden, "open this page as localhost or by the server's IP address: a name could be another site's")
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return schemas.User{}, schemas.Errorf(schemas.Forbidden, "tokens are for the page of this server only: the request came from another origin")
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return schemas.User{}, schemas.Errorf(schemas.Invalid, "the content type is to be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, tokenBytesMax))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return schemas.User{}, schemas.Errorf(schemas.TooLarge, "the request has more than %d bytes", tokenBytesMax)
		}
		return schemas.User{}, schemas.Errorf(schemas.Invalid, "the request could not be read: %v", err)
	}
	var request tokenRequest
	if err := json.Unmarshal(body, &request); err != nil {
		if semantic := new(json.SemanticError); errors.As(err, &semantic) && semantic.Err != nil {
			return schemas.User{}, schemas.Errorf(schemas.Invalid, "%v", semantic.Err)
		}
		return schemas.User{}, schemas.Errorf(schemas.Invalid, `the request is to be like {"user":"alice"}`)
	}
	if request.User.IsZero() {
		return schemas.User{}, schemas.Errorf(schemas.Invalid, `the request is to be like {"user":"alice"}`)
	}
	return request.User, nil
}

// byAddress tells whether a request names the server by address. A site whose
// name is made to resolve to this machine would else count as the server's own.
func byAddress(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	_, err = netip.ParseAddr(name)
	return err == nil || name == "localhost"
}

func writeError(w http.ResponseWriter, err *schemas.Error) {
	status := http.StatusInternalServerError
	switch err.Code {
	case schemas.Invalid:
		status = http.StatusBadRequest
	case schemas.Forbidden:
		status = http.StatusForbidden
	case schemas.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case schemas.RateLimited:
		status = http.StatusTooManyRequests
	case schemas.Unavailable, schemas.Overloaded:
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, err)
}

// writeJSON sends answer. A failing write means that the client is gone.
func writeJSON(w http.ResponseWriter, status int, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", answer, err))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

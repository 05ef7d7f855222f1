package edge

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// origins are those whose pages may connect beside the server's own, like
// https://chat.example.com.
type origins []string

// allow accepts browsers' requests from the server's own pages and from these
// origins, and requests of other programs, which have no origin.
func (o origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, allowed := range o {
		if strings.EqualFold(origin, strings.TrimSuffix(allowed, "/")) {
			return true
		}
	}
	return false
}

// refuseUpgrade answers a request that is no WebSocket handshake or of a foreign origin.
func refuseUpgrade(w http.ResponseWriter, _ *http.Request, status int, reason error) {
	code := schemas.Invalid
	if status == http.StatusForbidden {
		code = schemas.Forbidden
	}
	w.Header().Set("Sec-Websocket-Version", "13")
	writeError(w, status, schemas.Errorf(code, "%s", strings.TrimPrefix(reason.Error(), "websocket: ")))
}

// writeError answers an HTTP request with the error object of the protocol.
func writeError(w http.ResponseWriter, status int, err *schemas.Error) {
	body, encodeErr := json.Marshal(err)
	if encodeErr != nil {
		panic("encode error: " + encodeErr.Error()) // a string and a number
	}
	w.Header().Set("Content-Type", "application/json")
	if err.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(err.RetryAfter))))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

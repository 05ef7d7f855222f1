package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
)

const (
	// apiRequestsMax bounds the HTTP requests that are answered at once.
	apiRequestsMax = 1024
	// apiReadWithin bounds how long a request's body may take to come.
	apiReadWithin = 10 * time.Second
)

// httpAPI is for servers and bots: requests of users who need not be on this edge.
type httpAPI struct {
	*base
	auth     *auth.Verifier
	origins  origins
	services *services
	members  *membership
	sends    *sends

	inFlight atomic.Int64 // requests; at most apiRequestsMax
}

// apiRequest is an HTTP request of a user whose token was verified.
type apiRequest struct {
	*http.Request
	user   schemas.User
	readAt time.Time
}

// apiAnswer is what it gets: JSON, in the order of the protocol's frames.
type apiAnswer struct {
	status int
	json   []byte
}

// route adds what servers and bots use instead of a WebSocket. It answers with
// the members of the frames that answer there.
func (h *httpAPI) route(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/chats", h.endpoint(h.getChats))
	mux.HandleFunc("GET /v1/chats/{chat}/messages", h.endpoint(h.getMessages))
	mux.HandleFunc("POST /v1/chats/{chat}/messages", h.endpoint(h.postMessage))
	mux.HandleFunc("OPTIONS /v1/chats", h.preflight)
	mux.HandleFunc("OPTIONS /v1/chats/{chat}/messages", h.preflight)
}

// endpoint serves a route: it answers a request with the outcome of handle, or an error.
func (h *httpAPI) endpoint(handle func(context.Context, apiRequest) (apiAnswer, *schemas.Error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !h.allowOrigin(w, r) {
			return
		}
		if h.inFlight.Add(1) > apiRequestsMax {
			h.inFlight.Add(-1)
			h.refuse(w, &schemas.Error{Code: schemas.Overloaded, Message: "too many requests at once", RetryAfter: 1})
			return
		}
		defer h.inFlight.Add(-1)
		h.conns.Add(1) // the server's Shutdown waits for this one, or gives up and closes its connection
		defer h.conns.Done()
		answer, err := h.answer(w, r, handle)
		if err != nil {
			h.refuse(w, err)
			return
		}
		h.metrics.requests.WithLabelValues("ok").Inc()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.json) // the client may be gone
	}
}

func (h *httpAPI) answer(w http.ResponseWriter, r *http.Request, handle func(context.Context, apiRequest) (apiAnswer, *schemas.Error)) (apiAnswer, *schemas.Error) {
	if h.draining.Load() {
		return apiAnswer{}, &schemas.Error{Code: schemas.Unavailable, Message: "this node is draining", RetryAfter: 1}
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return apiAnswer{}, schemas.Errorf(schemas.Unauthenticated, "the request has no header Authorization: Bearer <token>")
	}
	identity, err := h.auth.Verify(strings.TrimSpace(token))
	if err != nil {
		return apiAnswer{}, err
	}
	readAt := h.now()
	if r.Method != http.MethodPost { // GET, and HEAD, which is served as one
		if err := h.rates.takeRead(identity.User, readAt); err != nil {
			return apiAnswer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), streams.PublishWithin+requestWithin)
	defer cancel()
	if r.Method == http.MethodPost { // what has no body is being read on by the server
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(apiReadWithin)) // of a real connection it succeeds
	}
	return handle(ctx, apiRequest{Request: r, user: identity.User, readAt: readAt})
}

// refuse answers with the error object, and the status that its code has.
func (h *httpAPI) refuse(w http.ResponseWriter, err *schemas.Error) {
	h.metrics.requests.WithLabelValues(string(err.Code)).Inc()
	writeError(w, statusOf(err.Code), err)
}

func statusOf(code schemas.Code) int {
	switch code {
	case schemas.BadFrame, schemas.Invalid:
		return http.StatusBadRequest
	case schemas.Unauthenticated:
		return http.StatusUnauthorized
	case schemas.Forbidden, schemas.NotMember:
		return http.StatusForbidden
	case schemas.NotFound:
		return http.StatusNotFound
	case schemas.Conflict:
		return http.StatusConflict
	case schemas.TooLarge:
		return http.StatusRequestEntityTooLarge
	case schemas.RateLimited:
		return http.StatusTooManyRequests
	case schemas.Overloaded, schemas.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// allowOrigin refuses browsers' requests from pages of other origins, and lets
// those of the configured ones read the answer.
func (h *httpAPI) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	if !h.origins.allow(r) {
		h.refuse(w, schemas.Errorf(schemas.Forbidden, "origin %s is not allowed", r.Header.Get("Origin")))
		return false
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Vary", "Origin")
	}
	return true
}

// preflight answers what a browser asks before a request from another origin.
func (h *httpAPI) preflight(w http.ResponseWriter, r *http.Request) {
	if !h.allowOrigin(w, r) {
		return
	}
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// getChats answers as the request chats does.
func (h *httpAPI) getChats(ctx context.Context, r apiRequest) (apiAnswer, *schemas.Error) {
	ask, err := schemas.DecodeQuery(schemas.TChats, r.URL.Query())
	if err != nil {
		return apiAnswer{}, err
	}
	answer, err := h.services.forward(ctx, r.user, schemas.TChats, ask.Ask)
	return apiAnswer{http.StatusOK, answer}, err
}

// getMessages answers as the request history does.
func (h *httpAPI) getMessages(ctx context.Context, r apiRequest) (apiAnswer, *schemas.Error) {
	query := r.URL.Query()
	query["chat"] = []string{r.PathValue("chat")}
	ask, err := schemas.DecodeQuery(schemas.THistory, query)
	if err != nil {
		return apiAnswer{}, err
	}
	m, err := h.members.memberAnywhere(ctx, r.user, ask.History.Chat)
	if err != nil {
		return apiAnswer{}, err
	}
	answer, err := h.services.history(ctx, historyAsk(r.user, m, ask.History))
	if err != nil {
		return apiAnswer{}, err
	}
	text := append(make([]byte, 0, len(answer)+128), `{"chat":"`...)
	text = append(append(text, ask.History.Chat.String()...), `",`...)
	return apiAnswer{http.StatusOK, append(text, answer[1:]...)}, nil
}

// apiAck answers a send that the log has.
type apiAck struct {
	ID        schemas.ID   `json:"id"`
	Chat      schemas.Chat `json:"chat"`
	Seq       uint64       `json:"seq"`
	Time      time.Time    `json:"time"`
	Duplicate bool         `json:"duplicate,omitzero"`
}

// postMessage sends what a frame send would: its id is the Idempotency-Key, or is
// made up where there is none.
func (h *httpAPI) postMessage(ctx context.Context, r apiRequest) (apiAnswer, *schemas.Error) {
	send, err := readSend(r)
	if err == nil {
		err = h.rates.takeSend(r.user, r.readAt) // before others are asked
	}
	if err != nil {
		return apiAnswer{}, err
	}
	m, err := h.members.memberAnywhere(ctx, r.user, send.Chat)
	if err == nil {
		err = h.members.checkBlocks(ctx, r.user, send.Chat)
	}
	if err != nil {
		return apiAnswer{}, err
	}
	type outcome struct {
		ack streams.PubAck
		err *schemas.Error
	}
	done := make(chan outcome, 1)
	found, err := h.sends.publish(ctx, &attempt{
		Send: send, from: r.user, member: m, readAt: r.readAt,
		done: func(ack streams.PubAck, err *schemas.Error) { done <- outcome{ack, err} },
	})
	if err != nil {
		return apiAnswer{}, err
	}
	if !found.Duplicate {
		result := <-done // within PublishWithin
		if result.err != nil {
			return apiAnswer{}, result.err
		}
		found = result.ack
	}
	if a := h.members.audienceAnywhere(send.Chat); a != nil && !found.Duplicate {
		a.expectEcho(send.Chat, found.Seq, h.now())
	}
	data, encodeErr := json.Marshal(apiAck{ID: send.ID, Chat: send.Chat, Seq: found.Seq, Time: h.now().UTC(), Duplicate: found.Duplicate})
	if encodeErr != nil {
		panic("encode ack: " + encodeErr.Error()) // plain fields
	}
	if found.Duplicate {
		return apiAnswer{http.StatusOK, data}, nil
	}
	return apiAnswer{http.StatusCreated, data}, nil
}

func readSend(r apiRequest) (*schemas.Send, *schemas.Error) {
	chat, err := schemas.ParseChat(r.PathValue("chat"))
	if err != nil {
		return nil, schemas.Errorf(schemas.Invalid, "%v", err)
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = ulid.Make().String()
	}
	id, err := schemas.ParseID(key)
	if err != nil {
		return nil, schemas.Errorf(schemas.Invalid, "Idempotency-Key: %v", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, schemas.FrameBytesMax))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, schemas.Errorf(schemas.TooLarge, "the body has more than %d bytes", schemas.FrameBytesMax)
	case err != nil:
		return nil, schemas.Errorf(schemas.Invalid, "the body did not come whole")
	}
	return schemas.DecodeSend(body, chat, id)
}

package parley

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"parley/schemas"
)

// Options say where a client connects and who hears of what comes.
//
// The callbacks run on one goroutine, one at a time, in the order in which the
// server spoke. They may call all that a client has, but not Close.
type Options struct {
	// URL of the server, as ws://, wss://, http:// or https://; without a path
	// it gets /v1/ws.
	URL string
	// Token gives a JWT for each connection and renewal. See [StaticToken].
	Token func() string
	// Device names the installation. default: none
	Device schemas.ID
	// Resume maps chats to the highest seq that is held of them, as [Client.Held]
	// gave it. default: nothing is held
	Resume map[schemas.Chat]uint64

	OnEvent func(Event)             // default: events are only counted
	OnChat  func(schemas.ChatFrame) // the user came into a chat, went out, muted it…; default: not told
	// OnTyping is told that a user begins to type, and that it ended: by its message, or
	// when nothing was heard of it for 6 s. default: not told
	OnTyping func(chat schemas.Chat, user schemas.User, on bool)
	// OnReceipt is told how far others of a chat have got, and the user itself in its
	// other sessions; see [StatusOf]. default: not told
	OnReceipt func(schemas.ReceiptFrame)
	// OnPresence is told of users that are watched, see [Client.Watch]. default: not told
	OnPresence func(map[schemas.User]schemas.Presence)
	OnWelcome  func(schemas.Welcome)               // each session begins; default: not told
	OnResumed  func(schemas.Resumed)               // its resume is through, resets included; default: not told
	OnLost     func(err error, wait time.Duration) // a connection ended, the next try comes after wait; default: not told

	// NoDelivered leaves it to the caller to call [Client.Delivered].
	// default: it is called with each event that OnEvent has returned from
	NoDelivered bool

	// Reconnect connects again after a loss, also in Dial, and says a send
	// again that a server refused with retryAfter. default: the first loss is the end
	Reconnect bool
	// BackoffMin and BackoffMax bound the delay before a further try, which
	// doubles from one to the other. default: 200ms and 15s
	BackoffMin, BackoffMax time.Duration

	Log *slog.Logger // hears of what the rules could not repair; default: none
}

// StaticToken returns a token source that always gives token.
func StaticToken(token string) func() string { return func() string { return token } }

func (o Options) withDefaults() (Options, error) {
	target, err := url.Parse(o.URL)
	if err != nil {
		return o, fmt.Errorf("dial: %w", err)
	}
	switch target.Scheme {
	case "http":
		target.Scheme = "ws"
	case "https":
		target.Scheme = "wss"
	case "ws", "wss":
	default:
		return o, fmt.Errorf("dial %q: the URL is none of ws, wss, http and https", o.URL)
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = "/v1/ws"
	}
	o.URL = target.String()
	if o.Token == nil {
		return o, errors.New("dial: Options.Token is nil")
	}
	if o.BackoffMin <= 0 {
		o.BackoffMin = 200 * time.Millisecond
	}
	if o.BackoffMax <= 0 {
		o.BackoffMax = 15 * time.Second
	}
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

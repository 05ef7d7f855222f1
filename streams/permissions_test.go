package streams_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

const (
	edge     = streams.EdgeComponent
	worker   = streams.WorkerComponent
	operator = streams.OperatorComponent
	service  = streams.ServiceComponent
)

// right says who may publish and subscribe a subject: nobody else may.
type right struct {
	subject    string
	publishers []streams.Component
	listeners  []streams.Component
}

func only(components ...streams.Component) []streams.Component { return components }

// rights is the catalogue of subjects with an example of each.
func rights(t *testing.T, layout streams.Layout) []right {
	direct, group := parseChat(t, "direct.alice.bob"), parseChat(t, "group.team")
	alice, node := parseUser(t, "alice"), parseID(t, "edge1")
	shard := layout.Shard(direct)
	stream := shard.Stream()
	rights := []right{
		// The log.
		{shard.Timeline(direct), only(edge), only(operator, service)},
		{shard.Timeline(group), only(edge, worker), only(operator, service)},
		{shard.Mark(direct, streams.MarkRead, alice), only(edge), only(operator, service)},
		{shard.Mark(group, streams.MarkDelivered, alice), only(edge), only(operator, service)},
		{streams.PrivateRead(alice, direct), only(edge), only(operator)},
		{streams.PrivateRead(alice, group), only(edge), only(operator)},
		{"chat." + shard.Token + ".direct.alice.bob.typing.alice", nil, only(operator, service)},
		{"chat." + shard.Token + ".anything", nil, only(operator, service)},
		{"chat.>", nil, only(operator, service)},
		// Live.
		{streams.LiveTimeline(direct), only(edge), only(edge, operator, service)},
		{streams.LiveTimeline(group), only(edge), only(edge, operator, service)},
		{streams.LiveTyping(direct, alice), only(edge), only(edge, operator, service)},
		{streams.LiveTyping(group, alice), only(edge), only(edge, operator, service)},
		{"live.direct.alice.bob.read.alice", nil, only(edge, operator, service)},
		{streams.LiveOfUser(alice)[0], nil, only(edge, operator, service)},
		{streams.LiveOfUser(alice)[1], nil, only(edge, operator, service)},
		{streams.LiveOfGroup(group), nil, only(edge, operator, service)},
		{streams.Personal(alice), only(worker), only(edge, operator)},
		{streams.PresenceOf(alice), only(worker), only(edge, operator, service)},
		{streams.PresenceAgain, only(worker), only(edge, operator)},
		{"presence.alice.phone", nil, nil},
		// Dead letters and presence.
		{streams.Dead(streams.PersistConsumer, shard.Timeline(direct)), only(worker), only(operator)},
		{"$KV.presence." + streams.PresenceKey(alice, node), only(edge), only(operator)},
		{"$KV.presence.alice", nil, only(operator)},
		{"$KV.other.alice.edge1", nil, only(operator)},
		// Services.
		{streams.HistorySubject, only(edge, operator), only(worker, operator)},
		{streams.JoinedSubject, only(edge, operator), only(worker, operator)},
		{streams.PresenceSubject, only(edge, operator), only(worker, operator)},
		{"$JS.ACK." + streams.ReceiptsStream + ".receipts.1.2.3.4.5", only(worker), nil},
		{"$JS.API.CONSUMER.MSG.NEXT." + streams.ReceiptsStream + ".receipts", only(worker), nil},
		{streams.AskSubject(schemas.TSetProfile), only(edge, operator), only(worker, operator)},
		{streams.NodeSubject(node, "drain"), only(operator), only(edge, operator)},
		{"$SRV.PING", only(operator), only(edge, worker, operator)},
		{"$SRV.INFO.history", only(operator), only(edge, worker, operator)},
		// Acks and pulls.
		{"$JS.ACK." + stream + ".persist.1.2.3.4.5", only(worker), nil},
		{"$JS.ACK." + stream + ".service.1.2.3.4.5", only(worker, service), nil},
		{"$JS.API.CONSUMER.MSG.NEXT." + stream + ".persist", only(worker), nil},
		{"$JS.API.CONSUMER.MSG.NEXT." + stream + ".service", only(worker, service), nil},
		{"$JS.API.CONSUMER.RESET." + stream + ".persist", only(worker), nil},
		{"$JS.API.CONSUMER.UNPIN." + stream + ".persist", only(worker), nil},
		{"$JS.API.CONSUMER.INFO." + stream + ".persist", only(edge, worker, operator), nil},
		{"$JS.API.CONSUMER.INFO." + stream + ".service", only(edge, worker, operator, service), nil},
		{"$JS.FC.KV_presence.x.y", only(operator), nil},
		{"$JS.FC." + stream + ".x.y", nil, nil},
		{"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.x.y", nil, only(operator)},
		// Reading.
		{"$JS.API.DIRECT.GET." + stream, only(edge, worker, operator), nil},
		{"$JS.API.DIRECT.GET." + stream + "." + shard.Timeline(direct), only(edge, worker, operator), nil},
		{"$JS.API.STREAM.MSG.GET." + stream, only(edge, worker, operator), nil},
		{"$JS.API.INFO", only(edge, worker, operator), nil},
		{"$JS.API.STREAM.NAMES", only(edge, worker, operator), nil},
		{"$JS.API.STREAM.LIST", only(edge, worker, operator), nil},
		{"$JS.API.STREAM.INFO." + stream, only(edge, worker, operator), nil},
		{"$JS.API.CONSUMER.LIST." + stream, only(worker, operator), nil},
		{"$JS.API.CONSUMER.NAMES." + stream, only(worker, operator), nil},
		// Provisioning.
		{"$JS.API.STREAM.CREATE.NEW", only(worker), nil},
		{"$JS.API.STREAM.UPDATE." + stream, only(worker), nil},
		{"$JS.API.CONSUMER.CREATE." + stream + ".new", only(worker), nil},
		{"$JS.API.CONSUMER.CREATE." + stream, nil, nil},
		{"$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".new", nil, nil},
		{"$JS.API.CONSUMER.CREATE.KV_presence.watcher", only(worker, operator), nil},
		{"$JS.API.CONSUMER.DELETE.KV_presence.watcher", only(operator), nil},
		{"$JS.API.CONSUMER.DELETE." + stream + ".persist", nil, nil},
		{"$JS.API.CONSUMER.PAUSE." + stream + ".persist", nil, nil},
		// What would destroy.
		{"$JS.API.STREAM.DELETE." + stream, nil, nil},
		{"$JS.API.STREAM.PURGE." + stream, nil, nil},
		{"$JS.API.STREAM.MSG.DELETE." + stream, nil, nil},
		{"$JS.API.STREAM.MSG.DELETE." + streams.DeadStream, only(worker), nil},
		{"$JS.API.STREAM.SNAPSHOT." + stream, nil, nil},
		{"$JS.API.STREAM.RESTORE." + stream, nil, nil},
		{"$JS.API.STREAM.PEER.REMOVE." + stream, nil, nil},
		{"$JS.API.META.LEADER.STEPDOWN", nil, nil},
		{"$SYS.REQ.SERVER.PING", nil, nil},
		{"anything", nil, nil},
		{">", nil, nil},
	}
	for _, c := range everyComponent() {
		rights = append(rights, right{c.InboxPrefix() + ".x.y", nil, only(c)})
	}
	return rights
}

func everyComponent() []streams.Component {
	return []streams.Component{edge, worker, operator, service}
}

func TestEachComponentMayOnlyWhatTheCatalogueSays(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Log: slog.New(slog.DiscardHandler)})
	rights := rights(t, env.Layout)
	for _, component := range everyComponent() {
		t.Run(string(component), func(t *testing.T) {
			tried := newAttempts(t, env, component)
			for _, r := range rights {
				tried.publish(r.subject)
				tried.subscribe(r.subject)
			}
			denied := tried.denied()
			for _, r := range rights {
				if got, want := !denied["Publish "+r.subject], slices.Contains(r.publishers, component); got != want && !wildcard(r.subject) {
					t.Errorf("%s may publish %s: %v, want %v", component, r.subject, got, want)
				}
				if got, want := !denied["Subscription "+r.subject], slices.Contains(r.listeners, component); got != want {
					t.Errorf("%s may subscribe %s: %v, want %v", component, r.subject, got, want)
				}
			}
		})
	}
}

func wildcard(subject string) bool { return strings.ContainsAny(subject, "*>") }

// attempts tries subjects on one connection and collects what the server denies.
type attempts struct {
	t      *testing.T
	nc     *nats.Conn
	errors chan string
}

const lastAttempt = "the.last.attempt"

func newAttempts(t *testing.T, env *streamstest.Env, component streams.Component) *attempts {
	a := &attempts{t: t, errors: make(chan string, 1024)}
	a.nc = env.ConnectWith(t, streams.ConnectConfig{
		Component: component,
		OnError: func(_ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				a.errors <- err.Error()
			}
		},
	})
	return a
}

func (a *attempts) publish(subject string) {
	if wildcard(subject) {
		return
	}
	if err := a.nc.Publish(subject, nil); err != nil {
		a.t.Fatal(err)
	}
}

func (a *attempts) subscribe(subject string) {
	if _, err := a.nc.SubscribeSync(subject); err != nil {
		a.t.Fatal(err)
	}
}

// denied returns "Publish <subject>" and "Subscription <subject>" of all that
// was denied. The server's errors come in order: one for an attempt that nobody
// may make is the last.
func (a *attempts) denied() map[string]bool {
	a.publish(lastAttempt)
	denied := make(map[string]bool)
	deadline := time.After(30 * time.Second)
	for {
		select {
		case text := <-a.errors:
			// nats: permissions violation: Permissions Violation for Publish to "subject"
			_, rest, _ := strings.Cut(text, "Permissions Violation for ")
			operation, rest, _ := strings.Cut(rest, " to \"")
			subject, _, ok := strings.Cut(rest, "\"")
			if !ok {
				a.t.Fatalf("cannot read the server's error %q", text)
			}
			if subject == lastAttempt {
				return denied
			}
			denied[operation+" "+subject] = true
		case <-deadline:
			a.t.Fatal("the server did not deny the last attempt")
		}
	}
}

func parseChat(t testing.TB, s string) schemas.Chat {
	t.Helper()
	chat, err := schemas.ParseChat(s)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

func parseUser(t testing.TB, s string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(s)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func parseID(t testing.TB, s string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

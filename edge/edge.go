// Package edge is the part of Parley that clients talk to. It holds their WebSocket
// connections, publishes what they send to the log, and fans out what the log
// republishes. It speaks WebSocket, HTTP and NATS, and opens no database.
//
// [Edge] accepts connections and dispatches their frames to its parts. Each part has its
// own state and lock, and calls few others: sends appends messages to the log, requests
// asks workers, membership knows who is in which chat, marks and receiptBoard carry
// receipts, sessionKeys and watches carry presence, and httpAPI serves bots.
//
// A message goes accept → welcome → readLoop → dispatch → sends.handleSend → publish →
// append → streams.Publisher, and sends.acked answers it. A stored event goes
// liveLoop.handleMessage → handleStored → tell → deliver → fanoutLoop.passOnce → flush.
// A request goes dispatch → requests.handleAsk → services.forward.
//
// A receipt goes marks.handleMark → gather → publishOnce into the stream RECEIPTS. The
// republished mark goes receiptBoard.handleReceipt → sendReceipts to the other sessions. A presence
// change goes fanoutLoop.sweepOnce → sessionKeys.write into the bucket. The worker's
// answer goes watchedUsers.handleChange → apply to the sessions that watch.
//
// The sessions that receive an event are an audience: the sessions of a user, for its
// direct chats, or of a group's members on this edge. The edge loads a user's groups when
// the user connects (loadUser). A notice adds a group later (enter), and the group's own
// events end a membership (group.follow).
//
// Goroutines: one read loop per connection; as many live loops as cores, each serving a
// share of the audiences in order; as many fan-out loops as cores, each writing to a share
// of the connections. A session's outbox belongs to its fan-out loop, and an audience's
// cursors to its live loop. Shared state has a mutex or is atomic; its declaration says
// which. Lock order: liveLoop.mu or watchedUsers.mu, then user.mu. No goroutine holds two
// of the first kind at once.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
)

const (
	// handshakeWithin bounds the HTTP part of a connection.
	handshakeWithin = 10 * time.Second
	// answerWithin bounds an HTTP request from its header until its answer is read,
	// and idleWithin the time between two on one connection.
	answerWithin = 45 * time.Second
	idleWithin   = 2 * time.Minute
	// stopRequestsWithin bounds what a stopping edge waits for HTTP requests.
	stopRequestsWithin = 2 * time.Second
	// stopWithin bounds what a stopping edge waits for, after the drain's spread.
	stopWithin = 5 * time.Second
)

// Edge serves clients. Make one with [New], and call Run once.
type Edge struct {
	*base
	cfg Config

	// The parts, fixed by New. Each calls only those above it, except that a live loop
	// calls membership and its part of watches.
	auth     *auth.Verifier
	services *services
	logWatch *logWatch
	keys     *sessionKeys
	loops    []*fanoutLoop
	lives    liveLoops
	watches  *watches
	members  *membership
	marks    *marks
	sends    *sends
	requests *requests
	api      *httpAPI

	// Of connections.
	upgrader     websocket.Upgrader
	origins      origins
	addresses    *addresses
	connections  atomic.Int64
	sessionsMade atomic.Uint64

	drainAsked chan struct{} // closed by the first drain
	askDrain   func()
}

// New connects to NATS and returns an edge that is ready to Run. The streams have to be provisioned.
func New(ctx context.Context, cfg Config) (*Edge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure edge: %w", err)
	}
	cfg.setDefaults()
	e := &Edge{
		base: newBase(&cfg), cfg: cfg,
		origins:    cfg.Origins,
		addresses:  newAddresses(cfg.AddressRate, max(int(5*cfg.AddressRate), 1)),
		drainAsked: make(chan struct{}),
	}
	e.askDrain = sync.OnceFunc(func() { close(e.drainAsked) })
	e.upgrader = websocket.Upgrader{
		HandshakeTimeout: handshakeWithin,
		ReadBufferSize:   readBufferBytes,
		WriteBufferPool:  new(sync.Pool), // gorilla writes nothing here but its own protocol errors
		Subprotocols:     []string{schemas.Subprotocol},
		CheckOrigin:      e.origins.allow,
		Error:            refuseUpgrade,
	}
	var err error
	if e.auth, err = auth.NewVerifier(ctx, cfg.Auth); err != nil {
		return nil, err
	}
	e.makeParts()
	if err := e.connect(ctx); err != nil {
		e.auth.Close()
		return nil, err
	}
	return e, nil
}

// makeParts makes each part from those that it calls. The parts exist before the
// connection, because its hooks call them; they use it only after connect.
func (e *Edge) makeParts() {
	e.services = &services{base: e.base}
	e.logWatch = &logWatch{base: e.base}
	reader := &reader{base: e.base, services: e.services, logWatch: e.logWatch}
	e.keys = newSessionKeys(e.base, e.cfg.Heartbeat)
	for i := range runtime.GOMAXPROCS(0) {
		e.loops = append(e.loops, newFanoutLoop(i, e.metrics, e.cfg.Heartbeat, e.cfg.AwayAfter, e.keys.refresh, e.now))
	}
	e.lives = newLiveLoops(e.base, e.loops)
	e.watches = newWatches(e.base, e.services, e.lives, e.keys.ttl)
	e.members = newMembership(e.base, e.services, reader, e.lives, e.keys, e.watches)
	e.marks = &marks{base: e.base, members: e.members, reader: reader}
	e.sends = &sends{base: e.base, services: e.services, logWatch: e.logWatch, members: e.members, reader: reader}
	e.requests = &requests{base: e.base, services: e.services, members: e.members}
	e.api = &httpAPI{base: e.base, auth: e.auth, origins: e.origins, services: e.services, members: e.members, sends: e.sends}
}

// connect connects to NATS and gives the parts what stands on the connection.
func (e *Edge) connect(ctx context.Context) (err error) {
	natsConfig := e.cfg.NATS
	natsConfig.Component = streams.EdgeComponent
	natsConfig.Name = "parley-edge-" + e.name.String()
	natsConfig.Log = e.log
	natsConfig.OnDisconnect = func(error) { e.natsAwaySince.CompareAndSwap(0, e.now().UnixNano()) }
	natsConfig.OnReconnect = e.natsIsBack
	natsConfig.OnSlowConsumer = e.overflowed
	if e.conn, err = streams.Connect(ctx, natsConfig); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			e.conn.Close()
		}
	}()
	js, err := jetstream.New(e.conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	layout, err := streams.LoadLayout(ctx, js)
	if err != nil {
		return err
	}
	if err := layout.CheckReplicas(e.cfg.Replicas); err != nil {
		return err
	}
	e.logReader = streams.NewLog(js, layout)
	e.logWatch.open(js, layout.Shards())
	e.flusher = newFlusher(e.conn)
	if _, err = e.conn.Subscribe(streams.PresenceAgain, func(*nats.Msg) { e.showAll(); e.watches.askAgain() }); err != nil {
		return fmt.Errorf("subscribe %q: %w", streams.PresenceAgain, err)
	}
	if e.sends.publisher, err = streams.NewPublisher(e.conn); err != nil {
		return err
	}
	e.logWatch.watchOnce(ctx) // before the first resume, which else asked the store
	return nil
}

// Run serves until ctx ends or a drain is asked for. Then it stops in order:
// accept, sends in flight, sessions, loops, NATS.
func (e *Edge) Run(ctx context.Context) error {
	stopLoops := e.startFanout()
	waitForParts := e.startParts()
	node, err := e.startNodeService()
	server := &http.Server{Handler: e.handler(), ReadHeaderTimeout: handshakeWithin, WriteTimeout: answerWithin, IdleTimeout: idleWithin, ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}
	if err == nil {
		err = e.serveUntil(ctx, server)
	}

	e.draining.Store(true)
	stopCtx, cancel := context.WithTimeout(context.Background(), e.cfg.DrainSpread+stopWithin)
	defer cancel()
	e.stopServer(server)
	e.sends.publisher.Close(stopCtx)
	e.drainSessions()
	e.conns.Wait()
	e.stop()
	waitForParts()
	e.tasks.Wait()
	stopLoops()
	if node != nil {
		_ = node.Stop() // the connection closes below, and its subscriptions with it
	}
	_ = e.conn.FlushTimeout(time.Second) // presence purges; without NATS the keys end with their TTL
	e.conn.Close()
	e.auth.Close()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve clients: %w", err)
	}
	return nil
}

// startFanout starts the fan-out loops. They outlive all that writes to sessions; stop
// ends them and waits.
func (e *Edge) startFanout() (stop func()) {
	var loops sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for _, l := range e.loops {
		loops.Go(func() { l.run(ctx) })
	}
	return func() {
		cancel()
		loops.Wait()
	}
}

// startParts starts the goroutines of the parts, which end with e.ctx; wait waits for them.
func (e *Edge) startParts() (wait func()) {
	var parts sync.WaitGroup
	for _, v := range e.lives {
		parts.Go(func() { v.run(e.ctx) })
	}
	parts.Go(func() { e.flusher.run(e.ctx) })
	parts.Go(func() { e.keys.run(e.ctx) })
	parts.Go(func() { e.logWatch.watchLoop(e.ctx) })
	parts.Go(func() { e.members.loadLoop(e.ctx) })
	parts.Go(func() { e.marks.publishLoop(e.ctx) })
	parts.Go(func() { e.watches.askLoop(e.ctx) })
	parts.Go(func() { e.logReader.FollowLoop(e.ctx, e.log) })
	return parts.Wait
}

// serveUntil serves clients until ctx ends, a drain is asked for, or the server fails.
func (e *Edge) serveUntil(ctx context.Context, server *http.Server) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(e.cfg.Listener) }()
	select {
	case <-ctx.Done():
		return nil
	case <-e.drainAsked:
		return nil
	case err := <-served:
		return err
	}
}

// stopServer ends the HTTP requests; WebSockets are not among its connections. Who
// does not read an answer in time is cut off.
func (e *Edge) stopServer(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopRequestsWithin)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close()
	}
}

// handler is the public port's.
func (e *Edge) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ws", e.accept)
	e.api.route(mux)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, schemas.Errorf(schemas.NotFound, "there is nothing at %s", r.URL.Path))
	})
	mux.Handle("/", e.cfg.Page)
	return mux
}

// natsIsBack repairs what may have been missed while the connection was away.
func (e *Edge) natsIsBack() {
	e.natsAwaySince.Store(0)
	e.repairAll()
	e.showAll()
}

// overflowed is told that NATS dropped messages of a live channel. Which loop's
// it was, the subscription does not say: all are repaired.
func (e *Edge) overflowed(*nats.Subscription) {
	e.metrics.overflows.Inc()
	e.repairAll()
}

func (e *Edge) repairAll() {
	for _, v := range e.lives {
		v.askRepair()
	}
	e.watches.askAgain()
}

// showAll has the keys of all sessions written again: they may have ended meanwhile.
func (e *Edge) showAll() {
	for _, l := range e.loops {
		l.push(item{do: func(l *fanoutLoop) {
			for _, s := range l.sessions {
				l.show(s)
			}
		}})
	}
}

// Package edge is the part of Parley that clients talk to: it holds their
// WebSocket connections, publishes what they send to the log, and fans out what
// the log republishes. It knows WebSocket, HTTP and NATS, and no database.
//
// A frame from a client goes accept → welcome → readLoop → dispatch →
// handleSend → publish → streams.Publisher, and is answered by session.acked. An
// event from the log goes liveLoop.handleMessage → handleStored → tell → deliver →
// fanoutLoop.passOnce → flush. What workers answer goes dispatch → handleAsk → forward.
//
// How far a user has got goes handleMark → takeMark → tellMarks into the stream of marks,
// and what that republishes goes handleReceipt → tellReceipts to the others. Who is
// online goes sweepOnce → presence.write into the bucket; what a worker makes of it goes
// handleChange → applyPresence to the sessions that watch.
//
// Whom an event is for is an audience: the sessions of a user, for its direct
// chats, or those of a group's members here. Who is in a group is loaded when a user
// connects (loadUser), begins with word of it (added), and ends with the group's own
// events (group.follow).
//
// Goroutines: one read loop per connection; as many live loops as cores, each
// serving a share of the audiences in order; as many fan-out loops as cores, each
// writing to a share of the connections. A session's outbox belongs to its
// fan-out loop, an audience's cursors to its live loop; what is shared has a mutex
// or is atomic, and says so at its declaration. A live loop's mutex is taken before
// a user's, and no two live loops' at once.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
)

// Config is what an [Edge] is made of. Zero means the default.
type Config struct {
	Node           schemas.ID            // this edge's name among the edges; has to be set
	Listener       net.Listener          // where clients connect; has to be set, Run closes it
	NATS           streams.ConnectConfig // how to reach NATS; its hooks are the edge's
	Replicas       int                   // that the chat streams must have at least; default: whatever they have
	Auth           auth.Config           // which tokens are taken
	Origins        []string              // allowed beside the server's own, like https://chat.example.com; default: none
	SessionsMax    int                   // default: 5000
	UserRate       float64               // messages, and as many reading HTTP requests and questions of presence, a second and user; negative: no limit; default: 20
	UserBurst      int                   // default: 3 seconds of UserRate
	AddressRate    float64               // handshakes a second and address; negative: no limit; default: 20
	TrustedProxies []netip.Prefix        // whose X-Forwarded-For names the client; default: none
	Heartbeat      time.Duration         // between pings; default: 30 s
	AwayAfter      time.Duration         // without a frame but ping, until a session is away; default: 30 min
	DrainSpread    time.Duration         // over which clients are told to come back elsewhere; default: 5 s
	Page           http.Handler          // serves what is not /v1/ on the public port; default: 404

	Log     *slog.Logger          // default: slog.Default()
	Metrics prometheus.Registerer // default: none are exported
	Now     func() time.Time      // default: time.Now
}

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

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Node.IsZero() {
		errs = append(errs, errors.New("node has no name"))
	}
	if c.Listener == nil {
		errs = append(errs, errors.New("listener is not set"))
	}
	if c.SessionsMax < 0 {
		errs = append(errs, fmt.Errorf("sessions max is %d: it is at least 1", c.SessionsMax))
	}
	if c.Heartbeat != 0 && c.Heartbeat < time.Second {
		errs = append(errs, fmt.Errorf("heartbeat is %s: it is at least 1s", c.Heartbeat))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.SessionsMax == 0 {
		c.SessionsMax = 5000
	}
	if c.UserRate == 0 {
		c.UserRate = 20
	}
	if c.UserBurst == 0 {
		c.UserBurst = max(int(3*c.UserRate), 1)
	}
	if c.AddressRate == 0 {
		c.AddressRate = 20
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 30 * time.Second
	}
	if c.AwayAfter == 0 {
		c.AwayAfter = schemas.AwayAfter
	}
	if c.DrainSpread == 0 {
		c.DrainSpread = 5 * time.Second
	}
	if c.Page == nil {
		c.Page = http.NotFoundHandler()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Edge serves clients. Make one with [New], and call Run once.
type Edge struct {
	// Fixed by New.
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics
	auth      *auth.Verifier
	conn      *nats.Conn
	js        jetstream.JetStream
	logReader *streams.Log
	publisher *streams.Publisher
	flusher   *flusher
	presence  *presence
	lives     []*liveLoop
	loops     []*fanoutLoop
	upgrader  websocket.Upgrader
	addresses *addresses
	sends     *limits[schemas.User] // however a user sends
	reads     *limits[schemas.User] // HTTP requests that only read, and presence
	hintLimit *rate.Limiter
	loads     loadList
	marks     marks
	again     chan struct{}                // holds one while all presence that is watched is to be asked again
	shards    []atomic.Pointer[shardState] // by index

	// Shared.
	draining      atomic.Bool
	drainAsked    chan struct{} // closed by the first drain
	askDrain      func()
	natsAwaySince atomic.Int64 // unix nanoseconds; 0 while NATS is there
	connections   atomic.Int64
	apiRequests   atomic.Int64 // at most apiRequestsMax
	watchedUsers  atomic.Int64 // at most watchedMax
	sessionsMade  atomic.Uint64

	ctx   context.Context    // ends when the last session is gone
	stop  context.CancelFunc // ends ctx
	conns sync.WaitGroup     // goroutines of connections
	tasks sync.WaitGroup     // started by them and by the live loops
}

// New connects to NATS and returns an edge that is ready to Run. The streams have to be provisioned.
func New(ctx context.Context, cfg Config) (*Edge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure edge: %w", err)
	}
	cfg.setDefaults()
	e := &Edge{
		cfg: cfg, log: cfg.Log, now: cfg.Now,
		addresses:  newAddresses(cfg.AddressRate, max(int(5*cfg.AddressRate), 1)),
		sends:      newLimits[schemas.User](cfg.UserRate, cfg.UserBurst),
		reads:      newLimits[schemas.User](cfg.UserRate, cfg.UserBurst),
		hintLimit:  rate.NewLimiter(hintsPerSecond, hintsPerSecond),
		drainAsked: make(chan struct{}),
		again:      make(chan struct{}, 1),
	}
	e.askDrain = sync.OnceFunc(func() { close(e.drainAsked) })
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.metrics = newMetrics(cfg.Metrics)
	for i := range runtime.GOMAXPROCS(0) {
		e.loops = append(e.loops, newFanoutLoop(i, e.metrics, cfg.Heartbeat, cfg.AwayAfter, func(s *session) { e.presence.refresh(s) }, e.now))
	}
	for range e.loops {
		e.lives = append(e.lives, newLiveLoop(e))
	}
	var err error
	if e.auth, err = auth.NewVerifier(ctx, cfg.Auth); err != nil {
		return nil, err
	}
	if err := e.connect(ctx); err != nil {
		e.auth.Close()
		return nil, err
	}
	e.upgrader = websocket.Upgrader{
		HandshakeTimeout: handshakeWithin,
		ReadBufferSize:   readBufferBytes,
		WriteBufferPool:  new(sync.Pool), // gorilla writes nothing here but its own protocol errors
		Subprotocols:     []string{schemas.Subprotocol},
		CheckOrigin:      e.originAllowed,
		Error:            refuseUpgrade,
	}
	return e, nil
}

// connect makes all that stands on the connection to NATS.
func (e *Edge) connect(ctx context.Context) (err error) {
	natsConfig := e.cfg.NATS
	natsConfig.Component = streams.EdgeComponent
	natsConfig.Name = "parley-edge-" + e.cfg.Node.String()
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
	if e.js, err = jetstream.New(e.conn); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	layout, err := streams.LoadLayout(ctx, e.js)
	if err != nil {
		return err
	}
	if err := layout.CheckReplicas(e.cfg.Replicas); err != nil {
		return err
	}
	e.shards = make([]atomic.Pointer[shardState], layout.Shards())
	e.logReader = streams.NewLog(e.js, layout)
	e.presence = newPresence(e.conn, e.cfg.Node, e.cfg.Heartbeat)
	e.flusher = newFlusher(e.conn)
	if _, err = e.conn.Subscribe(streams.PresenceAgain, func(*nats.Msg) { e.showAll(); e.askAgain() }); err != nil {
		return fmt.Errorf("subscribe %q: %w", streams.PresenceAgain, err)
	}
	if e.publisher, err = streams.NewPublisher(e.conn); err != nil {
		return err
	}
	e.watchLogs(ctx) // before the first resume, which else asked the store
	return nil
}

// Run serves until ctx ends or a drain is asked for. Then it stops in order:
// accept, sends in flight, sessions, loops, NATS.
func (e *Edge) Run(ctx context.Context) error {
	var loops, services sync.WaitGroup
	loopsCtx, stopLoops := context.WithCancel(context.Background())
	defer stopLoops()
	for _, l := range e.loops {
		loops.Go(func() { l.run(loopsCtx) })
	}
	for _, v := range e.lives {
		services.Go(func() { v.run(e.ctx) })
	}
	services.Go(func() { e.flusher.run(e.ctx) })
	services.Go(func() { e.presence.run(e.ctx) })
	services.Go(func() { e.watchLogLoop(e.ctx) })
	services.Go(func() { e.loadLoop(e.ctx) })
	services.Go(func() { e.marksLoop(e.ctx) })
	services.Go(func() { e.watchLoop(e.ctx) })
	services.Go(func() { e.logReader.FollowLoop(e.ctx, e.log) })
	node, err := e.startNodeService()

	server := &http.Server{Handler: e.handler(), ReadHeaderTimeout: handshakeWithin, WriteTimeout: answerWithin, IdleTimeout: idleWithin, ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}
	served := make(chan error, 1)
	if err == nil {
		go func() { served <- server.Serve(e.cfg.Listener) }()
		select {
		case <-ctx.Done():
		case <-e.drainAsked:
		case err = <-served:
		}
	}

	e.draining.Store(true)
	stopCtx, cancel := context.WithTimeout(context.Background(), e.cfg.DrainSpread+stopWithin)
	defer cancel()
	e.stopServer(server)
	e.publisher.Close(stopCtx)
	e.drainSessions()
	e.conns.Wait()
	e.stop()
	services.Wait()
	e.tasks.Wait()
	stopLoops()
	loops.Wait()
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
	e.routeAPI(mux)
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
	e.askAgain()
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

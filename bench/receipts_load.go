package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

const (
	// readsMax bounds the messages that came and are not read yet: those of some
	// seconds.
	readsMax = 1 << 16
	// leftEvery is how often it is looked what is left to store: rarely enough to
	// cost the server nothing.
	leftEvery = 100 * time.Millisecond
)

// receiptLoad sends at a steady rate, a message of each pair in turn.
type receiptLoad struct {
	*busyLoad
	run    *run
	pairs  []*receiptPair
	conn   *nats.Conn
	js     jetstream.JetStream
	atRest float64 // CPU seconds a second

	marking   atomic.Bool  // receivers tell how far they have got
	readAfter atomic.Int64 // nanoseconds
	reads     chan dueRead
	receipts  atomic.Uint64 // frames that came
}

// receiptPair is two users, of whom one sends and the other tells how far it has got.
type receiptPair struct {
	load            *receiptLoad
	from, to        *session
	delivered, read string // the frames up to their seq

	got      atomic.Uint64 // seq of the last event that came
	toldRead atomic.Uint64 // the highest seq of which the sender is told that it was read
}

// dueRead is a message that is read after a while.
type dueRead struct {
	pair *receiptPair
	seq  uint64
	at   time.Time
}

// openReceiptLoad opens a session of each user. Many are opened in the time in
// which keys of presence are written once, so that those come evenly afterwards.
func openReceiptLoad(ctx context.Context, r *run, crowd receiptCrowd) (*receiptLoad, error) {
	conn, js, _, err := r.log(ctx)
	if err != nil {
		return nil, err
	}
	var spread time.Duration
	if crowd.pairs >= 1000 {
		spread = keyEvery(heartbeat)
	}
	user := func(i int) schemas.User {
		from, to := r.user("ra%d-%d", crowd.pairs, i/2), r.user("rb%d-%d", crowd.pairs, scatter(i/2))
		if i%2 == 1 {
			return to
		}
		return from
	}
	all, err := openSpread(ctx, 2*crowd.pairs, spread, func(ctx context.Context, i int) (*session, error) {
		return openSession(ctx, r.target, user(i), "", busyBufferBytes)
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	l := &receiptLoad{
		busyLoad: &busyLoad{rate: float64(crowd.pairs) * crowd.rate, inFlightMax: uint64(r.sizes.inFlightMax() * r.sizes.pairs), sessions: all, origin: time.Now()},
		run:      r, conn: conn, js: js, reads: make(chan dueRead, readsMax),
	}
	for i := range crowd.pairs {
		from, to := all[2*i], all[2*i+1]
		chat := schemas.DirectChat(from.user, to.user)
		l.chats = append(l.chats, busyChat{from, newSendFrame(from.user, chat, "rc", r.cfg.TextBytes)})
		l.pairs = append(l.pairs, newReceiptPair(l, from, to))
	}
	return l, nil
}

func newReceiptPair(l *receiptLoad, from, to *session) *receiptPair {
	chat := schemas.DirectChat(from.user, to.user)
	return &receiptPair{
		load: l, from: from, to: to,
		delivered: fmt.Sprintf(`{"t":"delivered","chat":%q,"seq":`, chat),
		read:      fmt.Sprintf(`{"t":"read","chat":%q,"seq":`, chat),
	}
}

func (l *receiptLoad) close() {
	l.sessions.close()
	l.conn.Close()
}

// fromLoop takes what comes to the sender.
func (p *receiptPair) fromLoop() error {
	for {
		k, payload, err := p.from.next()
		switch {
		case err != nil && isClosed(err):
			return nil
		case err != nil:
			return err
		case k == kindReceipt:
			p.load.receipts.Add(1)
			if seq, ok := numberAfter(payload, readName); ok {
				p.toldRead.Store(max(seq, p.toldRead.Load()))
			}
		default:
			if err := p.load.take(p.from, k, payload); err != nil {
				return err
			}
		}
	}
}

var readName = []byte(`"read":`)

// toLoop takes the events that come to the receiver, and tells so.
func (p *receiptPair) toLoop() error {
	for {
		k, payload, err := p.to.next()
		if err == nil && k == kindEvent && p.load.marking.Load() {
			err = p.tell(p.to.lastSeq)
		}
		if err == nil {
			err = p.load.take(p.to, k, payload)
		}
		switch {
		case err != nil && isClosed(err):
			return nil
		case err != nil:
			return err
		}
	}
}

// tell tells that an event was delivered, and has it read.
func (p *receiptPair) tell(seq uint64) error {
	p.got.Store(seq)
	if err := p.mark(p.delivered, seq); err != nil {
		return err
	}
	after := time.Duration(p.load.readAfter.Load())
	if after == 0 {
		return p.mark(p.read, seq)
	}
	select {
	case p.load.reads <- dueRead{p, seq, time.Now().Add(after)}:
		return nil
	default:
		return fmt.Errorf("%d messages came and were not read yet", readsMax)
	}
}

func (p *receiptPair) mark(begin string, seq uint64) error {
	payload := append(strconv.AppendUint([]byte(begin), seq, 10), '}')
	return p.to.write(appendMasked(nil, opText, payload))
}

// readLoop reads what is due until ctx ends.
func (l *receiptLoad) readLoop(ctx context.Context) error {
	for {
		select {
		case due := <-l.reads:
			err := sleep(ctx, time.Until(due.at))
			if err == nil {
				err = due.pair.mark(due.pair.read, due.seq)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// turn sends for some time, and adds what that was to of when all of it is stored.
func (l *receiptLoad) turn(ctx context.Context, of *receiptTurns, marking bool, d time.Duration) error {
	l.marking.Store(marking)
	l.latencies = histogram{} // nothing is in flight here
	l.measuring.Store(true)
	l.stopping.Store(false)
	before, err := l.run.target.scrape(ctx)
	if err != nil {
		return err
	}
	began, first, receipts := time.Now(), l.counts(), l.receipts.Load()
	timer := time.AfterFunc(d, func() { l.stopping.Store(true) })
	defer timer.Stop()
	if err := l.sendLoop(ctx); err != nil {
		return err
	}
	elapsed := time.Since(began)
	if err := l.settle(ctx, marking); err != nil {
		return err
	}
	l.measuring.Store(false)
	whole := time.Since(began)
	after, err := l.run.target.scrape(ctx)
	if err != nil {
		return err
	}
	last := l.counts()
	of.add(measurement{
		elapsed: elapsed, operations: last.operations - first.operations, deliveries: last.deliveries - first.deliveries,
		cpuSeconds:    after[cpuSeries] - before[cpuSeries] - l.atRest*whole.Seconds(),
		residentBytes: after[residentSeries],
	})
	of.latencies.merge(&l.latencies)
	of.receipts += l.receipts.Load() - receipts
	if of.grown == nil {
		of.grown = series{}
	}
	for _, name := range []string{marksSeries, rowsSeries, earlySeries} {
		of.grown[name] += after[name] - before[name]
	}
	return nil
}

// settle returns when all that was sent was delivered and is stored, and with
// receipts when each sender is told that all was read, and that is stored.
func (l *receiptLoad) settle(ctx context.Context, marking bool) error {
	if err := l.drain(ctx); err != nil {
		return err
	}
	if marking {
		if err := l.awaitRead(ctx); err != nil {
			return err
		}
	}
	if _, err := l.run.awaitPersisted(ctx); err != nil {
		return err
	}
	if err := l.awaitMarked(ctx); err != nil {
		return err
	}
	return sleep(ctx, settleFor)
}

// awaitRead waits until each sender is told that the last of its messages was read.
func (l *receiptLoad) awaitRead(ctx context.Context) error {
	for deadline := time.Now().Add(drainWithin); ; {
		lacking := 0
		for _, p := range l.pairs {
			if p.toldRead.Load() != p.got.Load() {
				lacking++
			}
		}
		switch {
		case lacking == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d of %d senders are not told that their last message was read", lacking, len(l.pairs))
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// awaitMarked waits until every mark is stored.
func (l *receiptLoad) awaitMarked(ctx context.Context) error {
	for deadline := time.Now().Add(persistedWithin); ; {
		state, err := streamState(ctx, l.js, streams.ReceiptsStream)
		switch {
		case err != nil:
			return err
		case state.Msgs == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d marks are not stored after %s", state.Msgs, persistedWithin)
		}
		if err := sleep(ctx, leftEvery); err != nil {
			return err
		}
	}
}

// openSpread opens n sessions evenly over a time; with none, as fast as they open.
func openSpread(ctx context.Context, n int, over time.Duration, open func(ctx context.Context, i int) (*session, error)) (sessions, error) {
	began := time.Now()
	return openSessions(ctx, n, func(ctx context.Context, i int) (*session, error) {
		if wait := time.Until(began.Add(over * time.Duration(i) / time.Duration(n))); wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return nil, err
			}
		}
		return open(ctx, i)
	})
}

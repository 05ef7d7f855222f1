package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of a publication. All but ErrConflict and ErrRefused may heal when it is tried again.
var (
	// ErrNotStored says that the log did not acknowledge in time. The event may
	// be in the log all the same: trying again with the same message id is safe.
	ErrNotStored = errors.New("log did not acknowledge in time")
	// ErrLogFull says that the stream is at its limit or its disk is full.
	ErrLogFull = errors.New("log takes no more")
	// ErrConflict says that the subject's last message is not the expected one.
	ErrConflict = errors.New("log has moved on")
	// ErrRefused says that the log will never take this message.
	ErrRefused = errors.New("log refuses the message")
)

// PublishWithin bounds a publication from the moment its send was read. It is
// far below the dedup window, so that a late attempt is never a second message.
const PublishWithin = 20 * time.Second

const (
	publishWindow  = 4096                   // publications in flight per publisher: past it Publish waits
	attemptWithin  = 5 * time.Second        // no answer for so long: publish again with the same message id
	attemptBackoff = 250 * time.Millisecond // after no responders, a lost connection or a retryable refusal
	sweepEvery     = 50 * time.Millisecond
)

// PubAck is the log's word that it stored a publication.
type PubAck struct {
	Seq       uint64
	Duplicate bool // it was there before: Seq is that of the first
}

// Publication is one message for the log, with its place to answer to.
type Publication struct {
	Subject string
	MsgID   string // the same id within the dedup window is the same message
	Data    []byte
	TTL     uint64    // seconds after which the log forgets it; 0: at its age limit
	After   *uint64   // the seq that has to be the subject's last, 0 for none; nil: any
	ReadAt  time.Time // when its send was read: it fails with ErrNotStored at ReadAt + PublishWithin
	// Done is called exactly once, with the ack or with one of the errors of
	// this package. It must not block.
	Done func(PubAck, error)
}

// Publisher publishes to the log asynchronously. It retries with the same
// message id until the log answers or the publication's time is over. At most
// publishWindow publications are in flight: past it Publish waits, and so the
// client that sends is not read.
type Publisher struct {
	conn        *nats.Conn
	replyPrefix string
	replies     *nats.Subscription
	free        chan int // indexes of slots without publication
	closing     chan struct{}
	stopSweep   chan struct{}
	swept       chan struct{}

	mu    sync.Mutex
	slots []slot
}

// slot holds a publication in flight. Its index and generation are the reply
// subject's last token, so that a late answer never meets another publication.
type slot struct {
	pub        Publication
	busy       bool
	generation uint64
	attemptAt  time.Time // when to publish again
}

// NewPublisher returns a Publisher on conn, ready to use. Close ends it.
func NewPublisher(conn *nats.Conn) (*Publisher, error) {
	p := &Publisher{
		conn:        conn,
		replyPrefix: conn.NewInbox() + ".",
		free:        make(chan int, publishWindow),
		closing:     make(chan struct{}),
		stopSweep:   make(chan struct{}),
		swept:       make(chan struct{}),
		slots:       make([]slot, publishWindow),
	}
	for i := range p.slots {
		p.free <- i
	}
	var err error
	if p.replies, err = conn.Subscribe(p.replyPrefix+"*", p.handleReply); err != nil {
		return nil, fmt.Errorf("subscribe to publish replies: %w", err)
	}
	go p.sweepLoop()
	return p, nil
}

// Publish hands pub to the log; the outcome comes to pub.Done. It waits while
// the window is full, at most until the publication's time is over.
func (p *Publisher) Publish(ctx context.Context, pub Publication) {
	index, ok := p.acquire(ctx, pub.ReadAt.Add(PublishWithin))
	if !ok {
		pub.Done(PubAck{}, ErrNotStored)
		return
	}
	p.mu.Lock()
	s := &p.slots[index]
	s.pub, s.busy = pub, true
	s.generation++
	s.attemptAt = time.Now().Add(attemptWithin)
	generation := s.generation
	p.mu.Unlock()
	if err := p.attempt(pub, index, generation); err != nil {
		p.againSoon(index, generation)
	}
}

func (p *Publisher) acquire(ctx context.Context, deadline time.Time) (index int, ok bool) {
	left := time.Until(deadline)
	if left <= 0 {
		return 0, false
	}
	select {
	case <-p.closing:
		return 0, false
	default:
	}
	select {
	case index = <-p.free:
		return index, true
	default:
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case index = <-p.free:
		return index, true
	case <-timer.C:
	case <-p.closing:
	case <-ctx.Done():
	}
	return 0, false
}

// attempt hands one try to NATS. Without a connection it fails at once, since
// there is no reconnect buffer, and the sweep tries again.
func (p *Publisher) attempt(pub Publication, index int, generation uint64) error {
	header := nats.Header{jetstream.MsgIDHeader: {pub.MsgID}}
	if pub.TTL > 0 {
		header[jetstream.MsgTTLHeader] = []string{strconv.FormatUint(pub.TTL, 10)}
	}
	if pub.After != nil {
		header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(*pub.After, 10)}
	}
	return p.conn.PublishMsg(&nats.Msg{
		Subject: pub.Subject,
		Reply:   p.replyPrefix + strconv.Itoa(index) + "-" + strconv.FormatUint(generation, 10),
		Header:  header,
		Data:    pub.Data,
	})
}

func (p *Publisher) againSoon(index int, generation uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.slots[index]; s.busy && s.generation == generation {
		s.attemptAt = time.Now().Add(attemptBackoff)
	}
}

func (p *Publisher) handleReply(m *nats.Msg) {
	index, generation, ok := parseReplyToken(m.Subject[len(p.replyPrefix):])
	if !ok || index >= len(p.slots) {
		return
	}
	ack, err := parsePubAck(m)
	if errors.Is(err, errAgain) {
		p.againSoon(index, generation)
		return
	}
	p.mu.Lock()
	if s := &p.slots[index]; !s.busy || s.generation != generation {
		p.mu.Unlock()
		return
	}
	done := p.releaseLocked(index)
	p.mu.Unlock()
	done(ack, err)
}

func (p *Publisher) releaseLocked(index int) (done func(PubAck, error)) {
	s := &p.slots[index]
	done = s.pub.Done
	s.pub, s.busy = Publication{}, false
	p.free <- index // has room: every index is in it at most once
	return done
}

// sweepLoop publishes again what got no answer, and gives up what is out of time.
func (p *Publisher) sweepLoop() {
	defer close(p.swept)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.stopSweep:
			return
		case now := <-ticker.C:
			for _, done := range p.sweepOnce(now) {
				done(PubAck{}, ErrNotStored)
			}
		}
	}
}

func (p *Publisher) sweepOnce(now time.Time) (given []func(PubAck, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.slots {
		s := &p.slots[i]
		switch {
		case !s.busy:
		case now.Sub(s.pub.ReadAt) >= PublishWithin:
			given = append(given, p.releaseLocked(i))
		case now.After(s.attemptAt):
			s.attemptAt = now.Add(attemptWithin)
			if err := p.attempt(s.pub, i, s.generation); err != nil {
				s.attemptAt = now.Add(attemptBackoff)
			}
		}
	}
	return given
}

// Close waits until nothing is in flight or ctx ends, and fails what is left
// with ErrNotStored, as it does what is published from its beginning on.
func (p *Publisher) Close(ctx context.Context) {
	close(p.closing)
	p.awaitFree(ctx)
	close(p.stopSweep)
	<-p.swept
	// The connection may be gone: then so is the subscription.
	_ = p.replies.Unsubscribe()
	p.mu.Lock()
	var given []func(PubAck, error)
	for i := range p.slots {
		if s := &p.slots[i]; s.busy {
			s.busy = false
			given = append(given, s.pub.Done)
		}
	}
	p.mu.Unlock()
	for _, done := range given {
		done(PubAck{}, ErrNotStored)
	}
}

// awaitFree returns when all slots are free, which is when all their indexes were taken.
func (p *Publisher) awaitFree(ctx context.Context) {
	for range p.slots {
		select {
		case <-p.free:
		case <-ctx.Done():
			return
		}
	}
}

// errAgain asks for another attempt: the log may take the same message a little later.
var errAgain = errors.New("try again")

// Error codes of the JetStream API that tell a full log from a passing fault.
const (
	errCodeInsufficientResources = 10023
	errCodeStorageExceeded       = 10047
	errCodeStoreFailed           = 10077
	errCodeWrongLastSequence     = 10071
	errCodeDuplicateInProcess    = 10158
	errCodeWrongLastConstant     = 10164 // the same, where the leader does not tell the last one
)

func parsePubAck(m *nats.Msg) (PubAck, error) {
	if len(m.Data) == 0 { // no responders: the stream's leader is being replaced
		return PubAck{}, errAgain
	}
	var ack struct {
		Stream    string              `json:"stream"`
		Seq       uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
		Error     *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return PubAck{}, fmt.Errorf("%w: unreadable answer: %v", ErrRefused, err)
	}
	if ack.Error == nil {
		return PubAck{Seq: ack.Seq, Duplicate: ack.Duplicate}, nil
	}
	switch ack.Error.ErrorCode {
	case errCodeInsufficientResources, errCodeStorageExceeded, errCodeStoreFailed:
		return PubAck{}, fmt.Errorf("%w: %s", ErrLogFull, ack.Error.Description)
	case errCodeWrongLastSequence, errCodeWrongLastConstant:
		return PubAck{}, fmt.Errorf("%w: %s", ErrConflict, ack.Error.Description)
	case errCodeDuplicateInProcess:
		return PubAck{}, errAgain
	}
	if ack.Error.Code >= 500 || ack.Error.Code == 429 {
		return PubAck{}, errAgain
	}
	return PubAck{}, fmt.Errorf("%w: %s", ErrRefused, ack.Error.Description)
}

func parseReplyToken(token string) (index int, generation uint64, ok bool) {
	i, g, ok := strings.Cut(token, "-")
	if !ok {
		return 0, 0, false
	}
	index, err := strconv.Atoi(i)
	if err != nil || index < 0 {
		return 0, 0, false
	}
	generation, err = strconv.ParseUint(g, 10, 64)
	return index, generation, err == nil
}

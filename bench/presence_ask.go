package bench

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"parley/schemas"
)

const (
	askedWithin = 20 * time.Millisecond // p99 of a question about as many users as may be
	// onlineAsked and goneAsked are how many of them are there, and are not.
	onlineAsked = schemas.PresenceUsersMax / 2
	goneAsked   = schemas.PresenceUsersMax - onlineAsked
	// unmeasuredShare of the questions to the store come before those that count.
	unmeasuredShare = 5
	// seenAtOnce is as much as the worker writes at once.
	seenAtOnce = 1000
)

// gone is the i-th user who was last seen before the server was started.
func (p *presenceLoad) gone(i int) schemas.User { return p.run.user("y%d", i) }

// measureQuestions measures questions about users of whom half are there: first about
// others who are not each time, so that the worker has to read from the store when they were
// last seen; then the same questions again, which it knows. The store's own caches are
// warm: what was written last is asked for. The first questions are not counted, for the
// sake of a store that has just been started.
func (p *presenceLoad) measureQuestions(ctx context.Context) error {
	r := p.run
	s, err := openSession(ctx, r.target, r.user("asks"), "", busyBufferBytes)
	if err != nil {
		return err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	questions := make([][]byte, r.sizes.coldQuestions)
	for i := range questions {
		questions[i] = p.question(i)
	}
	r.progress("presence: %s: questions about %d users", p.store.name, schemas.PresenceUsersMax)
	before := len(questions) / unmeasuredShare
	if err := p.ask(ctx, s, questions[:before], 0, ""); err != nil {
		return err
	}
	if err := p.ask(ctx, s, questions[before:], 0, "from the store"); err != nil {
		return err
	}
	return p.ask(ctx, s, questions, r.cfg.Duration/2, "remembered")
}

// ask asks the questions one after the other, and again until a time is over. Without
// a name they are not counted.
func (p *presenceLoad) ask(ctx context.Context, s *session, questions [][]byte, atLeast time.Duration, name string) error {
	r := p.run
	before, err := p.cpu(ctx)
	if err != nil {
		return err
	}
	var times histogram
	for i, began := 0, time.Now(); i < len(questions) || time.Since(began) < atLeast; i++ {
		if err := askPresence(s, questions[i%len(questions)], &times); err != nil {
			return err
		}
	}
	after, err := p.cpu(ctx)
	if err != nil || name == "" {
		return err
	}
	result := Result{Workload: presenceWorkload, Unit: "questions", Case: fmt.Sprintf("%s, %d users, half gone, %s", p.store.name, schemas.PresenceUsersMax, name)}
	result.setTimes(&times)
	result.goal(result.P99 < millis(askedWithin), "p99 under %s", askedWithin)
	asked := float64(times.count())
	result.figure("CPU", 1000*(after.server-before.server)/asked, "ms a question")
	if p.hasStoreCPU() {
		result.figure("the store's", 1000*(after.store-before.store)/asked, "ms a question")
	}
	r.add(result)
	return nil
}

// bothCPU is the CPU time of the server, and of the store where it is known.
type bothCPU struct{ server, store float64 }

// hasStoreCPU: SQLite is in the server.
func (p *presenceLoad) hasStoreCPU() bool { return p.run.cfg.StoreCPU != nil && !p.inServer }

func (p *presenceLoad) cpu(ctx context.Context) (c bothCPU, err error) {
	s, err := p.run.target.scrape(ctx)
	if err == nil && p.hasStoreCPU() {
		c.store, err = p.run.cfg.StoreCPU()
	}
	c.server = s[cpuSeries]
	return c, err
}

// question is the i-th one.
func (p *presenceLoad) question(i int) []byte {
	var users strings.Builder
	for n := range onlineAsked {
		fmt.Fprintf(&users, "%q,", p.user((i*onlineAsked+n)%len(p.sessions)))
	}
	for n := range goneAsked {
		fmt.Fprintf(&users, "%q,", p.gone(i*goneAsked+n))
	}
	return fmt.Appendf(nil, `{"t":"presence","ref":1,"users":[%s]}`, strings.TrimSuffix(users.String(), ","))
}

var (
	isOnline  = []byte(`"status":"online"`)
	isOffline = []byte(`"status":"offline"`)
	hasSeen   = []byte(`"lastSeen":`)
)

func askPresence(s *session, question []byte, times *histogram) error {
	asked := time.Now()
	answer, err := s.request(question, kindPresence)
	if err != nil {
		return err
	}
	times.add(time.Since(asked))
	online, offline, seen := bytes.Count(answer, isOnline), bytes.Count(answer, isOffline), bytes.Count(answer, hasSeen)
	if online != onlineAsked || offline != goneAsked || seen != goneAsked {
		return fmt.Errorf("an answer has %d users online and %d offline, of whom %d were seen; want %d, %d and as many: %.300s",
			online, offline, seen, onlineAsked, goneAsked, answer)
	}
	return nil
}

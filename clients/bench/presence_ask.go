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
	// seenAtOnce is as much as the worker writes at once.
	seenAtOnce = 1000
)

// gone is the i-th user who was last seen before the server was started.
func (p *presenceLoad) gone(i int) schemas.User { return p.run.user("y%d", i) }

// measureQuestions measures questions about users of whom half are there: first about
// others who are not each time, so that the worker has to read from the store when they were
// last seen; then the same questions again, which it knows. The store's own caches are warm.
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
	var cold, warm histogram
	for _, question := range questions {
		if err := askPresence(s, question, &cold); err != nil {
			return err
		}
	}
	for i, began := 0, time.Now(); time.Since(began) < r.cfg.Duration/2 || i < len(questions); i++ {
		if err := askPresence(s, questions[i%len(questions)], &warm); err != nil {
			return err
		}
	}
	for _, of := range []struct {
		name  string
		times *histogram
	}{{"from the store", &cold}, {"remembered", &warm}} {
		result := Result{Workload: presenceWorkload, Unit: "questions", Case: fmt.Sprintf("%s, %d users, half gone, %s", p.store.name, schemas.PresenceUsersMax, of.name)}
		result.setTimes(of.times)
		result.goal(result.P99 < millis(askedWithin), "p99 under %s", askedWithin)
		r.add(result)
	}
	return nil
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

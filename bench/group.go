package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

const (
	// groupTurns is how often group and fanout have their turns: what disturbs one
	// disturbs the other.
	groupTurns = 3
	// A delivery to a member costs what one to a session of the same user does.
	groupRatioMin, groupRatioMax = 0.85, 1.15
)

// group measures deliveries to the members of a group, a session each, next to
// those to as many sessions of one user.
func (r *run) group(ctx context.Context, n int) error {
	from, to := r.user("g%d", n), r.user("o%d", n)
	direct := crowd{from: from, receiver: func(int) schemas.User { return to }, chat: schemas.DirectChat(from, to)}
	member := func(i int) schemas.User { return r.user("m%d-%d", n, i) }
	members := make([]schemas.User, n)
	for i := range members {
		members[i] = member(i)
	}
	// Its name is as long as the direct chat's: the frames have as many bytes.
	name := fmt.Sprintf("bench-%s-%d", r.name, n)
	id := name + strings.Repeat("_", len(direct.chat.String())-len("group.")-len(name))
	chat, err := r.createGroupOf(ctx, from, id, members)
	if err != nil {
		return err
	}
	if _, err := r.awaitPersisted(ctx); err != nil {
		return err
	}
	both := []struct {
		crowd crowd
		name  string
		sum   measurement
		load  load
	}{
		{crowd: direct, name: fmt.Sprintf("fanout, %d sessions", n)},
		{crowd: crowd{from: from, receiver: member, chat: chat}, name: fmt.Sprintf("%d members", n)},
	}
	for turn := range groupTurns {
		for i := range both {
			c := &both[i]
			if err := r.target.quiet(ctx); err != nil {
				return err
			}
			r.progress("group: %s", c.name)
			m, err := r.measureCrowd(ctx, c.crowd, n, &c.load, fmt.Sprintf("g%d", turn), r.cfg.Duration/groupTurns)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.sum.add(m)
		}
	}
	var fanout Result
	for i := range both {
		c := &both[i]
		result := Result{Workload: groupWorkload, Case: c.name, Unit: "messages"}
		if result.setLoad(c.sum, &c.load.latencies); i == 0 {
			fanout = result
		} else {
			result.compare(&fanout, func(fanout *Result) float64 { return result.DeliveriesPerCPUSecond / fanout.DeliveriesPerCPUSecond })
			result.RatioOf = "fanout's deliveries/CPU s"
			result.goal(result.Ratio >= groupRatioMin && result.Ratio <= groupRatioMax, "%.2f to %.2f", groupRatioMin, groupRatioMax)
		}
		r.add(result)
	}
	return nil
}

// createGroupOf has a user create a group, with a session for that alone.
func (r *run) createGroupOf(ctx context.Context, by schemas.User, id string, members []schemas.User) (schemas.Chat, error) {
	s, err := openSession(ctx, r.target, by, "", busyBufferBytes)
	if err != nil {
		return schemas.Chat{}, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	return s.createGroup(id, members)
}

// createGroup creates a group, and returns when its creator is told that it is in
// it and has its first event.
func (s *session) createGroup(id string, members []schemas.User) (schemas.Chat, error) {
	chat, frame, err := createFrame(id, members)
	if err != nil {
		return chat, err
	}
	if err := s.write(frame); err != nil {
		return chat, err
	}
	_, err = s.awaitGroup(chat, kindCreated, kindChat, kindEvent)
	return chat, err
}

// createFrame is the request for a group of its creator and members.
func createFrame(id string, members []schemas.User) (schemas.Chat, []byte, error) {
	name, err := schemas.ParseID(id)
	if err != nil {
		return schemas.Chat{}, nil, err
	}
	request, err := json.Marshal(schemas.Create{ID: name, Name: "bench", Members: members})
	if err != nil {
		return schemas.Chat{}, nil, fmt.Errorf("encode create of %s: %w", id, err)
	}
	frame := append([]byte(`{"t":"create","ref":1,`), request[1:]...)
	return schemas.GroupChat(name), appendMasked(nil, opText, frame), nil
}

// awaitGroup reads until a frame of each kind has come of a group, in any order,
// and nothing of another. It returns when each came.
func (s *session) awaitGroup(chat schemas.Chat, kinds ...kind) (came map[kind]time.Time, err error) {
	if err := s.net.SetReadDeadline(time.Now().Add(drainWithin)); err != nil {
		return nil, err
	}
	came = make(map[kind]time.Time, len(kinds))
	for len(came) < len(kinds) {
		k, payload, err := s.next()
		if err != nil {
			return nil, fmt.Errorf("%s has %d of %d frames of %s: %w", s.user, len(came), len(kinds), chat, err)
		}
		if string(textAfter(payload, chatName)) != chat.String() {
			return nil, fmt.Errorf("%s waits for %s and gets %.200s", s.user, chat, payload)
		}
		came[k] = time.Now()
	}
	for _, k := range kinds {
		if came[k].IsZero() {
			return nil, fmt.Errorf("%s is not told all of %s", s.user, chat)
		}
	}
	return came, nil
}

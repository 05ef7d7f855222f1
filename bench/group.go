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

// crowdTurns is a crowd and its turns, added up.
type crowdTurns struct {
	crowd crowd
	name  string
	sum   measurement
	load  load
}

// group measures deliveries to the members of a group with one session each, next
// to deliveries to as many sessions of one user.
func (w messageWorkloads) group(ctx context.Context) error {
	for _, members := range w.sizes.fanouts {
		if err := w.measureGroup(ctx, members); err != nil {
			return err
		}
	}
	return nil
}

func (w messageWorkloads) measureGroup(ctx context.Context, n int) error {
	from, to := w.user("g%d", n), w.user("o%d", n)
	direct := crowd{from: from, receiver: func(int) schemas.User { return to }, chat: schemas.DirectChat(from, to)}
	group, err := w.createCrowd(ctx, from, n, len(direct.chat.String()))
	if err != nil {
		return err
	}
	if _, err := w.awaitPersisted(ctx); err != nil {
		return err
	}
	fanout := &crowdTurns{crowd: direct, name: fmt.Sprintf("fanout, %d sessions", n)}
	members := &crowdTurns{crowd: group, name: fmt.Sprintf("%d members", n)}
	for turn := range groupTurns {
		for _, c := range []*crowdTurns{fanout, members} {
			if err := w.takeTurn(ctx, c, n, turn); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	base, result := fanout.result(), members.result()
	result.compare(&base, func(base *Result) float64 { return result.DeliveriesPerCPUSecond / base.DeliveriesPerCPUSecond })
	result.RatioOf = "fanout's deliveries/CPU s"
	result.goal(result.Ratio >= groupRatioMin && result.Ratio <= groupRatioMax, "%.2f to %.2f", groupRatioMin, groupRatioMax)
	w.add(base)
	w.add(result)
	return nil
}

// createCrowd creates a group of n members. The group's name has chatBytes bytes, as
// the direct chat's name has, so that the frames of both have the same length.
func (w messageWorkloads) createCrowd(ctx context.Context, from schemas.User, n, chatBytes int) (crowd, error) {
	member := func(i int) schemas.User { return w.user("m%d-%d", n, i) }
	members := make([]schemas.User, n)
	for i := range members {
		members[i] = member(i)
	}
	name := fmt.Sprintf("bench-%s-%d", w.name, n)
	id := name + strings.Repeat("_", chatBytes-len("group.")-len(name))
	chat, err := w.createGroupOf(ctx, from, id, members)
	return crowd{from: from, receiver: member, chat: chat}, err
}

// createGroupOf creates a group with a session that does nothing else.
func (w messageWorkloads) createGroupOf(ctx context.Context, by schemas.User, id string, members []schemas.User) (schemas.Chat, error) {
	s, err := openSession(ctx, w.target, by, "", busyBufferBytes)
	if err != nil {
		return schemas.Chat{}, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	return s.createGroup(id, members)
}

// takeTurn measures one turn of a crowd of n sessions.
func (w messageWorkloads) takeTurn(ctx context.Context, c *crowdTurns, n, turn int) error {
	if err := w.target.quiet(ctx); err != nil {
		return err
	}
	w.progress("group: %s", c.name)
	m, err := w.measureCrowd(ctx, c.crowd, n, &c.load, fmt.Sprintf("g%d", turn), w.cfg.Duration/groupTurns)
	if err == nil {
		c.sum.add(m)
	}
	return err
}

func (c *crowdTurns) result() Result {
	result := Result{Workload: groupWorkload, Case: c.name, Unit: "messages"}
	result.setLoad(c.sum, &c.load.latencies)
	return result
}

// createGroup creates a group. It returns when the creator has the group and its
// first event.
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

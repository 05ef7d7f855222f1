package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

// createWithin is how long the last member may wait to be told of its group.
const createWithin = 2 * time.Second

// create measures how long it takes from the request for a group until the last
// of its members, who are all connected, is told that it is in it.
func (w groupWorkloads) create(ctx context.Context) error {
	return w.onEachStore(ctx, createWorkload, StartOptions{}, func(store testedStore) error {
		return w.createOn(ctx, store)
	})
}

func (w groupWorkloads) createOn(ctx context.Context, store testedStore) error {
	n := w.sizes.groupMembers
	users := make([]schemas.User, n+1) // the last is the creator
	for i := range users {
		users[i] = w.user("k%d", i)
	}
	all, err := openSessions(ctx, len(users), func(ctx context.Context, i int) (*session, error) {
		return openSessionOfMany(ctx, w.target, users[i], idleBufferBytes)
	})
	if err != nil {
		return err
	}
	defer all.close()
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	c := creations{told: &histogram{}, sent: &histogram{}}
	for round := range w.sizes.creations {
		// What the one before left to store and to tell is not charged to this one.
		if _, err := w.awaitPersisted(ctx); err != nil {
			return err
		}
		if err := w.target.quiet(ctx); err != nil {
			return err
		}
		w.progress("create: %s: a group of %d online, the %d. of %d", store.name, n, round+1, w.sizes.creations)
		if err := c.once(all, users[:n], fmt.Sprintf("bench-%s-k%d", w.name, round)); err != nil {
			return err
		}
	}
	result := Result{Workload: createWorkload, Case: fmt.Sprintf("%s, %d members online", store.name, n), Unit: "groups"}
	result.setTimes(c.told)
	result.figure("groups", float64(c.told.count()), "")
	result.figure("last member told, of half of them", c.told.quantile(0.5).Seconds(), "s")
	result.figure("at worst", c.told.quantile(1).Seconds(), "s")
	result.figure("last member sent the first event, at worst", c.sent.quantile(1).Seconds(), "s")
	result.goal(c.told.quantile(1) < createWithin, "under %s", createWithin)
	w.add(result)
	return nil
}

// creations are the times from the request until the last member was told of the
// group, and was sent its first event.
type creations struct{ told, sent *histogram }

// once has the last of the sessions create a group of the others.
func (c *creations) once(all sessions, members []schemas.User, id string) error {
	chat, frame, err := createFrame(id, members)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var told, sent time.Time // the last ones
	var group errgroup.Group
	for i, s := range all {
		kinds := []kind{kindChat, kindEvent}
		if i == len(members) {
			kinds = append(kinds, kindCreated)
		}
		group.Go(func() error {
			came, err := s.awaitGroup(chat, kinds...)
			mu.Lock()
			defer mu.Unlock()
			if at := came[kindChat]; at.After(told) {
				told = at
			}
			if at := came[kindEvent]; at.After(sent) {
				sent = at
			}
			return err
		})
	}
	asked := time.Now()
	written := all[len(members)].write(frame)
	if err := group.Wait(); err != nil {
		return err
	}
	c.told.add(told.Sub(asked))
	c.sent.add(sent.Sub(asked))
	return written
}

package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

const (
	connectWithin      = 50 * time.Millisecond // p99, from the hello to the welcome
	connectRequestsMax = 3                     // to workers
)

// workerSeries count the requests that workers answer.
var workerSeries = []string{"parley_chats_requests_total", "parley_users_requests_total", "parley_query_requests_total"}

// connect measures how long a user of many groups, of whom nobody else is there,
// waits for its welcome, and what that asks of workers.
func (w groupWorkloads) connect(ctx context.Context) error {
	return w.onEachStore(ctx, connectWorkload, StartOptions{}, func(store testedStore) error {
		return w.connectTo(ctx, store)
	})
}

func (w groupWorkloads) connectTo(ctx context.Context, store testedStore) error {
	user, groups := w.user("c"), w.sizes.userGroups
	w.progress("connect: %s: creating %d groups", store.name, groups)
	chats, err := w.createGroups(ctx, groups, user)
	if err != nil {
		return err
	}
	if _, err := w.awaitPersisted(ctx); err != nil {
		return err
	}
	if err := w.target.quiet(ctx); err != nil {
		return err
	}
	w.progress("connect: %s: again and again", store.name)
	times, requests, err := w.reconnect(ctx, user)
	if err != nil {
		return err
	}
	if err := w.hears(ctx, user, chats); err != nil {
		return err
	}
	result := Result{Workload: connectWorkload, Case: fmt.Sprintf("%s, a user in %d groups", store.name, groups), Unit: "connects"}
	result.setTimes(times)
	result.figure("connects", float64(times.count()), "")
	result.figure("requests to workers, of each", requests, "")
	result.goal(result.P99 < millis(connectWithin), "p99 under %s", connectWithin)
	result.goal(requests <= connectRequestsMax, "at most %d requests to workers", connectRequestsMax)
	w.add(result)
	return nil
}

// groupOwner is the user who creates the groups of connect.
func (w groupWorkloads) groupOwner() schemas.User { return w.user("co") }

// createGroups has groups created of groupOwner and a user.
func (w groupWorkloads) createGroups(ctx context.Context, n int, user schemas.User) ([]schemas.Chat, error) {
	s, err := w.openOwner(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	chats := make([]schemas.Chat, n)
	for i := range chats {
		if chats[i], err = s.createGroup(fmt.Sprintf("bench-%s-c%d", w.name, scatter(i)), []schemas.User{user}); err != nil {
			return nil, err
		}
	}
	return chats, nil
}

func (w groupWorkloads) openOwner(ctx context.Context) (*session, error) {
	return openSessionOfMany(ctx, w.target, w.groupOwner(), busyBufferBytes)
}

// reconnect connects a user again and again, each time when the server has let
// go of it: else the edge would have its groups at hand.
func (w groupWorkloads) reconnect(ctx context.Context, user schemas.User) (times *histogram, requests float64, err error) {
	var before series
	times = &histogram{}
	connects := 0
	for began := time.Now(); ; connects++ {
		now, err := w.target.scrape(ctx)
		if err != nil {
			return nil, 0, err
		}
		if before == nil && time.Since(began) > w.cfg.Warmup {
			times, connects, before, began = &histogram{}, 0, now, time.Now()
		}
		if before != nil && connects > 0 && time.Since(began) > w.cfg.Duration {
			return times, (now.sum(workerSeries) - before.sum(workerSeries)) / float64(connects), nil
		}
		s, err := openSession(ctx, w.target, user, "", busyBufferBytes)
		if err != nil {
			return nil, 0, err
		}
		times.add(s.welcomed)
		s.close()
		if err := w.target.connections(ctx, now[connectionsSeries]); err != nil {
			return nil, 0, err
		}
	}
}

// hears makes sure that a user who has just connected is sent all of its groups.
func (w groupWorkloads) hears(ctx context.Context, user schemas.User, chats []schemas.Chat) error {
	listener, err := openSessionOfMany(ctx, w.target, user, busyBufferBytes)
	if err != nil {
		return err
	}
	defer listener.close()
	owner, err := w.openOwner(ctx)
	if err != nil {
		return err
	}
	defer owner.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { sessions{listener, owner}.close() })
	defer stop()
	group.Go(func() error { _, err := listener.awaitEvents(len(chats)); return err })
	group.Go(func() error { _, err := owner.awaitEvents(len(chats)); return err })
	group.Go(func() error {
		for i, chat := range chats {
			frame := newSendFrame(owner.user, chat, "c", w.cfg.TextBytes)
			if err := owner.write(frame.append(nil, 0, uint64(i))); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

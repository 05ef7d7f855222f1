package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

const (
	listWithin = 100 * time.Millisecond // p99 of a page
	// listGrowthMax is what a page may cost of the server's CPU, next to one of chats
	// with a tenth of the messages: nothing more, but for what is measured beside it.
	listGrowthMax = 1.25
	// listFillers are the chats that are filled at the same time.
	listFillers = 32
	// listSlack is how much older than its measurements the log's events may get: the
	// time for filling half of the chats, and for the server to come to rest.
	listSlack      = 45 * time.Second
	listSlackShort = 12 * time.Second
)

// listLimits are the pages that are asked for.
var listLimits = []int{schemas.ChatsDefault, schemas.ChatsMax}

// listLoad is one user with many chats, direct ones and groups by turns. Of half
// of each the log has forgotten all.
type listLoad struct {
	run    *run
	store  testedStore
	user   schemas.User
	maxAge time.Duration
}

// chats measures the request for a page of a user's chats, with few messages in each
// and with many.
func (w groupWorkloads) chats(ctx context.Context) error {
	slack := listSlack
	if w.cfg.Short {
		slack = listSlackShort
	}
	// Below its age the log forgets nothing, so that what it has stays for a whole measurement.
	maxAge := slack + time.Duration(len(listLimits))*(w.cfg.Warmup+w.cfg.Duration)
	return w.onEachStore(ctx, chatsWorkload, StartOptions{MaxAge: maxAge}, func(store testedStore) error {
		l := &listLoad{run: w.run, store: store, user: w.user("l"), maxAge: maxAge}
		return l.measure(ctx)
	})
}

func (l *listLoad) measure(ctx context.Context) error {
	r := l.run
	first := make(map[int]float64) // CPU of a page with few messages, by limit
	for round, messages := range r.sizes.listMessages {
		if err := l.fill(ctx, round, messages); err != nil {
			return err
		}
		for _, limit := range listLimits {
			result, cpu, err := l.measureLimit(ctx, limit)
			if err != nil {
				return err
			}
			result.Case = fmt.Sprintf("%s, %d chats of %d messages, limit %d", l.store.name, r.sizes.listChats, messages, limit)
			if few := first[limit]; few > 0 {
				result.Ratio, result.RatioOf = cpu/few, fmt.Sprintf("the CPU with %d messages", r.sizes.listMessages[0])
				result.goal(result.Ratio <= listGrowthMax, "at most %.2f", listGrowthMax)
			} else {
				first[limit] = cpu
			}
			r.add(result)
		}
	}
	return nil
}

// fill has messages sent in every chat: in one half, and once the log has forgotten
// those, in the other.
func (l *listLoad) fill(ctx context.Context, round, messages int) error {
	r, half := l.run, l.run.sizes.listChats/2
	for i, part := range [][2]int{{0, half}, {half, r.sizes.listChats}} {
		r.progress("chats: %s: %d messages in each of %d chats", l.store.name, messages, part[1]-part[0])
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(listFillers)
		for chat := part[0]; chat < part[1]; chat++ {
			group.Go(func() error { return l.fillChat(groupCtx, chat, round, messages) })
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("fill chats: %w", err)
		}
		if _, err := r.awaitPersisted(ctx); err != nil {
			return err
		}
		if i == 0 {
			if err := l.awaitForgotten(ctx); err != nil {
				return err
			}
		}
	}
	return r.target.quiet(ctx)
}

// fillChat has the partner of chat i send messages in it: the user reads none of them.
func (l *listLoad) fillChat(ctx context.Context, i, round, messages int) error {
	r := l.run
	partner := r.user("n%d", scatter(i))
	s, err := openSessionOfMany(ctx, r.target, partner, busyBufferBytes)
	if err != nil {
		return err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	chat := schemas.DirectChat(l.user, partner)
	if i%2 == 1 {
		id, err := schemas.ParseID(partner.String())
		if err != nil {
			return err
		}
		chat = schemas.GroupChat(id)
		if round == 0 {
			if _, err := s.createGroup(id.String(), []schemas.User{l.user}); err != nil {
				return err
			}
		}
	}
	return s.fill(newSendFrame(partner, chat, fmt.Sprintf("l%d", round), r.cfg.TextBytes), messages)
}

// awaitForgotten waits until the log has nothing of any chat.
func (l *listLoad) awaitForgotten(ctx context.Context) error {
	l.run.progress("chats: %s: waiting until the log has forgotten them, %s", l.store.name, l.maxAge)
	for deadline := time.Now().Add(l.maxAge + quietWithin); ; {
		inLog, err := l.chatsInLog(ctx)
		if err != nil || inLog == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the log has something of %d chats, %s past its age of %s", inLog, quietWithin, l.maxAge)
		}
		if err := sleep(ctx, quietEvery); err != nil {
			return err
		}
	}
}

// chatsInLog counts the chats of which the log has something.
func (l *listLoad) chatsInLog(ctx context.Context) (chats uint64, err error) {
	conn, js, layout, err := l.run.log(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for _, shard := range layout.All() {
		state, err := streamState(ctx, js, shard.Stream())
		if err != nil {
			return 0, err
		}
		chats += state.NumSubjects // each chat has one
	}
	return chats, nil
}

// measureLimit measures the first page of a limit. cpu is what the server uses for
// one, in seconds.
func (l *listLoad) measureLimit(ctx context.Context, limit int) (result Result, cpu float64, err error) {
	r := l.run
	s, err := openSession(ctx, r.target, l.user, "", busyBufferBytes)
	if err != nil {
		return result, 0, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if err := l.readAll(s, limit); err != nil {
		return result, 0, err
	}
	if err := r.target.quiet(ctx); err != nil {
		return result, 0, err
	}
	times, cpu, err := l.readFirst(ctx, s, limit)
	if err != nil {
		return result, 0, err
	}
	inLog, err := l.chatsInLog(ctx)
	if err != nil {
		return result, 0, err
	}
	result = Result{Workload: chatsWorkload, Unit: "pages"}
	result.setTimes(times)
	result.figure("CPU of a page", 1000*cpu, "ms")
	result.figure("chats in the store alone", float64(r.sizes.listChats)-float64(inLog), "") // at the end
	result.goal(result.P99 < millis(listWithin), "p99 under %s", listWithin)
	return result, cpu, nil
}

// readFirst asks for the first page again and again.
func (l *listLoad) readFirst(ctx context.Context, s *session, limit int) (times *histogram, cpu float64, err error) {
	r := l.run
	ask := fmt.Appendf(nil, `{"t":"chats","ref":1,"limit":%d}`, limit)
	times = &histogram{}
	var before series // of the measurement; nil during the warm-up
	for began := time.Now(); before == nil || time.Since(began) <= r.cfg.Duration; {
		asked := time.Now()
		page, err := s.request(ask, kindChats)
		if err != nil {
			return nil, 0, err
		}
		times.add(time.Since(asked))
		if shown := bytes.Count(page, unreadName); shown != min(limit, r.sizes.listChats) {
			return nil, 0, fmt.Errorf("a page has %d chats, want %d: %.200s", shown, limit, page)
		}
		if before == nil && time.Since(began) > r.cfg.Warmup {
			if before, err = r.target.scrape(ctx); err != nil {
				return nil, 0, err
			}
			times, began = &histogram{}, time.Now()
		}
	}
	after, err := r.target.scrape(ctx)
	if err != nil {
		return nil, 0, err
	}
	return times, (after[cpuSeries] - before[cpuSeries]) / float64(times.count()), nil
}

var unreadName = []byte(`"unread":`)

// readAll makes sure that the pages together have every chat once, with all of its
// messages unread.
func (l *listLoad) readAll(s *session, limit int) error {
	listed := make(map[schemas.Chat]struct{})
	for cursor := ""; ; {
		frame := fmt.Appendf(nil, `{"t":"chats","ref":1,"limit":%d,"cursor":%q}`, limit, cursor)
		payload, err := s.request(frame, kindChats)
		if err != nil {
			return err
		}
		var page schemas.ChatsPage
		if err := json.Unmarshal(payload, &page); err != nil {
			return fmt.Errorf("decode page of chats: %w", err)
		}
		for _, chat := range page.Chats {
			if chat.Unread != chat.Last.N || chat.Unread == 0 {
				return fmt.Errorf("%s has %d of %d messages unread", chat.Chat, chat.Unread, chat.Last.N)
			}
			listed[chat.Chat] = struct{}{}
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if len(listed) != l.run.sizes.listChats {
		return fmt.Errorf("the list has %d chats, want %d", len(listed), l.run.sizes.listChats)
	}
	return nil
}

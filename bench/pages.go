package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

const (
	// pagesShard is the shard of the store that has these chats: none of a log.
	pagesShard = "bench"
	// pagesCommit is as much as persist commits at once.
	pagesCommit = 2000
)

// pages measures reading a page of a long chat from the store alone, next to one
// of a short chat. The two have turns, page by page, so that what disturbs one disturbs both.
func (w pageWorkloads) pages(ctx context.Context) error {
	for _, tested := range w.testedStores(pagesWorkload) {
		if err := w.pagesOf(ctx, tested); err != nil {
			return fmt.Errorf("store %s: %w", tested.name, err)
		}
	}
	return nil
}

func (w pageWorkloads) pagesOf(ctx context.Context, tested testedStore) (err error) {
	if tested.url == "" {
		dir, err := os.MkdirTemp("", "parley-bench-pages-")
		if err != nil {
			return fmt.Errorf("make temporary directory: %w", err)
		}
		defer os.RemoveAll(dir)
		tested.url = "sqlite://" + filepath.Join(dir, "pages.db")
	}
	opened, err := w.cfg.NewStore(ctx, tested.url)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	filler := &chatFiller{run: w.run, store: opened}
	var chats []filledChat
	for _, events := range w.sizes.pageEvents {
		w.progress("pages: %s: filling a chat of %d", tested.name, events)
		chat, err := filler.fill(ctx, events)
		if err != nil {
			return fmt.Errorf("fill a chat of %d: %w", events, err)
		}
		chats = append(chats, chat)
	}
	for _, kind := range []pageKind{newestPage, pageBefore, pageAfter} {
		result, err := w.readPagesOf(ctx, opened, chats[0], chats[1], kind)
		if err != nil {
			return fmt.Errorf("read %s: %w", kind, err)
		}
		result.Case = fmt.Sprintf("%s, %s, chat of %d", tested.name, kind, chats[1].events)
		w.add(result)
	}
	return nil
}

// pageKind says where a page is.
type pageKind string

const (
	newestPage pageKind = "newest 50"
	pageBefore pageKind = "50 before a place"
	pageAfter  pageKind = "50 after a place"
)

// filledChat has events from first on, without a hole in their sequences.
type filledChat struct {
	chat   schemas.Chat
	first  uint64
	events int
}

// readPagesOf measures pages of long, and compares them with those of short.
func (w pageWorkloads) readPagesOf(ctx context.Context, s Store, short, long filledChat, kind pageKind) (Result, error) {
	random := rand.New(rand.NewPCG(1, 2)) // the same places in every run
	var times [2]histogram
	var spent time.Duration // with the long chat
	for began, warm := time.Now(), false; ; {
		for i, chat := range []filledChat{short, long} {
			rng, want := chat.page(kind, random)
			asked := time.Now()
			events, _, err := s.Page(ctx, chat.chat, rng)
			if err != nil {
				return Result{}, err
			}
			took := time.Since(asked)
			if len(events) != pageEvents || events[0].Seq != want {
				return Result{}, fmt.Errorf("%s of %s has %d events, want %d from %d on", kind, chat.chat, len(events), pageEvents, want)
			}
			if !warm {
				continue
			}
			times[i].add(took)
			if i == 1 {
				spent += took
			}
		}
		if !warm && time.Since(began) > w.cfg.Warmup {
			began, warm = time.Now(), true
		}
		if warm && time.Since(began) > w.cfg.Duration {
			break
		}
	}
	result := Result{Workload: pagesWorkload, Unit: "pages"}
	result.Rate = float64(times[1].count()) / spent.Seconds()
	result.P50, result.P99 = millis(times[1].quantile(0.5)), millis(times[1].quantile(0.99))
	p50 := millis(times[0].quantile(0.5))
	result.Ratio, result.RatioOf = result.P50/p50, fmt.Sprintf("p50 of a chat of %d (%.3f ms)", short.events, p50)
	return result, nil
}

// page returns a range of the kind, and the first seq that it has. Where there is
// a choice, it is anywhere in the chat.
func (c filledChat) page(kind pageKind, random *rand.Rand) (rng store.Range, first uint64) {
	switch kind {
	case pageBefore:
		before := c.first + pageEvents + random.Uint64N(uint64(c.events-pageEvents))
		return store.Range{Before: before, Limit: pageEvents}, before - pageEvents
	case pageAfter:
		after := c.first + random.Uint64N(uint64(c.events-pageEvents))
		return store.Range{After: after, Forward: true, Limit: pageEvents}, after + 1
	default:
		return store.Range{Limit: pageEvents}, c.first + uint64(c.events) - pageEvents
	}
}

// chatFiller commits events as persist does.
type chatFiller struct {
	run   *run
	store WritableStore
	seq   uint64 // of the shard, committed
	chats int
}

func (f *chatFiller) fill(ctx context.Context, events int) (filledChat, error) {
	from := f.run.user("page%d", f.chats)
	f.chats++
	filled := filledChat{chat: schemas.DirectChat(from, f.run.user("reader")), first: f.seq + 1, events: events}
	frame := newSendFrame(from, filled.chat, "g", f.run.cfg.TextBytes)
	var head store.Head
	for done := 0; done < events; {
		n := min(pagesCommit, events-done)
		batch := f.batch(filled.chat, from, frame, &head, n)
		if err := f.store.Commit(ctx, batch); err != nil {
			return filled, err
		}
		done += n
	}
	return filled, nil
}

// batch makes the next n events of a chat, and moves its head on.
func (f *chatFiller) batch(chat schemas.Chat, from schemas.User, frame *sendFrame, head *store.Head, n int) store.Batch {
	c := store.ChatBatch{Chat: chat, Opened: head.LastSeq == 0}
	for range n {
		f.seq++
		at := time.Now()
		event := frame.event(f.seq)
		if head.LastSeq == 0 {
			head.Created = at
		}
		if head.BucketEvents == store.BucketEventsMax {
			head.Bucket, head.BucketEvents, head.BucketBytes = head.Bucket+1, 0, 0
		}
		if head.BucketEvents == 0 {
			c.Buckets = append(c.Buckets, store.Bucket{Bucket: head.Bucket, FirstSeq: f.seq})
		}
		c.Events = append(c.Events, store.Event{
			Bucket: head.Bucket, Seq: f.seq, Prev: head.LastSeq, N: head.LastN + 1, Time: at,
			Type: schemas.Message, Author: from, ID: frame.id(f.seq), JSON: event,
		})
		head.LastSeq, head.LastN, head.LastTime = f.seq, head.LastN+1, at
		head.BucketEvents++
		head.BucketBytes += int64(len(event))
	}
	c.Head = *head
	return store.Batch{Shard: pagesShard, Committed: f.seq, Chats: []store.ChatBatch{c}}
}

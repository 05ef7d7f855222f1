//go:build unix

package model

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/repair/rebuild"
	"parley/schemas"
	"parley/streams"
	"parley/tests/harness"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
)

// The log is applied to the store again: all of it and prefixes of it, by persist
// and by rebuild, over the heads and without them. It changes no byte.
func TestRedeliveryOfAnyPrefixChangesNothing(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	worker := p.StartWorker(t, everyWorker)
	w := newGroupWorld(t, p, p.StartEdge(t, "edge-0"), p.StartEdge(t, "edge-1"))
	w.populate(t, 8)
	w.random(t, rand.Uint64(), 60)
	w.everyType(t, "direct.u0.u1")
	w.everyType(t, w.create(t, "u0", []string{"u1"}, []string{"u2"}).chat)
	w.settle(t)
	r := &redelivery{parts: p, log: w.log}
	r.awaitStored(t)
	r.end(t, worker)
	r.want = sqlitetest.Dump(t, p.Store)

	for range 2 {
		if stdout, stderr, ok := p.Run(t, "rebuild"); !ok {
			t.Fatalf("rebuild:\n%s%s", stdout, stderr)
		}
		r.check(t, "all of the log, by rebuild")
	}
	for range 3 {
		r.setBack(t)
		worker = p.StartWorker(t, "persist")
		r.awaitStored(t)
		r.end(t, worker)
		r.check(t, "the end of the log, by persist")
	}
	for i := range 6 {
		// The rows of all that came later are there, and the heads in every other round.
		ends := r.setBack(t)
		if i%2 == 1 {
			sqlitetest.Exec(t, p.Store, "DELETE FROM chats")
		}
		r.rebuild(t, ends)
		r.rebuild(t, ends)
		r.rebuild(t, nil)
		r.check(t, "a prefix of the log twice, and all of it")
	}
	if !t.Failed() {
		t.Logf("%d events, of %s; %d replays: 0 bytes changed in %d rows", r.events, r.types, r.replays, len(r.want))
	}
}

// everyType has users say in a chat all that there is to say.
func (w *groupWorld) everyType(t *testing.T, chat string) {
	t.Helper()
	u0, u1 := w.talks["u0"], w.talks["u1"]
	send := func(c *harness.Talker, members string, args ...any) uint64 {
		t.Helper()
		return c.Do(`{"t":"send","id":"%s","chat":"%s",%s}`, harness.NewID(), chat, fmt.Sprintf(members, args...)).Seq
	}
	const said = `"body":{"kind":"text","text":"said"}`
	root := send(u0, `"type":"message",`+said)
	send(u1, `"type":"message","replyTo":%d,"thread":%d,"mentions":["*"],`+said, root, root)
	gone := send(u0, `"type":"message","ttl":86400,`+said)
	send(u0, `"type":"edit","target":%d,`+said, gone)
	opaque := send(u1, `"type":"message","body":{"kind":"opaque","scheme":"mls","data":"AAAA"}`)
	for _, c := range []*harness.Talker{u0, u1} {
		for _, target := range []uint64{root, gone, opaque} {
			for _, remove := range []bool{false, true, false} {
				send(c, `"type":"reaction","target":%d,"emoji":"👍","remove":%t`, target, remove)
			}
		}
		send(c, `"type":"pin","target":%d`, root)
		send(c, `"type":"pin","target":%d,"remove":true`, root)
		send(c, `"type":"pin","target":%d`, opaque)
	}
	for range 3 {
		send(u0, `"type":"edit","target":%d,`+said, root)
		send(u1, `"type":"edit","target":%d,"body":{"kind":"opaque","scheme":"mls","data":"BBBB"}`, opaque)
	}
	send(u1, `"type":"delete","target":%d`, opaque)
}

// redelivery gives a store events that it has.
type redelivery struct {
	parts *harness.Parts
	log   *streams.Log
	want  []string

	events, replays int
	types           string
}

// AwaitStored returns when the store has all that the log has.
func (r *redelivery) awaitStored(t *testing.T) {
	t.Helper()
	st := r.parts.Reader(t)
	defer st.Close()
	harness.AwaitStored(t, r.log, st)
}

func (r *redelivery) end(t *testing.T, worker *harness.WorkerChild) {
	t.Helper()
	worker.Signal(t, syscall.SIGTERM)
	if state := worker.WaitExit(t); !state.Success() {
		t.Fatalf("%s ended with %s", worker.Name, state)
	}
}

// setBack has the store say that it has of each shard a prefix only.
func (r *redelivery) setBack(t *testing.T) (ends map[string]uint64) {
	t.Helper()
	ends = map[string]uint64{}
	for _, shard := range r.log.Layout().All() {
		first, last, err := r.log.Bounds(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		ends[shard.Token] = first + rand.Uint64N(last+1-first)
		sqlitetest.Exec(t, r.parts.Store, fmt.Sprintf("UPDATE shards SET committed = %d WHERE shard = '%s'", ends[shard.Token], shard.Token))
	}
	return ends
}

// rebuild applies the log up to these ends, or all of it.
func (r *redelivery) rebuild(t *testing.T, ends map[string]uint64) {
	t.Helper()
	r.replays++
	st, err := sqlite.Open(t.Context(), r.parts.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	rebuilder, err := rebuild.New(rebuild.Config{
		JetStream: r.parts.Env.JetStream, Log: prefixLog{r.log, ends}, Layout: r.log.Layout(), Store: st, BatchEventsMax: 1 + rand.IntN(50),
	})
	if err == nil {
		err = rebuilder.Run(t.Context())
	}
	if err != nil {
		t.Fatalf("rebuild up to %v: %v", ends, err)
	}
}

// prefixLog is a log of which each shard ends at a sequence, if one is named.
type prefixLog struct {
	*streams.Log
	ends map[string]uint64
}

func (l prefixLog) Bounds(ctx context.Context, shard streams.Shard) (first, last uint64, err error) {
	first, last, err = l.Log.Bounds(ctx, shard)
	if end, ok := l.ends[shard.Token]; ok {
		last = min(last, end)
	}
	return first, last, err
}

func (r *redelivery) check(t *testing.T, what string) {
	t.Helper()
	r.replays++
	if diff := cmp.Diff(r.want, sqlitetest.Dump(t, r.parts.Store)); diff != "" {
		t.Fatalf("%s changed the store (-before +after):\n%.3000s", what, diff)
	}
	if r.events > 0 {
		return
	}
	var types []string
	for _, typ := range []schemas.EventType{schemas.Message, schemas.Edit, schemas.Delete, schemas.React, schemas.Pin, schemas.MemberEvent, schemas.GroupEvent} {
		n := 0
		for _, row := range r.want {
			if strings.HasPrefix(row, "events ") && strings.Contains(row, fmt.Sprintf(` {"type":%q`, typ)) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("no %s is among the events", typ)
		}
		types = append(types, fmt.Sprintf("%d %s", n, typ))
		r.events += n
	}
	r.types = strings.Join(types, ", ")
}

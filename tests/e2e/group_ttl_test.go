//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/tests/harness"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
)

// What disappears is gone wherever it was: from the log, from pages of what is
// stored and of what is not, from the tables, from lists of chats, and from what a
// session resumes.
func TestDisappearingMessagesAreGoneEverywhere(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 1)
	p.StartWorker(t, "query,chats,users")
	e := p.StartEdge(t, "edge-0")
	d := &disappearing{parts: p, edge: e, users: map[string]*harness.Talker{"u0": e.Talk(t, "u0"), "u1": e.Talk(t, "u1")}}
	_, d.log = p.Log(t)
	d.chats = []string{"direct.u0.u1", d.users["u0"].Do(`{"t":"create","id":"team","name":"Team","members":["u1"]}`).Chat}
	for _, user := range d.users {
		user.AwaitFrame(func(f harness.Frame) bool { return f.T == schemas.TEvent && f.Chat == d.chats[1] })
	}

	d.say(t, "in the log alone")
	d.wantGone(t)
	p.StartWorker(t, "persist")
	d.wantGone(t)
	d.say(t, "stored")
	harness.AwaitStored(t, d.log, d.parts.Reader(t))
	d.wantGone(t)
	// Workers sweep each minute; this one does it at once.
	if rows := len(d.rows(t)); rows == 0 {
		t.Error("what was said before the store was swept is in no row")
	}
	sweeping, err := sqlite.Open(t.Context(), p.Store, sqlite.SweepEvery(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer sweeping.Close()
	harness.Eventually(t, "the tables have nothing of it", func() bool { return len(d.rows(t)) == 0 })
	if !t.Failed() {
		t.Logf("%d messages, %d edits, shown in %d pages before: 0 left in the log, 0 in %d pages, 0 in %d resumes, 0 in %d lists, 0 rows",
			d.said, d.edits, d.shown, d.pages, d.resumes, d.lists)
	}
}

// vanishing is in every text that disappears.
const vanishing = "vanishing"

type disappearing struct {
	parts *harness.Parts
	edge  *harness.EdgeChild
	log   *streams.Log
	users map[string]*harness.Talker
	chats []string
	seqs  []uint64 // of what disappears

	said, edits, shown, pages, resumes, lists int
}

// say says in every chat something that stays, and something that does not.
func (d *disappearing) say(t *testing.T, how string) {
	t.Helper()
	u0, u1 := d.users["u0"], d.users["u1"]
	for _, chat := range d.chats {
		u0.Send(chat, "it stays")
		for ttl := 1; ttl <= 2; ttl++ {
			text := fmt.Sprintf("%s %s in %d s", vanishing, how, ttl)
			seq := u0.Do(`{"t":"send","id":"%s","chat":"%s","type":"message","ttl":%d,"body":{"kind":"text","text":%q}}`, harness.NewID(), chat, ttl, text).Seq
			u1.AwaitEvent(chat, seq)
			d.said++
			d.seqs = append(d.seqs, seq)
			edit := u0.Ask(`{"t":"send","id":"%s","chat":"%s","type":"edit","target":%d,"body":{"kind":"text","text":%q}}`, harness.NewID(), chat, seq, text+", edited")
			if edit.T == schemas.TAck {
				d.edits++
				d.seqs = append(d.seqs, edit.Seq)
			}
			for _, f := range []harness.Frame{edit, u1.Ask(`{"t":"send","id":"%s","chat":"%s","type":"reaction","target":%d,"emoji":"👍"}`, harness.NewID(), chat, seq)} {
				if f.T != schemas.TAck && f.Code != schemas.NotFound { // it may be gone by now
					t.Errorf("a change of what disappears is answered with %v", f)
				}
			}
		}
		if strings.Contains(u1.Do(`{"t":"history","chat":"%s"}`, chat).Text, vanishing) {
			d.shown++
		}
	}
}

// wantGone waits until the log has nothing of it, and finds it nowhere else.
func (d *disappearing) wantGone(t *testing.T) {
	t.Helper()
	for _, seq := range d.seqs {
		harness.Eventually(t, fmt.Sprintf("%d has disappeared from the log", seq), func() bool {
			_, err := d.log.Sequence(t.Context(), d.log.Layout().At(0), seq)
			return errors.Is(err, streams.ErrGone)
		})
	}
	for user, c := range d.users {
		for _, chat := range d.chats {
			for _, request := range []string{`"limit":200`, `"limit":200,"raw":true`, `"after":0,"limit":200`} {
				d.pages++
				f := c.Do(`{"t":"history","chat":"%s",%s}`, chat, request)
				if strings.Contains(f.Text, vanishing) || !strings.Contains(f.Text, "it stays") {
					t.Errorf("%s reads of %s: %s", user, chat, f.Text)
				}
			}
			d.resumes++
			events, resumed := resumeAt(t, d.edge.URL, d.edge.Token(t, user), chat, 1)
			stays := slices.ContainsFunc(events, func(f harness.Frame) bool { return strings.Contains(f.Text, "it stays") })
			if !stays || len(resumed.Reset) > 0 || slices.ContainsFunc(events, func(f harness.Frame) bool { return strings.Contains(f.Text, vanishing) }) {
				t.Errorf("%s resumes %s with %v, %+v", user, chat, events, resumed)
			}
		}
		d.lists++
		if f := c.Do(`{"t":"chats"}`); strings.Contains(f.Text, vanishing) {
			t.Errorf("%s lists %s", user, f.Text)
		}
	}
}

// rows are those that have something of what disappears.
func (d *disappearing) rows(t *testing.T) []string {
	return slices.DeleteFunc(sqlitetest.Dump(t, d.parts.Store), func(row string) bool { return !strings.Contains(row, vanishing) })
}

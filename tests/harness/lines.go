package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/clients/parley"
	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// Line is one message of a chat, as far as everybody has to agree on it.
type Line struct {
	Seq  uint64
	From string
	ID   string
}

func (l Line) String() string { return fmt.Sprintf("%d %s/%s", l.Seq, l.From, l.ID) }

// CheckAcked finds every acknowledged send of user, once, at the acknowledged seq.
func CheckAcked(t testing.TB, user string, acked map[string]uint64, all []Line) {
	t.Helper()
	found := map[string]uint64{}
	for _, l := range all {
		if l.From != user {
			continue
		}
		if first, twice := found[l.ID]; twice {
			t.Errorf("%s of %s is there twice: at %d and %d", l.ID, user, first, l.Seq)
		}
		found[l.ID] = l.Seq
	}
	for id, seq := range acked {
		if found[id] != seq {
			t.Errorf("%s of %s was acknowledged at %d, and is at %d (0: nowhere)", id, user, seq, found[id])
		}
	}
}

// CheckSame wants got, which who has of the chat, to be what the log has of it.
func CheckSame(t testing.TB, chat schemas.Chat, who string, got, want []Line) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	show := func(lines []Line) string {
		return strings.Trim(fmt.Sprint(lines[min(max(at-2, 0), len(lines)):min(at+3, len(lines))]), "[]")
	}
	t.Errorf("%s: %s has %d messages, the log %d; they part at %d:\n%s\n%s", chat, who, len(got), len(want), at, show(got), show(want))
}

// ReadLog returns all of a chat's log, which has something.
func ReadLog(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []Line) {
	t.Helper()
	if lines = Logged(t, log, chat); len(lines) == 0 {
		t.Fatalf("the log has nothing of %s", chat)
	}
	return lines
}

// readLeaderLog is ReadLog up to what the stream's leader has: a replica that
// answers may still be behind it.
func readLeaderLog(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []Line) {
	t.Helper()
	EventuallyWithin(t, ChildWithin, fmt.Sprintf("the log of %s is read to its end", chat), func() bool {
		last, _, err := log.Last(t.Context(), chat)
		if err != nil {
			return false
		}
		lines = ReadLog(t, log, chat)
		return lines[len(lines)-1].Seq >= last
	})
	return lines
}

// Logged returns all of a chat's log, which may be nothing.
func Logged(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []Line) {
	t.Helper()
	after := uint64(0)
	for {
		events, more, err := log.After(t.Context(), chat, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			after = ev.Seq
		}
		if !more {
			return lines
		}
	}
}

// ReadStore returns all that the store has of a chat, and checks prev and n.
func ReadStore(t testing.TB, st StoreReader, chat schemas.Chat) (lines []Line) {
	t.Helper()
	ask := store.Range{Forward: true, Limit: 1000}
	for {
		events, more, err := st.Page(t.Context(), chat, ask)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			checkPlace(t, chat, "the store", ev.Seq, ev.Prev, ev.N, lines)
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			ask.After = ev.Seq
		}
		if !more {
			return lines
		}
	}
}

// ReadHistory returns all of a chat as a client reads it, and checks prev and n.
func ReadHistory(t testing.TB, at Place, user string, chat schemas.Chat) (lines []Line) {
	t.Helper()
	client := at.Dial(t, user, parley.Options{})
	defer client.Close()
	for after := uint64(0); ; {
		page, err := client.History(t.Context(), schemas.History{Chat: chat, After: &after, Limit: new(int64(schemas.PageEventsMax))})
		if err != nil {
			t.Fatalf("history of %s after %d: %v", chat, after, err)
		}
		for _, ev := range page.Events {
			checkPlace(t, chat, "history", ev.Seq, ev.Prev, ev.N, lines)
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			after = ev.Seq
		}
		if !page.More {
			return lines
		}
	}
}

// checkPlace wants the next message after before to be numbered so.
func checkPlace(t testing.TB, chat schemas.Chat, who string, seq, prev, n uint64, before []Line) {
	t.Helper()
	wantPrev := uint64(0)
	if len(before) > 0 {
		wantPrev = before[len(before)-1].Seq
	}
	if prev != wantPrev || seq <= wantPrev || n != uint64(len(before))+1 {
		t.Fatalf("%s: %s has seq %d, prev %d, n %d after %d messages up to %d", chat, who, seq, prev, n, len(before), wantPrev)
	}
}

func lineOf(t testing.TB, seq uint64, text []byte) Line {
	t.Helper()
	ev, err := schemas.DecodeEvent(text)
	if err != nil {
		t.Fatal(err)
	}
	return Line{seq, ev.From.String(), ev.ID.String()}
}

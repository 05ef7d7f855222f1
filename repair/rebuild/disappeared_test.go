package rebuild

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/workers/persist/foldtest"
	"parley/workers/store/sqlite/sqlitetest"
)

// Of a chat whose messages disappear, the row of its first event in the log tells
// how many came before it. Where that is gone too, and the chat did not begin
// there, the rebuild is refused.
func TestRebuildOfWhatDisappeared(t *testing.T) {
	t.Parallel()
	chat := schemas.DirectChat(foldtest.User("alice"), foldtest.User("bob0"))
	for _, test := range []struct {
		name    string
		ttls    string // which of 7 messages disappear
		expired uint64 // how many the log has lost by age
		damage  string
		refused bool
	}{
		{"rows behind the log's first are gone", "-tt----", 3, "DELETE FROM events WHERE seq > %d", false},
		{"nothing is gone", "-tt-t--", 3, "DELETE FROM edits WHERE seq > %d", false},
		{"all before the log have disappeared", "ttt----", 3, "DELETE FROM events WHERE seq > %d", false},
		{"the row of the log's first event is gone", "-tt----", 3, "DELETE FROM events WHERE seq >= %d", true},
		{"the row of the log's first event is damaged", "-tt----", 3, "UPDATE events SET n = n + 3, author = 'mallory' WHERE seq = %d", true},
		{"the chat begins in the log, and what follows disappeared", "-tt----", 0, "DELETE FROM buckets WHERE first_seq = %d", false},
		{"the chat begins in the log, and its last disappeared", "-----tt", 0, "DELETE FROM events WHERE seq >= %d", false},
		{"the head is gone, and messages within the log", "--t-t--", 1, "DELETE FROM chats WHERE last_seq > %d", false},
		{"the head is gone, and messages before the log", "-t-----", 2, "DELETE FROM chats WHERE last_seq > %d", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := disappearingLog(chat, test.ttls)
			path := filepath.Join(t.TempDir(), "parley.db")
			now := foldtest.Start
			st := foldtest.OpenStore(t, path, func() time.Time { return now })
			defer st.Close()
			if err := rebuildFrom(t, log, st); err != nil { // of an empty store: what persist makes
				t.Fatal(err)
			}
			now = foldtest.Start.Add(time.Minute)
			log.Expired = log.First + test.expired
			for i, kind := range test.ttls {
				if kind == 't' {
					log.Msgs[i] = nil
				}
			}
			sqlitetest.Exec(t, path, "DELETE FROM events WHERE expires > 0")
			sqlitetest.Exec(t, path, "UPDATE chats SET last_event = '' WHERE last_expires > 0")
			want := withoutSizes(t, path)
			sqlitetest.Exec(t, path, fmt.Sprintf(test.damage, log.Expired))
			damaged := sqlitetest.Dump(t, path)
			err := rebuildFrom(t, log, st)
			if errors.Is(err, ErrBeyondLog) != test.refused || !test.refused && err != nil || test.refused && !strings.Contains(err.Error(), "have disappeared") {
				t.Fatalf("%v; want it refused: %t", err, test.refused)
			}
			if test.refused {
				if got := sqlitetest.Dump(t, path); !slices.Equal(got, damaged) {
					t.Errorf("it was refused and changed the store:\n%s", strings.Join(got, "\n"))
				}
				return
			}
			if got := withoutSizes(t, path); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// disappearingLog is the log of a chat with a message for each letter of ttls. A t is a
// message that disappears.
func disappearingLog(chat schemas.Chat, ttls string) *foldtest.Log {
	log := &foldtest.Log{First: foldtest.Layout.At(0).FirstSeq()}
	for i, kind := range ttls {
		ttl := ""
		if kind == 't' {
			ttl = `,"ttl":30`
		}
		log.Msgs = append(log.Msgs, &jetstream.RawStreamMsg{Subject: foldtest.Layout.At(0).Timeline(chat), Sequence: log.First + uint64(i),
			Time: foldtest.Start.Add(time.Duration(i) * time.Second), Data: fmt.Appendf(nil, `{"type":"message","id":"m%d","from":"alice","body":{}%s}`, i, ttl)})
	}
	return log
}

// withoutSizes dumps a store without the sizes of buckets: what disappeared takes no room.
func withoutSizes(t *testing.T, path string) []string {
	t.Helper()
	masked := filepath.Join(t.TempDir(), "masked.db")
	sqlitetest.Exec(t, path, fmt.Sprintf("VACUUM INTO '%s'", masked))
	sqlitetest.Exec(t, masked, "UPDATE chats SET bucket_events = 0, bucket_bytes = 0")
	return sqlitetest.Dump(t, masked)
}

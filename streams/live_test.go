package streams_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"parley/streams"
)

func TestOnlyWhatTheLogRepublishedIsRead(t *testing.T) {
	t.Parallel()
	chat := parseChat(t, "direct.alice.bob")
	republished := func(subject string) nats.Header {
		return nats.Header{"Nats-Subject": {subject}, "Nats-Sequence": {"42"}, "Nats-Last-Sequence": {"7"}, "Nats-Time-Stamp": {"2026-11-24T03:39:16.387092238Z"}}
	}
	tests := []struct {
		name   string
		header nats.Header
		want   streams.Stored
		ok     bool
	}{
		{"event", republished("chat.3.direct.alice.bob.timeline"), streams.Stored{Seq: 42, Prev: 7, Time: "2026-11-24T03:39:16.387092238Z"}, true},
		{"event of another chat", republished("chat.3.direct.alice.carol.timeline"), streams.Stored{}, false},
		{"event of another stream", republished("dead.persist.chat.3.direct.alice.bob.timeline"), streams.Stored{}, false},
		{"hint", streams.Hint(chat, 42).Header, streams.Stored{Seq: 42, Hint: true}, true},
		{"no sequence", nats.Header{"Nats-Subject": {"chat.3.direct.alice.bob.timeline"}}, streams.Stored{}, false},
		{"nothing", nil, streams.Stored{}, false},
	}
	for _, tt := range tests {
		if stored, ok := streams.ParseStored(chat, tt.header); stored != tt.want || ok != tt.ok {
			t.Errorf("%s reads as %+v, %v; want %+v, %v", tt.name, stored, ok, tt.want, tt.ok)
		}
	}
}

package streams_test

import (
	"testing"

	"parley/schemas"
	"parley/streams"
)

func TestAChatStaysInItsShardForEver(t *testing.T) {
	t.Parallel()
	// Other shards than these would hide every chat's log.
	layout := streams.NewLayout(8)
	for name, want := range map[string]string{
		"direct.alice.bob": "CHAT_3", "direct.alice.alice": "CHAT_0", "group.team": "CHAT_7",
	} {
		if got := layout.Shard(parseChat(t, name)).Stream(); got != want {
			t.Errorf("%s is in %s, want %s", name, got, want)
		}
	}
	if got := streams.NewLayout(8).Remade(3, 2).At(3).Stream(); got != "CHAT_2_3" {
		t.Errorf("shard 3 of generation 2 is %s", got)
	}
}

// A system that was provisioned before generations were counted by shard is read as it is.
func TestShardsAreReadBackAsTheyWereNamed(t *testing.T) {
	t.Parallel()
	for generation := range 3 {
		for index := range streams.ShardsMax {
			want := streams.NewShard(generation+1, index)
			if got, ok := streams.ParseStream(want.Stream()); !ok || got != want {
				t.Fatalf("%s was read as %v, %v", want.Stream(), got, ok)
			}
			if first := want.FirstSeq(); first > schemas.SeqMax {
				t.Fatalf("%s begins at %d", want.Stream(), first)
			}
		}
	}
	for _, token := range []string{"", "64", "-1", "01", "1_0", "0_0", "2_", "2_64", "_3", "2_3_4", "02_3", "+3", "a", "9000_1"} {
		if shard, ok := streams.ParseShard(token); ok {
			t.Errorf("token %q was read as %v", token, shard)
		}
	}
}

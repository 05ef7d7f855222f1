package replay_test

import (
	"testing"
	"time"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/workerstest"
)

// What was given up on before the loss can be replayed after it.
func TestLettersOfALostShardAreReplayed(t *testing.T) {
	t.Parallel()
	w := world{workerstest.NewWorld(t, streamstest.Options{Administrator: true, Settings: streams.Settings{Shards: 2}})}
	w.Say(10, 1)
	w.PersistAll()
	w.WantStored()
	lost := w.Layout.Shard(workerstest.ChatNo(0))
	seq := w.Publish(workerstest.ChatNo(0), workerstest.MessageJSON("late"))
	for _, letter := range []dead.Letter{
		{Seq: seq, Subject: lost.Timeline(workerstest.ChatNo(0)), Data: workerstest.MessageJSON("late")},
		{Seq: seq + 1, Subject: w.Layout.At(1 - lost.Index).Timeline(workerstest.ChatNo(0)), Data: workerstest.MessageJSON("strayed")}, // was never there
	} {
		letter.Consumer, letter.Stream, letter.Reason, letter.Time = streams.PersistConsumer, lost.Stream(), "test", time.Now()
		if err := dead.Bury(t.Context(), w.JetStream, letter); err != nil {
			t.Fatal(err)
		}
	}
	if refused := w.replay(w.Store); len(refused) != 2 {
		t.Errorf("refused: %v; want both: persist may come to them", refused)
	}
	w.Lose(lost)
	if refused := w.replay(w.Store); len(refused) != 1 || refused[seq+1] == nil {
		t.Errorf("refused: %v; want only the one that strayed", refused)
	}
	rows := workerstest.Stored(w.T, w.Store, workerstest.ChatNo(0))
	if len(rows) != 11 || rows[10].Seq != seq || rows[10].N != 10 {
		t.Errorf("%d rows, want 11 up to %d, which is not counted", len(rows), seq)
	}
	w.Sent[workerstest.ChatNo(0)] = nil
	w.Persist()
	w.Say(5, 1)
	w.WaitCommitted()
	if rows := workerstest.Stored(w.T, w.Store, workerstest.ChatNo(0)); len(rows) != 16 || rows[11].Prev != seq || rows[15].N != 15 {
		t.Errorf("%d rows, want 16 that go on after %d", len(rows), seq)
	}
}

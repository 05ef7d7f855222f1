package check_test

import (
	"testing"

	"parley/streams"
	"parley/workers/dead"
)

func countLetters(t testing.TB, w *world) (n int) {
	t.Helper()
	for _, err := range dead.List(t.Context(), w.JetStream, streams.PersistConsumer) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

package harness

import (
	"testing"
	"time"
)

// ChildWithin bounds what only a defect makes a child take.
const ChildWithin = 90 * time.Second

// Eventually tries until done is true, and fails after a time that only a defect needs.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	EventuallyWithin(t, eventuallyWithin, what, done)
}

// eventuallyWithin is the bound of [Eventually].
const eventuallyWithin = 30 * time.Second

// EventuallyWithin is [Eventually] with a bound of its own.
func EventuallyWithin(t testing.TB, bound time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

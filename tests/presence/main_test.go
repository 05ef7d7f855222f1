// Package presence tests who is shown as online while edges, workers and NATS go away and come back.
package presence

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

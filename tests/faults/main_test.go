// Package faults kills, stops, fills and cuts off the parts of a server under load.
package faults

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Package model has users change groups at random, and compares what everybody sees with a model
// that follows the log.
package model

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Package commands tests the commands of operators as processes: bench, check, rebuild, drain, and starts
// that must not succeed.
package commands

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

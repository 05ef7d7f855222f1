// Package e2e tests what users do, from their sessions to the rows of the store.
package e2e

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

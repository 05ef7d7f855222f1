// Package docs holds the documents against the code: the protocol, the page for integrators, and the architecture.
package docs

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

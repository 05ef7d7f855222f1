// Package production tests a system as operators run it: three NATS servers, Cassandra, two edges and two workers.
package production

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Package proxy tests edges behind HAProxy with deploy/haproxy.cfg.
package proxy

import (
	"testing"

	"parley/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

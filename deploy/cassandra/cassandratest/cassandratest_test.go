package cassandratest

import "testing"

func TestTry(t *testing.T) { t.Log(Shared(t)); t.Log(Shared(t)) }

package harness

import (
	"flag"
	"time"
)

// Flags of every test binary that imports this package, for `just faults`.
var (
	FaultRounds = flag.Int("fault-rounds", 1, "how often each fault is made")
	FaultPause  = flag.Duration("fault-pause", 3*time.Second, "how long a part is stopped")
)

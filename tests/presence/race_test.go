//go:build race

package presence

// slowness stretches every time of these tests: the race detector slows an edge that
// reconnects, and the time that its keys have left must cover that.
const slowness = 2

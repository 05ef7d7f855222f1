//go:build !race

package presence

const slowness = 1

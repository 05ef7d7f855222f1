//go:build unix && !linux

package harness

import "syscall"

// ChildAttributes has nothing to add here: a child ends with its test's cleanup.
func ChildAttributes() *syscall.SysProcAttr { return nil }

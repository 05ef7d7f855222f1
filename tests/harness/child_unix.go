//go:build unix && !linux

package main

import "syscall"

// childAttributes has nothing to add here: a child ends with its test's cleanup.
func childAttributes() *syscall.SysProcAttr { return nil }

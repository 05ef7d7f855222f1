//go:build unix && !linux

package main

import "syscall"

// childAttributes keep a terminal's Ctrl-C from a child: the cluster ends its parts in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

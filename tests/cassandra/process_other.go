//go:build !linux

package cassandra

import "syscall"

// childAttributes can not bind the JVM to its owner here: it ends only with Kill or Stop.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

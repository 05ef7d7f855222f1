package main

import "syscall"

// childAttributes let a child end with this process, however that ends. Its own
// session keeps a terminal's Ctrl-C from it: the cluster ends its parts in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

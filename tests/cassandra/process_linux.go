package cassandra

import "syscall"

// childAttributes let the JVM end with its owner, however that ends: the kernel kills it when
// the thread that started it is gone. Its own session keeps a terminal's Ctrl-C from it, so
// that the owner decides when to stop it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

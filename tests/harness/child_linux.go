package harness

import "syscall"

// ChildAttributes let a child end with the test process, however that ends.
func ChildAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

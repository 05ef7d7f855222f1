package edge

import "syscall"

// rawWrite does non-blocking writes without an allocation each.
type rawWrite struct {
	call func(fd uintptr) bool
	data []byte
	n    int
	err  error
}

func (w *rawWrite) init() {
	w.call = func(fd uintptr) bool {
		w.n, w.err = syscall.Write(int(fd), w.data)
		return true // done, whatever came: never wait for room here
	}
}

// once writes what the kernel takes of data now, which may be nothing.
func (w *rawWrite) once(conn syscall.RawConn, data []byte) (int, error) {
	w.data = data
	err := conn.Write(w.call)
	w.data = nil
	switch {
	case err != nil:
		return 0, err
	case w.err == syscall.EAGAIN || w.err == syscall.EINTR:
		return 0, nil
	case w.err != nil:
		return 0, w.err
	}
	return w.n, nil
}

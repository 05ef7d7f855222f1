//go:build unix

package harness

import (
	"path/filepath"
	"testing"

	"parley/streams"
)

// DevChild is `parley dev` as a process, on addresses that stay over restarts.
type DevChild struct {
	*Child
	Admin, NATS string // addresses, as host:port
	Data        string // directory
	Flags       []string

	listen string
}

// StartDevChild starts the server in data and waits until it is ready. Where
// data is empty it is a fresh directory.
func StartDevChild(t testing.TB, data string, flags ...string) *DevChild {
	t.Helper()
	if data == "" {
		data = filepath.Join(t.TempDir(), "data")
	}
	d := &DevChild{listen: FreeAddress(t), Admin: FreeAddress(t), NATS: FreeAddress(t), Data: data, Flags: flags}
	d.Start(t)
	d.WaitReady(t)
	return d
}

// Start starts the server once more, after it ended, with the flags of now.
func (d *DevChild) Start(t testing.TB) {
	t.Helper()
	d.Child = StartChild(t, nil, append([]string{
		"--log-level=warn", "dev", "--listen=" + d.listen, "--admin=" + d.Admin, "--nats-listen=" + d.NATS, "--data=" + d.Data,
		"--user-rate=0", "--address-rate=0",
	}, d.Flags...)...)
}

// Place is where clients of the server connect.
func (d *DevChild) Place(t testing.TB) Place {
	t.Helper()
	return Place{URL: "http://" + d.listen, Secret: readSecret(t, d.Data)}
}

// Log reads a dev server's log.
func (d *DevChild) Log(t testing.TB) *streams.Log {
	t.Helper()
	passwords, err := streams.ReadPasswords(d.Data)
	if err != nil {
		t.Fatal(err)
	}
	_, log := OpenLog(t, []string{"nats://" + d.NATS}, passwords)
	return log
}

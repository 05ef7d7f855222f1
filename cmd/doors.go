package cmd

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"parley/edge"
)

// doors are where an edge is reached: by operators, from the start, and by clients.
type doors struct {
	admin   *admin
	clients net.Listener
	edge    atomic.Pointer[edge.Edge] // nil until it has started: it is not ready
}

// openDoors listens at both addresses.
func openDoors(admin, clients string) (*doors, error) {
	d := &doors{}
	var err error
	if d.admin, err = startAdmin(admin, d.ready); err != nil {
		return nil, err
	}
	if d.clients, err = listen("listen", clients); err != nil {
		return nil, errors.Join(err, d.admin.Close())
	}
	return d, nil
}

func (d *doors) ready(context.Context) error {
	e := d.edge.Load()
	if e == nil {
		return errors.New("starting")
	}
	if reason, ok := e.Ready(); !ok {
		return errors.New(reason)
	}
	return nil
}

// url is where clients connect.
func (d *doors) url() string { return "http://" + d.clients.Addr().String() }

// Close closes both. The edge may have closed its own before.
func (d *doors) Close() {
	_ = d.clients.Close()
	_ = d.admin.Close()
}

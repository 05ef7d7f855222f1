package cmd

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
)

// withJetStream connects for the time of f.
func withJetStream(p *process, flags natsFlags, component streams.Component, data string, f func(jetstream.JetStream) error) error {
	connect, err := flags.config(component, data)
	if err != nil {
		return err
	}
	connect.Log = p.log
	conn, err := streams.Connect(p.ctx, connect)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return f(js)
}

// withLogAndStore connects to the log and opens the store, which is migrated, for the time of f.
func withLogAndStore(p *process, flags natsFlags, data string, store storeFlag, f func(js jetstream.JetStream, layout streams.Layout, st permanentStore) error) error {
	return withJetStream(p, flags, streams.WorkerComponent, data, func(js jetstream.JetStream) error {
		layout, err := streams.LoadLayout(p.ctx, js)
		if err != nil {
			return err
		}
		st, err := store.openMigrated(p.ctx, p.log)
		if err != nil {
			return err
		}
		defer st.Close()
		return f(js, layout, st)
	})
}

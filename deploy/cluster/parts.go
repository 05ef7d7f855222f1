//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"parley/streams"
	"parley/tests/cassandra"
)

// natsReplicas is how many NATS servers there are, and copies of each stream.
const natsReplicas = 3

// startNATS starts the servers with the command line that the head of nats.conf tells.
func (c *cluster) startNATS(context.Context) error {
	var routes []string
	for i := range natsReplicas {
		routes = append(routes, c.route(fmt.Sprintf("nats-%d route", i+1)))
	}
	for i := range natsReplicas {
		name := fmt.Sprintf("nats-%d", i+1)
		p := c.process(name, c.programs.natsServer, c.natsEnvironment(),
			"--config="+filepath.Join(c.programs.root, "nats.conf"), "--name="+name,
			"--addr=127.0.0.1", "--port="+c.ports.text(name), "--http_port="+c.ports.text(name+" monitor"),
			"--store_dir="+filepath.Join(c.dir, name),
			"--cluster_name=parley", "--cluster="+c.route(name+" route"), "--routes="+strings.Join(routes, ","))
		p.show = c.showNATS
		if err := p.start(); err != nil {
			return err
		}
		c.nats = append(c.nats, p)
	}
	return nil
}

// showNATS leaves out what servers say while they look for each other, or go:
// hundreds of lines, all of which are in the log.
func (c *cluster) showNATS(line []byte) bool {
	return bytes.Contains(line, []byte("[FTL]")) || c.up.Load() && !bytes.Contains(line, []byte("[INF]"))
}

func (c *cluster) route(port string) string {
	return fmt.Sprintf("nats://routes:%s@%s", c.secrets.routes, c.ports.address(port))
}

// natsEnvironment has every password: nats.conf reads them.
func (c *cluster) natsEnvironment() []string {
	var environment []string
	for _, component := range streams.Components() {
		environment = append(environment, c.password(component))
	}
	return environment
}

func (c *cluster) password(component streams.Component) string {
	return component.PasswordVariable() + "=" + c.secrets.nats.Of(component)
}

// awaitNATS returns when each server knows the cluster's leader.
func (c *cluster) awaitNATS(ctx context.Context) error {
	for _, p := range c.nats {
		if err := p.await(ctx, "http://"+c.ports.address(p.name+" monitor")+"/healthz"); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) startCassandra(ctx context.Context) (err error) {
	c.cassandra, err = cassandra.Start(ctx, cassandra.Config{
		Dir: filepath.Join(c.dir, "cassandra"), Port: c.ports["cassandra"], StoragePort: c.ports["cassandra storage"],
	})
	return err
}

func (c *cluster) storeURL() string {
	if c.cassandra == nil {
		return "sqlite://" + filepath.Join(c.dir, "parley.db")
	}
	return "cql://" + c.cassandra.Address() + "/parley"
}

// workerEnvironment is that of workers and migrate.
func (c *cluster) workerEnvironment() []string {
	return []string{c.natsURLs(), c.password(streams.WorkerComponent), fmt.Sprintf("PARLEY_REPLICAS=%d", natsReplicas), "PARLEY_STORE=" + c.storeURL()}
}

func (c *cluster) natsURLs() string {
	var urls []string
	for _, p := range c.nats {
		urls = append(urls, "nats://"+c.ports.address(p.name))
	}
	return "PARLEY_NATS=" + strings.Join(urls, ",")
}

// shardBytesMax of each chat stream, reserved three times on this one disk.
const shardBytesMax = 256 << 20

func (c *cluster) migrate(ctx context.Context) error {
	p := c.process("migrate", c.programs.parley, c.workerEnvironment(),
		"migrate", fmt.Sprintf("--shards=%d", c.Shards), fmt.Sprintf("--max-bytes=%d", shardBytesMax))
	if err := p.start(); err != nil {
		return err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		_ = p.stop() // it is safe at any point, and ends by its own context
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("parley migrate ended: %s: %s has what it said", p.cmd.ProcessState, p.logFile)
	}
	return nil
}

func (c *cluster) startWorkers(ctx context.Context) error {
	for i := range 2 {
		name := fmt.Sprintf("worker-%d", i+1)
		p := c.process(name, c.programs.parley, c.workerEnvironment(), "worker", "--admin="+c.ports.address(name+" admin"))
		if err := p.start(); err != nil {
			return err
		}
		c.workers = append(c.workers, p)
	}
	return c.awaitReady(ctx, c.workers)
}

func (c *cluster) startEdges(ctx context.Context) error {
	environment := []string{
		c.natsURLs(), c.password(streams.EdgeComponent), fmt.Sprintf("PARLEY_REPLICAS=%d", natsReplicas), "PARLEY_AUTH_SECRET=" + c.secrets.auth,
	}
	for i := range 2 {
		name := fmt.Sprintf("edge-%d", i+1)
		p := c.process(name, c.programs.parley, environment, "edge", "--node="+name,
			"--listen="+c.ports.address(name), "--admin="+c.ports.address(name+" admin"), "--trusted-proxy=127.0.0.1", "--demo-page")
		if err := p.start(); err != nil {
			return err
		}
		c.edges = append(c.edges, p)
	}
	return c.awaitReady(ctx, c.edges)
}

func (c *cluster) awaitReady(ctx context.Context, group []*process) error {
	for _, p := range group {
		if err := p.await(ctx, "http://"+c.ports.address(p.name+" admin")+"/readyz"); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) startProxy(ctx context.Context) error {
	environment := []string{
		"PARLEY_PROXY_LISTEN=" + c.Listen, "PARLEY_PROXY_STATS=" + c.ports.address("haproxy stats"), "PARLEY_PROXY_MAXCONN=1000",
		"PARLEY_EDGE_1=" + c.ports.address("edge-1"), "PARLEY_EDGE_1_ADMIN_PORT=" + c.ports.text("edge-1 admin"),
		"PARLEY_EDGE_2=" + c.ports.address("edge-2"), "PARLEY_EDGE_2_ADMIN_PORT=" + c.ports.text("edge-2 admin"),
	}
	p := c.process("haproxy", c.programs.haproxy, environment, "-db", "-f", filepath.Join(c.programs.root, "deploy", "haproxy.cfg"))
	// What it says of its servers, it logs on standard output too.
	p.show = func(line []byte) bool { return !c.up.Load() || !bytes.HasPrefix(line, []byte("[WARNING]")) }
	if err := p.start(); err != nil {
		return err
	}
	c.proxies = append(c.proxies, p)
	return p.await(ctx, "http://"+c.Listen+"/")
}

// process has the environment of this one, without what configures parley, and more.
func (c *cluster) process(name, path string, environment []string, args ...string) *process {
	var inherited []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PARLEY_") {
			inherited = append(inherited, variable)
		}
	}
	return &process{
		name: name, path: path, args: args, env: append(inherited, environment...),
		logFile: filepath.Join(c.dir, "logs", name+".log"), term: c.term,
	}
}

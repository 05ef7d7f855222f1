package main

import (
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// childWithin bounds what only a defect makes a child take.
const childWithin = 90 * time.Second

// natsNode as the value of programVariable makes the test binary a NATS server
// of a cluster, which a test can kill; the passwords of nats.conf are in the environment.
const natsNode = "nats-node"

// runNATSNode runs a server until it is killed.
func runNATSNode(args []string) error {
	flags := flag.NewFlagSet(natsNode, flag.ContinueOnError)
	name := flags.String("name", "", "")
	listen := flags.String("listen", "", "")
	route := flags.String("route", "", "")
	routes := flags.String("routes", "", "all nodes', with commas")
	dir := flags.String("dir", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	options := &server.Options{}
	if err := options.ProcessConfigString(natsConf); err != nil {
		return err
	}
	options.ServerName, options.StoreDir, options.NoSigs = *name, *dir, true
	options.Cluster.Name = "parley"
	var err error
	if options.Host, options.Port, err = splitAddress(*listen); err != nil {
		return err
	}
	if options.Cluster.Host, options.Cluster.Port, err = splitAddress(*route); err != nil {
		return err
	}
	for address := range strings.SplitSeq(*routes, ",") {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: address})
	}
	srv, err := server.NewServer(options)
	if err != nil {
		return err
	}
	srv.ConfigureLogger()
	srv.Start()
	if !srv.ReadyForConnections(childWithin) {
		return fmt.Errorf("%s does not accept connections", *name)
	}
	fmt.Println("ready", srv.ClientURL())
	srv.WaitForShutdown()
	return nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}

func natsNodeMain() {
	if err := runNATSNode(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

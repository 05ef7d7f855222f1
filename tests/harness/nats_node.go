package harness

import (
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// runNATSNode runs a server with the text of nats.conf until it is killed.
func runNATSNode(args []string, conf string) error {
	flags := flag.NewFlagSet(natsProgram, flag.ContinueOnError)
	name := flags.String("name", "", "")
	listen := flags.String("listen", "", "")
	route := flags.String("route", "", "of a cluster only")
	routes := flags.String("routes", "", "all nodes', with commas")
	dir := flags.String("dir", "", "")
	defaultSync := flags.Bool("default-sync", false, "leave sync_interval away from nats.conf")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *defaultSync {
		conf = strings.Replace(conf, "sync_interval: always", "", 1)
	}
	options := &server.Options{}
	if err := options.ProcessConfigString(conf); err != nil {
		return err
	}
	options.ServerName, options.StoreDir, options.NoSigs = *name, *dir, true
	var err error
	if options.Host, options.Port, err = splitAddress(*listen); err != nil {
		return err
	}
	if *route != "" {
		if err := joinCluster(options, *route, *routes); err != nil {
			return err
		}
	}
	srv, err := server.NewServer(options)
	if err != nil {
		return err
	}
	srv.ConfigureLogger()
	srv.Start()
	if !srv.ReadyForConnections(ChildWithin) {
		return fmt.Errorf("%s does not accept connections", *name)
	}
	fmt.Println("ready", srv.ClientURL())
	srv.WaitForShutdown()
	return nil
}

func joinCluster(options *server.Options, route, routes string) (err error) {
	options.Cluster.Name = "parley"
	if options.Cluster.Host, options.Cluster.Port, err = splitAddress(route); err != nil {
		return err
	}
	for address := range strings.SplitSeq(routes, ",") {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: address})
	}
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

func natsNodeMain(conf string) (exitCode int) {
	if err := runNATSNode(os.Args[1:], conf); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

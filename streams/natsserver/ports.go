package natsserver

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("NATS listen address %q: %w: write host:port", listen, err)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("NATS listen address %q: the port is a number from 0 to 65535", listen)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// checkPortFree tells a taken port in a sentence, before anything is started.
func checkPortFree(listen string, port int) error {
	if port == server.RANDOM_PORT {
		return nil
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return listenError(listen, err.Error())
	}
	return l.Close()
}

func listenError(listen, reason string) error {
	if strings.Contains(reason, "in use") {
		reason = "the port is in use"
	}
	return fmt.Errorf("listen on %s: %s: stop what runs there, or choose another address with --nats-listen", listen, reason)
}

// freePorts returns n different ports that are free now. They are held
// together, so that none comes twice.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

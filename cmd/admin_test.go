package cmd_test

import (
	"net/http"
	"testing"

	"parley/clients/parley"
	"parley/tests/harness"
)

// TestOperatorsHaveAPortOfTheirOwn: health, metrics and profiles are there, and
// not where clients connect.
func TestOperatorsHaveAPortOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	d.Dial(t, "alice", parley.Options{})
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/"} {
		if status, body := d.Get(t, path); status != http.StatusOK {
			t.Errorf("%s answers %d on the admin port: %s", path, status, body)
		}
		resp, err := http.Get(d.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s answers %d on the public port, want 404", path, resp.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if n := d.Metric(t, "parley_edge_connections"); n != 1 {
		t.Errorf("%v connections are told, want 1", n)
	}
}

package harness

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// GetStatus asks an admin port; 0 where nobody answers.
func GetStatus(address, path string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// AwaitStatus returns when the process whose admin port this is answers so to /readyz.
func AwaitStatus(t testing.TB, admin string, want int) {
	t.Helper()
	EventuallyWithin(t, ChildWithin, admin+" changes its readiness", func() bool {
		status, _ := GetStatus(admin, "/readyz")
		return status == want
	})
}

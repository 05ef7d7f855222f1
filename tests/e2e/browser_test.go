package e2e

import (
	"testing"

	"parley/tests/browser"
	"parley/tests/harness"
)

// TestTwoBrowserWindowsChat runs the page against the whole server, which is
// stopped and started again in between.
func TestTwoBrowserWindowsChat(t *testing.T) {
	t.Parallel()
	listen := "--listen=" + harness.FreeAddress(t)
	d := harness.StartDev(t, "", listen)
	browser.TwoWindows(t, d.URL,
		func() { d.Stop(t) },
		func() { d = harness.StartDev(t, d.Data, listen) })
}

// TestBrowserWindowsShareAGroup has three people use a group of the whole server.
func TestBrowserWindowsShareAGroup(t *testing.T) {
	t.Parallel()
	browser.Groups(t, harness.StartDev(t, "").URL)
}

// TestBrowserWindowsShowReceiptsAndPresence has ticks, badges, settings and who is
// there follow what people do on the whole server.
func TestBrowserWindowsShowReceiptsAndPresence(t *testing.T) {
	t.Parallel()
	browser.Receipts(t, harness.StartDev(t, "").URL)
}

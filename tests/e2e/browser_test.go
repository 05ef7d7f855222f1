package main

import (
	"testing"

	"parley/tests/browser"
)

// TestTwoBrowserWindowsChat runs the page against the whole server, which is
// stopped and started again in between.
func TestTwoBrowserWindowsChat(t *testing.T) {
	t.Parallel()
	listen := "--listen=" + freeAddress(t)
	d := startDev(t, "", listen)
	browser.TwoWindows(t, d.url,
		func() { d.Stop(t) },
		func() { d = startDev(t, d.data, listen) })
}

// TestBrowserWindowsShareAGroup has three people use a group of the whole server.
func TestBrowserWindowsShareAGroup(t *testing.T) {
	t.Parallel()
	browser.Groups(t, startDev(t, "").url)
}

// TestBrowserWindowsShowReceiptsAndPresence has ticks, badges, settings and who is
// there follow what people do on the whole server.
func TestBrowserWindowsShowReceiptsAndPresence(t *testing.T) {
	t.Parallel()
	browser.Receipts(t, startDev(t, "").url)
}

// Package browser drives the web page in a real browser.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// waitMax bounds every wait for the page: it covers the longest delay between
// two connections, on a machine that is busy with other tests.
const waitMax = 30 * time.Second

// RequireEnv names the variable that makes a missing browser a failure: where
// tests decide something, a skipped one must not look like a passed one.
const RequireEnv = "PARLEY_REQUIRE_CHROMIUM"

// Browser is one headless Chromium; it ends with the test.
type Browser struct{ ctx context.Context }

// Start starts Chromium. Where there is none the test is skipped, or
// fails if the variable [RequireEnv] is set.
func Start(t *testing.T) *Browser {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		if os.Getenv(RequireEnv) != "" {
			t.Fatalf("find a browser: %v", err)
		}
		t.Skipf("the page is not tried in a browser: %v", err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.WindowSize(1100, 720),
	}
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-extensions",
		"disable-dev-shm-usage", // a container's is small
		// A window that is behind another one has its timers slowed down.
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, endAllocator := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		end()
		endAllocator() // waits for the process
	})
	if err := attach(ctx, end); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Browser{ctx}
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("neither chromium nor google-chrome is in PATH")
}

// Tab is one window of a browser.
type Tab struct {
	t   *testing.T
	ctx context.Context
}

// Open opens url in a new tab, which closes with the test. All such tabs of a
// browser share its storage, as windows of one person do.
func (b *Browser) Open(t *testing.T, url string) *Tab {
	t.Helper()
	return b.open(t, url)
}

// OpenPrivate is Open in a window with cookies and storage of its own, as
// another person's browser has.
func (b *Browser) OpenPrivate(t *testing.T, url string) *Tab {
	t.Helper()
	return b.open(t, url, chromedp.WithNewBrowserContext())
}

func (b *Browser) open(t *testing.T, url string, options ...chromedp.ContextOption) *Tab {
	t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, options...)
	t.Cleanup(end)
	if err := attach(ctx, end); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	tab := &Tab{t, ctx}
	tab.Do("open "+url, chromedp.Navigate(url))
	return tab
}

// attach makes what ctx stands for. That lives as long as the context of this
// first call, so the time limit cannot be a context of its own.
func attach(ctx context.Context, end context.CancelFunc) error {
	limit := time.AfterFunc(waitMax, end)
	defer limit.Stop()
	return chromedp.Do(ctx)
}

// Do runs an action, or fails the test.
func (tab *Tab) Do(what string, action chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, waitMax)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.Do("reload", chromedp.Reload())
}

// Type types text into the composer, as keys.
func (tab *Tab) Type(text string) {
	tab.t.Helper()
	tab.Do("type "+text, chromedp.SendKeys("#text", text))
}

// Send puts text into the composer at once and presses Enter.
func (tab *Tab) Send(text string) {
	tab.t.Helper()
	tab.Do("write "+text, chromedp.SetValue("#text", text))
	tab.Type("\r")
}

// Messages returns the texts of the messages that are in the log, in order.
func (tab *Tab) Messages() []string {
	tab.t.Helper()
	return Eval[[]string](tab, `Array.from(document.querySelectorAll('#messages .text'), (text) => text.textContent)`)
}

// Pending returns the texts of the messages that are not in the log yet.
func (tab *Tab) Pending() []string {
	tab.t.Helper()
	return Eval[[]string](tab, `Array.from(document.querySelectorAll('#pending .text'), (text) => text.textContent)`)
}

// State returns the state of the connection.
func (tab *Tab) State() string {
	tab.t.Helper()
	return Eval[string](tab, `document.querySelector('#state').dataset.state ?? ''`)
}

// Show gives the tab a size in pixels and a color scheme, light or dark.
func (tab *Tab) Show(width, height int64, scheme string) {
	tab.t.Helper()
	tab.Do("resize", chromedp.EmulateViewport(width, height))
	tab.Do("color "+scheme, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return chromedp.Void{}, err
	})
}

// Screenshot returns what the tab shows, as a PNG.
func (tab *Tab) Screenshot() []byte {
	tab.t.Helper()
	picture, err := chromedp.Run(tab.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tab.t.Fatalf("take a screenshot: %v", err)
	}
	return picture
}

// Text returns the text of an element, nothing where there is none.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return Eval[string](tab, fmt.Sprintf(`document.querySelector(%q)?.textContent ?? ''`, selector))
}

// Eval returns the value of a JavaScript expression; of a promise, what it resolves with.
func Eval[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, waitMax)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return value
}

// Until asks get until its answer is fine, and fails the test with the last
// answer when that takes too long.
func Until[T any](t *testing.T, what string, get func() T, isFine func(T) bool) T {
	t.Helper()
	deadline := time.After(waitMax)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got := get()
		if isFine(got) {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: still %v after %v", what, got, waitMax)
		}
	}
}

//go:build unix

package model

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/tests/harness"
)

// startCableWorker starts a worker that reaches NATS by a cable of its own.
func startCableWorker(t testing.TB, p *harness.Parts, only string) (*harness.Child, *harness.Cable) {
	t.Helper()
	cable := harness.StartCable(t, p.Env.Server.Address())
	c := harness.StartChild(t, p.Environment(), "worker", "--admin="+harness.FreeAddress(t), "--only="+only, "--nats=nats://"+cable.Address)
	c.WaitReady(t)
	return c, cable
}

// killedChange is a change of a group whose worker is killed when the log has it,
// and before that worker can have told anybody.
type killedChange struct {
	what    string
	user    string // who asks, of u0 to u3; u0 owns the group, u1 is an admin
	request string
	again   []schemas.Code // what the same request is answered with after it, none for success
	told    string         // who comes in
}

var killedChanges = []killedChange{
	{"add", "u1", `{"t":"add","chat":"$CHAT","users":["u4"]}`, []schemas.Code{""}, "u4"},
	{"remove", "u1", `{"t":"remove","chat":"$CHAT","users":["u3"]}`, []schemas.Code{""}, ""},
	{"role", "u0", `{"t":"role","chat":"$CHAT","user":"u2","role":"admin"}`, []schemas.Code{""}, ""},
	{"rename", "u1", `{"t":"rename","chat":"$CHAT","name":"Other"}`, []schemas.Code{""}, ""},
	{"owner", "u0", `{"t":"role","chat":"$CHAT","user":"u1","role":"owner"}`, []schemas.Code{schemas.Forbidden}, ""},
	{"leave", "u0", `{"t":"leave","chat":"$CHAT"}`, []schemas.Code{schemas.NotMember}, ""},
	{"create", "u0", `{"t":"create","id":"$NEW","name":"New","members":["u1","u4"]}`, []schemas.Code{""}, "u4"},
}

// A worker is killed after the log had its change, and before it answered or told
// anybody. The change holds, whoever it is about is told of it, another worker goes
// on, and nobody sees it twice.
func TestKilledWorkerLeavesAChangeThatHolds(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	p.StartWorker(t, "persist,query,users")
	worker, cable := startCableWorker(t, p, "chats")
	w := newGroupWorld(t, p, p.StartEdge(t, "edge-0"), p.StartEdge(t, "edge-1"))
	w.populate(t, 7)
	first := map[*harness.Talker][]uint64{} // refs of the requests whose worker was killed
	for _, change := range killedChanges {
		g := w.create(t, "u0", []string{"u1"}, []string{"u2", "u3"})
		request := change.on(g)
		chat := g.chat
		if change.what == "create" {
			chat += "-2"
			w.groups = append(w.groups, &worldGroup{chat: chat})
		}
		before := len(replayGroup(t, w.log, harness.MustChat(t, chat)).events)
		tripped := cable.Trip("chat.")
		c := w.talks[change.user]
		first[c] = append(first[c], c.StartAsk("%s", request))
		select {
		case <-tripped:
		case <-time.After(harness.ChildWithin):
			t.Fatalf("%s: the worker publishes nothing", change.what)
		}
		var m *groupModel
		harness.Eventually(t, change.what+" is in the log", func() bool {
			m = replayGroup(t, w.log, harness.MustChat(t, chat))
			return len(m.events) > before
		})
		worker.Kill()
		if change.told != "" {
			w.talks[change.told].AwaitFrame(func(f harness.Frame) bool {
				return f.T == schemas.TChat && f.Chat == chat && f.Change == schemas.ChatAdded && f.Seq == m.last()
			})
			w.talks[change.told].AwaitLast(chat, m.last())
		}
		worker, cable = startCableWorker(t, p, "chats")
		if f := c.Ask("%s", request); !slices.Contains(change.again, f.Code) {
			t.Errorf("%s, again: %v, want %q", change.what, f, change.again)
		}
		if after := replayGroup(t, w.log, harness.MustChat(t, chat)); after.last() != m.last() || len(after.events) != before+1 {
			t.Errorf("%s: %d events became %d", change.what, before, len(after.events))
		}
	}
	unanswered := wantUnanswered(t, first)
	w.settle(t)
	if !t.Failed() {
		t.Logf("%d workers killed, %d requests answered as unavailable: 0 changes lost, 0 twice; %s", len(killedChanges), unanswered, &w.counts)
	}
}

// wantUnanswered wants each of the requests, which are refs, to be answered as unavailable,
// and counts them.
func wantUnanswered(t *testing.T, requests map[*harness.Talker][]uint64) (unanswered int) {
	t.Helper()
	for c, refs := range requests {
		for _, ref := range refs {
			if f := c.Await(func(f harness.Frame) bool { return f.Ref == ref }); f.Code != schemas.Unavailable {
				t.Errorf("what the killed worker was asked for was answered with %v", f)
			}
			unanswered++
		}
	}
	return unanswered
}

func (k *killedChange) on(g *worldGroup) string {
	return strings.NewReplacer("$CHAT", g.chat, "$NEW", g.chat[len("group."):]+"-2").Replace(k.request)
}

// NATS goes away, and one edge is cut off for longer. Meanwhile, and as it comes
// back, users of the other edge change groups. Nobody hears what it should not,
// and everybody what it should.
func TestGroupsChangeWhileAnEdgeIsGone(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	p.StartWorker(t, everyWorker)
	cable := harness.StartCable(t, p.Env.Server.Address())
	w := newGroupWorld(t, p, p.StartEdge(t, "edge-0", "--nats=nats://"+cable.Address), p.StartEdge(t, "edge-1"))
	w.populate(t, 8) // the even ones on the edge that goes
	for round := range 2 {
		groups := []*worldGroup{
			w.create(t, "u1", []string{"u3"}, []string{"u0", "u2", "u5"}),
			w.create(t, "u3", []string{"u1"}, []string{"u2", "u4", "u0"}),
		}
		for _, g := range groups {
			w.talks["u0"].Send(g.chat, "before")
		}
		cable.SetCut(true)
		if round == 1 {
			p.Env.Server.StopNode(0)
			<-time.After(*harness.FaultPause) // the fault itself: nothing is waited for
			if err := p.Env.Server.RestartNode(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		u1, u3 := w.talks["u1"], w.talks["u3"]
		harness.Eventually(t, "the other edge changes groups", func() bool {
			return u1.Ask(`{"t":"rename","chat":"%s","name":"Away"}`, groups[0].chat).Code == "" &&
				u3.Ask(`{"t":"rename","chat":"%s","name":"Away"}`, groups[1].chat).Code == ""
		})
		w.changeAway(t, groups)
		w.changeWhileBack(t, groups, cable)
		harness.Eventually(t, "the edge is back", func() bool {
			status, _ := harness.GetStatus(w.edges[0].Admin, "/readyz")
			return status == http.StatusOK
		})
		harness.Eventually(t, "the test's own connection is back", func() bool {
			_, _, err := w.log.Bounds(t.Context(), w.log.Layout().At(0))
			return err == nil
		})
		w.settle(t)
	}
	if !t.Failed() {
		t.Logf("2 rounds, in one NATS was away for %s: %s", *harness.FaultPause, &w.counts)
	}
}

// changeWhileBack has the edge come back while users of the other edge go on.
func (w *groupWorld) changeWhileBack(t *testing.T, groups []*worldGroup, cable *harness.Cable) {
	t.Helper()
	u1, u3 := w.talks["u1"], w.talks["u3"]
	atOnce(map[*harness.Talker]func(){
		u1: func() {
			cable.SetCut(false)
			for range 30 {
				u1.Send(groups[0].chat, "on and on")
			}
		},
		u3: func() {
			for i := range 10 {
				u3.Do(`{"t":"%s","chat":"%s","users":["u4","u6"]}`, []string{"add", "remove"}[i%2], groups[0].chat)
				u3.Send(groups[1].chat, "on and on")
			}
			u3.Do(`{"t":"add","chat":"%s","users":["u2"]}`, groups[0].chat)
		},
	})
}

// changeAway is what users of the edge that is there do while another is gone.
func (w *groupWorld) changeAway(t *testing.T, groups []*worldGroup) {
	t.Helper()
	u1, u3 := w.talks["u1"], w.talks["u3"]
	u1.Do(`{"t":"remove","chat":"%s","users":["u2"]}`, groups[0].chat)
	u1.Send(groups[0].chat, "u2 is gone")
	u1.Do(`{"t":"add","chat":"%s","users":["u4","u6"]}`, groups[0].chat)
	u1.Send(groups[0].chat, "u4 is here")
	u1.Do(`{"t":"role","chat":"%s","user":"u0","role":"admin"}`, groups[0].chat)
	u3.Do(`{"t":"remove","chat":"%s","users":["u4"]}`, groups[1].chat)
	u3.Send(groups[1].chat, "u4 is gone")
	u3.Do(`{"t":"add","chat":"%s","users":["u4"]}`, groups[1].chat)
	u3.Send(groups[1].chat, "u4 is back")
	u3.Do(`{"t":"remove","chat":"%s","users":["u2","u0"]}`, groups[1].chat)
	id := harness.NewID()
	u3.Do(`{"t":"create","id":"%s","name":"Made meanwhile","members":["u0","u1","u6"]}`, id)
	u3.Send("group."+id, "hello")
	w.groups = append(w.groups, &worldGroup{chat: "group." + id})
}

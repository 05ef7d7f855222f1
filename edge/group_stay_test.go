package edge

import (
	"fmt"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"

	"parley/schemas"
)

// hold has a live loop stand still until the returned function is called.
func (v *liveLoop) hold(t *testing.T) (release func()) {
	held, goOn := make(chan struct{}), make(chan struct{})
	v.call(func() {
		close(held)
		<-goOn
	})
	<-held
	release = sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	return release
}

// changeUntold has a user added or removed, and nobody is told by a personal event.
func (r *rig) changeUntold(chat schemas.Chat, change, user string) uint64 {
	return r.workers.write(false, chat, fmt.Sprintf(`{"type":"member","id":"%s","from":"ann","change":%q,"users":[%q],"count":2}`,
		ulid.Make(), change, user))
}

// tellAdded sends the personal event of an addition.
func (r *rig) tellAdded(t *testing.T, chat schemas.Chat, seq uint64, user string) {
	r.workers.mu.Lock()
	defer r.workers.mu.Unlock()
	r.workers.tellLocked(chat, seq, &schemas.Event{Type: schemas.MemberEvent, Change: schemas.Added, Users: []schemas.User{testUser(t, user)}})
}

// Word of an addition comes when its user was removed and added again: it is sent
// what came since it is in, and nothing of the time between.
func TestLateWordOfAnEarlierStay(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.addEdge(t, nil), "ann"), r.join(t, r.edge(), "bea")
	chat, _ := r.workers.create("team", "ann")
	ann.await("chat")
	first := r.changeUntold(chat, "added", "bea")
	r.changeUntold(chat, "removed", "bea")
	ann.sent("m1", chat.String(), "she is gone")
	again := r.changeUntold(chat, "added", "bea")
	hello := ann.sent("m2", chat.String(), "she is back")
	r.tellAdded(t, chat, first, "bea")
	bea.wantInChat(chat, "added", again, hello)
}

// A session resumes a group while its edge has not come as far as the log, in
// which its user is out.
func TestResumeEndsWithTheRemoval(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, created := r.workers.create("team", "ann", "bea")
	ann, bea := r.join(t, r.addEdge(t, nil), "ann"), r.join(t, r.edge(), "bea")
	hi := ann.sent("m1", chat.String(), "hi")
	bea.wantInChat(chat, hi)
	release := r.edge().lives.of(chat.String()).hold(t)
	removed := r.workers.change(chat, "ann", "removed", "bea")
	ann.sent("m2", chat.String(), "she is gone")
	second := r.join(t, r.edge(), "bea", fmt.Sprintf(`,"resume":{"%s":%d}`, chat, created))
	second.wantInChat(chat, hi, removed)
	if g := second.await("chat"); g.Change != "removed" || g.Seq != removed {
		t.Errorf("behind its removal came %v", g)
	}
	release()
	bea.wantInChat(chat, removed)
	bea.await("chat")
	again := r.workers.change(chat, "ann", "added", "bea")
	bea.wantInChat(chat, "added", again)
	for g := second.next(); ; g = second.next() {
		if g.T == "event" && g.Seq != again {
			t.Errorf("who is out heard %v", g)
		}
		if g.T == "event" {
			break
		}
	}
}

// Word of an addition comes before the edge has followed the removal that was
// before it.
func TestRemovalFromBeforeTheStayTakesNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	loop := r.edge().lives.of("group.team")
	user := "bea"
	for i := 0; r.edge().lives.of(user) == loop; i++ { // which is to go on
		if len(r.edge().lives) == 1 {
			t.Skip("one live loop brings all in order")
		}
		user = fmt.Sprintf("bea%d", i)
	}
	chat, _ := r.workers.create("team", "ann", user)
	ann, bea := r.join(t, r.addEdge(t, nil), "ann"), r.join(t, r.edge(), user)
	release := loop.hold(t)
	r.changeUntold(chat, "removed", user)
	ann.sent("m1", chat.String(), "she is gone")
	again := r.workers.change(chat, "ann", "added", user)
	bea.wantInChat(chat, "added", again)
	release()
	hello := ann.sent("m2", chat.String(), "she is back")
	bea.wantInChat(chat, hello)
	bea.sent("m1", chat.String(), "I am")
}

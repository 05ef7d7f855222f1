package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/websocket"

	"parley/schemas"
	"parley/streams"
	"parley/tests/harness"
	"parley/workers/store/sqlite"
)

// standings are what one can be to a group, and who is it in the tests of rights.
var standings = []struct{ name, user string }{
	{"owner", "olga"}, {"admin", "ada"}, {"member", "max"}, {"left", "lee"}, {"removed", "rem"}, {"stranger", "stan"},
}

// aims are whom a request can be about, beside who asks itself. Of those who are
// in the group and are not its owner, it is another than who asks.
var aims = map[string]string{"owner": "olga", "admin": "abe", "member": "mia", "left": "lee", "removed": "rem", "stranger": "new"}

// right is what a request takes, as the protocol states it.
type right int

const (
	toTalk     right = iota // members say and read what they like
	toChange                // only who has said a thing changes it
	toModerate              // the owner takes back all, admins what is neither the owner's nor an admin's, everybody one's own
	toRun                   // the owner and admins
	toExpel                 // the owner and admins, but admins touch no admin and not the owner; nobody oneself, nobody who never was in
	toCrown                 // the owner; not oneself, and only who is in
	toCreate                // whoever made the group gets it again
)

// wanted states the rights in a group: the code that who stands so gets, none
// where it may. Whom the request is about is one of aims, or oneself.
func (r right) wanted(standing, about string) schemas.Code {
	owner, admin := standing == "owner", standing == "admin"
	self := about == "self" || owner && about == "owner"
	switch {
	case r == toCreate && owner:
		return ""
	case r == toCreate:
		return schemas.Conflict
	case !owner && !admin && standing != "member":
		return schemas.NotMember // before all else: it is not told whether there is such a group
	case r == toTalk:
		return ""
	case r == toChange && !self, r == toRun && !owner && !admin, r == toExpel && !owner && !admin, r == toCrown && !owner:
		return schemas.Forbidden
	case r == toModerate && !self && !owner && (!admin || about == "owner" || about == "admin"):
		return schemas.Forbidden
	case r == toExpel && (self || about == "stranger"), r == toCrown && (self || about == "left" || about == "stranger"):
		return schemas.Invalid
	case r == toExpel && admin && (about == "owner" || about == "admin"):
		return schemas.Forbidden
	}
	return ""
}

// groupRequest is one of all that can be asked of a group. In its members $CHAT is
// the group's name, $ID its id, $NEW a new id, $USER whom the request is about, and
// $SEQ what that user has said in it.
type groupRequest struct {
	name    string
	right   right
	about   string
	members string // but for chat
	// writes is the type of the event that comes of it; empty: none does.
	writes schemas.EventType
	// spends tells that what it is asked in is of no use for other requests then.
	spends bool
}

// groupRequests are all requests there are, about all there are.
func groupRequests() (requests []groupRequest) {
	add := func(t schemas.Type, r right, about, members string, writes schemas.EventType, spends bool) {
		name := string(t) + " " + members
		requests = append(requests, groupRequest{name, r, about, fmt.Sprintf(`"t":%q,"chat":"$CHAT"%s`, t, members), writes, spends})
	}
	send := func(typ schemas.EventType, r right, about, members string, spends bool) {
		requests = append(requests, groupRequest{string(typ) + " " + about, r, about,
			fmt.Sprintf(`"t":"send","id":"$NEW","chat":"$CHAT","type":%q%s`, typ, members), typ, spends})
	}
	const body = `,"body":{"kind":"text","text":"said"}`
	send(schemas.Message, toTalk, "", body, false)
	send(schemas.Message, toTalk, "owner", body+`,"replyTo":$SEQ,"thread":$SEQ,"mentions":["*"]`, false)
	send(schemas.React, toTalk, "owner", `,"target":$SEQ,"emoji":"👍"`, false)
	send(schemas.React, toTalk, "left", `,"target":$SEQ,"emoji":"👍","remove":true`, false)
	for _, about := range []string{"self", "owner", "admin", "member", "left", "removed"} {
		send(schemas.Edit, toChange, about, `,"target":$SEQ`+body, false)
		send(schemas.Delete, toModerate, about, `,"target":$SEQ`, true)
	}
	send(schemas.Pin, toRun, "member", `,"target":$SEQ`, false)
	send(schemas.Pin, toRun, "owner", `,"target":$SEQ,"remove":true`, false)

	add(schemas.THistory, toTalk, "", "", "", false)
	add(schemas.THistory, toTalk, "", `,"limit":5,"raw":true`, "", false)
	add(schemas.TTyping, toTalk, "", "", "", false)
	add(schemas.TMembers, toTalk, "", "", "", false)
	add(schemas.TMute, toTalk, "", `,"on":true`, "", false)
	add(schemas.TPin, toTalk, "", `,"on":true`, "", false)
	add(schemas.TArchive, toTalk, "", `,"on":false`, "", false)
	add(schemas.TLeave, toTalk, "", "", schemas.MemberEvent, true)
	add(schemas.TRename, toRun, "", `,"name":"Named $NEW"`, schemas.GroupEvent, false)
	for _, about := range []string{"stranger", "left", "removed"} {
		add(schemas.TAdd, toRun, about, `,"users":["$USER"]`, schemas.MemberEvent, true)
	}
	add(schemas.TAdd, toRun, "member", `,"users":["$USER"]`, "", false) // is in already
	for _, about := range []string{"member", "admin", "owner", "self"} {
		add(schemas.TRemove, toExpel, about, `,"users":["$USER"]`, schemas.MemberEvent, true)
	}
	add(schemas.TRemove, toExpel, "left", `,"users":["$USER"]`, "", false) // is out already
	add(schemas.TRemove, toExpel, "stranger", `,"users":["$USER"]`, "", false)
	for _, about := range []string{"member", "admin", "self", "left", "stranger"} {
		for _, role := range []schemas.Role{schemas.Admin, schemas.Member, schemas.Owner} {
			if about == string(role) {
				continue // it is that already
			}
			if about == "self" && role == schemas.Owner {
				continue // likewise, where it is not refused
			}
			add(schemas.TRole, toCrown, about, fmt.Sprintf(`,"user":"$USER","role":%q`, role), schemas.MemberEvent, true)
		}
	}
	requests = append(requests, groupRequest{name: "create", right: toCreate, members: `"t":"create","id":"$ID","name":"Mine"`})
	return requests
}

// stage is a group in which everybody has said something and stands as in standings.
type stage struct {
	id, chat string
	said     map[string]uint64
	seq      uint64 // of its last event
	events   int
}

// rights is a server with everybody connected, and the stages on it.
type rights struct {
	*harness.DevServer
	log   *streams.Log
	talks map[string]*harness.Talker
	made  int
	cells int
	fresh int
	stage *stage // nobody has spent it
}

func newRights(t *testing.T) *rights {
	t.Helper()
	w := &rights{DevServer: harness.StartDev(t, "", "--user-rate=0", "--address-rate=0"), talks: map[string]*harness.Talker{}}
	passwords, err := streams.ReadPasswords(w.Data)
	if err != nil {
		t.Fatal(err)
	}
	_, w.log = harness.OpenLog(t, []string{"nats://" + w.NATS}, passwords)
	for _, user := range []string{"olga", "ada", "abe", "max", "mia", "lee", "rem", "stan"} {
		w.talks[user] = w.Talk(t, user)
	}
	w.stage = w.newStage(t)
	return w
}

// newStage returns when everybody's session knows how it stands.
func (w *rights) newStage(t *testing.T) *stage {
	t.Helper()
	w.made++
	id := fmt.Sprintf("stage%d", w.made)
	s := &stage{id: id, chat: "group." + id, said: map[string]uint64{}}
	olga := w.talks["olga"]
	request := func(format string, args ...any) {
		t.Helper()
		s.seq = olga.Do(format, args...).Seq
		s.events++
	}
	request(`{"t":"create","id":"%s","name":"Stage","members":["ada","abe","max","mia","lee","rem"]}`, id)
	for _, admin := range []string{"ada", "abe", "rem"} {
		request(`{"t":"role","chat":"%s","user":"%s","role":"admin"}`, s.chat, admin)
	}
	for user, talker := range w.talks {
		if user != "stan" {
			talker.AwaitEvent(s.chat, s.seq)
		}
	}
	for user, talker := range w.talks {
		if user != "stan" {
			s.said[user] = talker.Send(s.chat, user+" was here")
			s.events++
		}
	}
	w.talks["lee"].Do(`{"t":"leave","chat":"%s"}`, s.chat)
	s.events++
	request(`{"t":"remove","chat":"%s","users":["rem"]}`, s.chat)
	for user, talker := range w.talks {
		switch user {
		case "stan":
		case "lee", "rem":
			talker.Await(func(f harness.Frame) bool {
				return f.T == schemas.TChat && f.Chat == s.chat && f.Change == schemas.ChatRemoved
			})
		default:
			talker.AwaitEvent(s.chat, s.seq)
		}
	}
	return s
}

// text is the request as a user says it about another.
func (r *groupRequest) text(s *stage, asker string) string {
	user := aims[r.about]
	if r.about == "self" {
		user = asker
	}
	seq := s.said[user]
	if seq == 0 {
		seq = s.said["mia"] // who never was in has said nothing
	}
	return strings.NewReplacer("$CHAT", s.chat, "$ID", s.id, "$NEW", harness.NewID(), "$USER", user, "$SEQ", fmt.Sprint(seq)).Replace(r.members)
}

// entrance is a way by which requests come in: it answers with the code, none for
// success, and the seq of what was written.
type entrance struct {
	name  string
	takes func(*groupRequest) bool
	ask   func(t *testing.T, w *rights, s *stage, r *groupRequest, user string) (schemas.Code, uint64, string)
}

var entrances = []entrance{
	{"WebSocket", func(*groupRequest) bool { return true },
		func(_ *testing.T, w *rights, s *stage, r *groupRequest, user string) (schemas.Code, uint64, string) {
			f := w.talks[user].Ask("{%s}", r.text(s, user))
			return f.Code, f.Seq, f.Text
		}},
	{"HTTP", func(r *groupRequest) bool {
		return strings.HasPrefix(r.members, `"t":"send"`) || strings.HasPrefix(r.members, `"t":"history"`)
	}, askHTTP},
}

// askHTTP wants the status that belongs to the code.
func askHTTP(t *testing.T, w *rights, s *stage, r *groupRequest, user string) (schemas.Code, uint64, string) {
	t.Helper()
	path, want := "/v1/chats/"+s.chat+"/messages", http.StatusOK
	var status int
	var body string
	if r.writes == "" {
		if strings.Contains(r.members, "raw") {
			path += "?limit=5&raw=true"
		}
		status, body, _ = w.Call(t, "GET", path, user, "", "")
	} else {
		var members map[string]jsontext.Value
		if err := json.Unmarshal([]byte("{"+r.text(s, user)+"}"), &members); err != nil {
			t.Fatal(err)
		}
		key := strings.Trim(string(members["id"]), `"`)
		for _, name := range []string{"t", "id", "chat"} {
			delete(members, name)
		}
		send, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		status, body = w.Post(t, user, s.chat, key, string(send))
		want = http.StatusCreated
	}
	var answer harness.Frame
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	switch answer.Code {
	case "":
	case schemas.NotMember, schemas.Forbidden:
		want = http.StatusForbidden
	case schemas.Invalid:
		want = http.StatusBadRequest
	default:
		want = -1
	}
	if status != want {
		t.Errorf("%s of %s: status %d with %s", r.name, user, status, body)
	}
	return answer.Code, answer.Seq, body
}

// Everybody asks everything, over WebSocket and HTTP, and gets what the rights say.
func TestEveryRightOfEveryRole(t *testing.T) {
	t.Parallel()
	w := newRights(t)
	for _, r := range groupRequests() {
		for _, standing := range standings {
			for _, entrance := range entrances {
				if entrance.takes(&r) {
					w.cell(t, &r, standing.name, standing.user, entrance)
				}
			}
		}
	}
	w.wantEvents(t, w.stage)
	w.lists(t)
	w.resumes(t)
	if !t.Failed() {
		t.Logf("%d cells, on %d groups and one that all others shared: 0 answered otherwise than the rights say, 0 events without a right", w.cells, w.fresh)
	}
	if w.cells < 200 {
		t.Errorf("%d cells: the table has lost some", w.cells)
	}
}

// cell asserts one of the table.
func (w *rights) cell(t *testing.T, r *groupRequest, standing, user string, entrance entrance) {
	t.Helper()
	w.cells++
	want := r.right.wanted(standing, r.about)
	s := w.stage
	if want == "" && r.spends {
		s = w.newStage(t)
		w.fresh++
	}
	code, seq, text := entrance.ask(t, w, s, r, user)
	if code != want {
		t.Errorf("over %s, %s of the %s: %q, want %q: %.300s", entrance.name, r.name, standing, code, want, text)
		if code == "" && r.writes != "" { // what all others share is not what it should be any more
			w.stage = w.newStage(t)
		}
		return
	}
	var refusal schemas.Error
	if want != "" && (json.Unmarshal([]byte(text), &refusal) != nil || !strings.Contains(refusal.Message, " ")) {
		t.Errorf("over %s, %s of the %s: no sentence in %s", entrance.name, r.name, standing, text)
	}
	if want == "" && r.writes != "" {
		s.events++
		w.wantWritten(t, s, seq, r, user)
		if s != w.stage {
			w.wantEvents(t, s)
		}
	}
}

// wantWritten finds in the log what a request was answered with.
func (w *rights) wantWritten(t *testing.T, s *stage, seq uint64, r *groupRequest, user string) {
	t.Helper()
	events, _, err := w.log.After(t.Context(), harness.MustChat(t, s.chat), seq-1, 1, 1)
	if err != nil || len(events) == 0 {
		t.Fatalf("read %d of %s: %d events, %v", seq, s.chat, len(events), err)
	}
	ev, err := schemas.DecodeEvent(events[0].JSON)
	if err != nil {
		t.Fatal(err)
	}
	if events[0].Seq != seq || ev.Type != r.writes || ev.From.String() != user {
		t.Errorf("%s of %s wrote at %d, and answered %d: %s", r.name, user, events[0].Seq, seq, events[0].JSON)
	}
}

// wantEvents finds in the log what was answered with success, and nothing besides.
func (w *rights) wantEvents(t *testing.T, s *stage) {
	t.Helper()
	if events := harness.Logged(t, w.log, harness.MustChat(t, s.chat)); len(events) != s.events {
		t.Errorf("%s has %d events, want %d", s.chat, len(events), s.events)
	}
}

// lists wants the group in the lists of those who are in it, over both entrances.
func (w *rights) lists(t *testing.T) {
	t.Helper()
	st, err := sqlite.OpenReader(t.Context(), filepath.Join(w.Data, harness.StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	harness.Eventually(t, "the group is stored", func() bool {
		last, _, err := w.log.Last(t.Context(), harness.MustChat(t, w.stage.chat))
		head, _, headErr := st.Head(t.Context(), harness.MustChat(t, w.stage.chat))
		return err == nil && headErr == nil && head.LastSeq == last
	})
	for _, standing := range standings {
		in := toTalk.wanted(standing.name, "") == ""
		var page schemas.ChatsPage
		for _, entrance := range []string{"WebSocket", "HTTP"} {
			w.cells++
			if entrance == "HTTP" {
				_, body, _ := w.Call(t, "GET", "/v1/chats?limit=200", standing.user, "", "")
				if err := json.Unmarshal([]byte(body), &page); err != nil {
					t.Fatalf("%s: %v", body, err)
				}
			} else {
				w.talks[standing.user].Answer(&page, `{"t":"chats","limit":200}`)
			}
			listed := slices.ContainsFunc(page.Chats, func(c schemas.ListChat) bool { return c.Chat.String() == w.stage.chat })
			if listed != in {
				t.Errorf("over %s, chats of the %s: has the group: %t, want %t", entrance, standing.name, listed, in)
			}
		}
	}
}

// resumes has everybody resume the group in a new session.
func (w *rights) resumes(t *testing.T) {
	t.Helper()
	for _, standing := range standings {
		w.cells++
		events, resumed := resume(t, w.DevServer, standing.user, w.stage.chat, 0)
		in := toTalk.wanted(standing.name, "") == ""
		reset := slices.ContainsFunc(resumed.Reset, func(r schemas.ResetChat) bool { return r.Reason == schemas.ResetNotMember })
		if reset == in || in && len(events) != w.stage.events || !in && len(events) != 0 {
			t.Errorf("resume of the %s: %d of %d events, %+v", standing.name, len(events), w.stage.events, resumed)
		}
	}
}

// resume begins a session that holds a chat up to a seq, and returns the events
// that it was sent and what ended them.
func resume(t *testing.T, d *harness.DevServer, user, chat string, after uint64) (events []harness.Frame, resumed schemas.Resumed) {
	t.Helper()
	return resumeAt(t, d.URL, d.Token(t, user), chat, after)
}

func resumeAt(t *testing.T, url, token, chat string, after uint64) (events []harness.Frame, resumed schemas.Resumed) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := fmt.Sprintf(`{"t":"hello","token":"%s","resume":{"%s":%d}}`, token, chat, after)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(hello)); err != nil {
		t.Fatal(err)
	}
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		f := harness.Frame{Text: string(data)}
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		switch {
		case f.T == schemas.TEvent && f.Chat == chat:
			events = append(events, f)
		case f.T == schemas.TResumed:
			if err := json.Unmarshal(data, &resumed); err != nil {
				t.Fatal(err)
			}
			return events, resumed
		}
	}
}

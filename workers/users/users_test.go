package users_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store"
	"parley/workers/users"
	"parley/workers/worker"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server, a store, and the service as an edge asks it.
type world struct{ *workerstest.World }

func newWorld(t testing.TB, change func(*users.Config)) world {
	t.Helper()
	w := world{workerstest.NewWorld(t, streamstest.Options{NoProvision: true})}
	started := make(chan struct{})
	cfg := users.Config{Conn: w.NATS, Store: w.Store, Runtime: worker.Runtime{Started: func() { close(started) }}}
	if change != nil {
		change(&cfg)
	}
	service, err := users.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	workerstest.Run(t, service.Run)
	<-started
	return w
}

// ask returns the answer, or the code of a refusal.
func (w world) ask(subject, request string) (string, schemas.Code) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), 10*time.Second)
	defer cancel()
	answer, refused := streams.Ask(ctx, w.Edge, subject, []byte(request))
	if refused != nil {
		if refused.Message == "" || (refused.RetryAfter > 0) != (refused.Code == schemas.Unavailable) {
			w.T.Errorf("%s %.100s: refused with %+v", subject, request, refused)
		}
		return "", refused.Code
	}
	return string(answer), ""
}

func (w world) done(subject, request string) string {
	w.T.Helper()
	answer, code := w.ask(subject, request)
	if code != "" {
		w.T.Fatalf("%s %.100s: refused with %s", subject, request, code)
	}
	return answer
}

var (
	profile    = streams.AskSubject(schemas.TProfile)
	setProfile = streams.AskSubject(schemas.TSetProfile)
	setStatus  = streams.AskSubject(schemas.TStatus)
	block      = streams.AskSubject(schemas.TBlock)
)

func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if got := w.done(setProfile, `{"by":"alice","name":"Alice ⚘","lang":"pt-BR"}`); got != "{}" {
		t.Errorf("profile.set answers %s", got)
	}
	w.done(setProfile, `{"by":"alice","avatar":"f1"}`)
	w.done(setProfile, `{"by":"bob","name":"Bob","avatar":"f2"}`)
	w.done(setProfile, `{"by":"bob","avatar":""}`)
	got := w.done(profile, `{"by":"carol","users":["bob","dave","alice","bob"]}`)
	want := `{"profiles":[{"user":"bob","name":"Bob"},{"user":"dave"},` +
		`{"user":"alice","name":"Alice ⚘","avatar":"f1","lang":"pt-BR"},{"user":"bob","name":"Bob"}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestOwnChoicesAreToldToTheUserAlone: others read neither what it hides nor that it does.
func TestOwnChoicesAreToldToTheUserAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	check := func(by, want string) {
		t.Helper()
		if got := w.done(profile, fmt.Sprintf(`{"by":%q,"users":["bob","alice"]}`, by)); got != `{"profiles":[`+want+`]}` {
			t.Errorf("%s is answered %s, want %s", by, got, want)
		}
	}
	const bob, alice = `{"user":"bob"}`, `{"user":"alice"}`
	check("alice", bob+`,{"user":"alice","readReceipts":true,"status":"online"}`)
	w.done(setProfile, `{"by":"alice","readReceipts":false}`)
	w.done(setStatus, `{"by":"alice","status":"invisible"}`)
	check("alice", bob+`,{"user":"alice","readReceipts":false,"status":"invisible"}`)
	check("bob", `{"user":"bob","readReceipts":true,"status":"online"},`+alice)
	check("carol", bob+","+alice)
	w.done(setProfile, `{"by":"alice","readReceipts":true}`)
	w.done(setStatus, `{"by":"alice","status":"away"}`)
	check("alice", bob+`,{"user":"alice","readReceipts":true,"status":"away"}`)
}

// TestEdgesAskAnew: what a user lets others see is told with its blocks, and its
// edges hear of each change of it.
func TestEdgesAskAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	sub := w.Subscribe(streams.PersonalPrefix + "*")
	check := func(want string) {
		t.Helper()
		if got := w.done(streams.PrivacySubject, `{"user":"alice"}`); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(`{"blocks":[]}`)
	for _, step := range []struct{ subject, request, want string }{
		{setStatus, `{"by":"alice","status":"away"}`, `{"blocks":[],"status":"away"}`},
		{setProfile, `{"by":"alice","readReceipts":false}`, `{"blocks":[],"hidesReads":true,"status":"away"}`},
		{setProfile, `{"by":"alice","name":"A","readReceipts":true}`, `{"blocks":[],"status":"away"}`},
		{setStatus, `{"by":"alice","status":"online"}`, `{"blocks":[],"status":"online"}`},
	} {
		if got := w.done(step.subject, step.request); got != "{}" {
			t.Errorf("%s answers %s", step.subject, got)
		}
		msg, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		const notice = `{"t":"chat","chat":"direct.alice.alice","change":"privacy","hidden":true}`
		if msg.Subject != streams.PersonalPrefix+"alice" || string(msg.Data) != notice {
			t.Errorf("%s: %s is told %s", step.request, msg.Subject, msg.Data)
		}
		check(step.want)
	}
	// Of what is nobody's concern nobody hears; the next that is told is a block.
	w.done(setProfile, `{"by":"alice","name":"Alice"}`)
	w.done(block, `{"by":"alice","user":"bob","on":true}`)
	if msg, err := sub.NextMsg(10 * time.Second); err != nil || !strings.Contains(string(msg.Data), string(schemas.ChatBlocked)) {
		t.Errorf("told %s, %v", msg.Data, err)
	}
	check(`{"blocks":["bob"],"status":"online"}`)
}

// wantHeard wants the notices of alice and bob to agree with the answers of the service.
// apart says whether the two may not talk.
func (w world) wantHeard(heard map[string][]string, apart bool) {
	w.T.Helper()
	for _, user := range []string{"alice", "bob"} {
		var answer schemas.PrivacyAnswer
		if err := json.Unmarshal([]byte(w.done(streams.PrivacySubject, fmt.Sprintf(`{"user":%q}`, user))), &answer); err != nil {
			w.T.Fatal(err)
		}
		var stored []string
		for _, other := range answer.Blocks {
			stored = append(stored, other.String())
		}
		if diff := cmp.Diff(stored, heard[user]); diff != "" || (len(stored) > 0) != apart {
			w.T.Errorf("%s does not talk with %v, and its edge has heard %v", user, stored, heard[user])
		}
	}
}

func TestBlocksAreToldToBoth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	sub := w.Subscribe(streams.PersonalPrefix + "*")
	// talks tells with whom each of the two does not talk, as edges have heard.
	heard := make(map[string][]string)
	check := func(by, other string, on bool, change schemas.ChatChange, want bool) {
		t.Helper()
		if got := w.done(block, fmt.Sprintf(`{"by":%q,"user":%q,"on":%v}`, by, other, on)); got != "{}" {
			t.Errorf("block answers %s", got)
		}
		frames := 0
		for range 3 {
			msg, err := sub.NextMsg(10 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			user := strings.TrimPrefix(msg.Subject, streams.PersonalPrefix)
			var notice schemas.Notice
			if err := json.Unmarshal(msg.Data, &notice); err != nil || notice.T != schemas.TChat || notice.Chat.String() != "direct.alice.bob" {
				t.Errorf("%s is told %s (%v)", user, msg.Data, err)
			}
			if !notice.Hidden {
				if frames++; user != by || notice.Change != change {
					t.Errorf("%s has blocked, %v, and %s is sent %s", by, on, user, msg.Data)
				}
				continue
			}
			heard[user] = nil
			if notice.Change == schemas.ChatBlocked {
				heard[user] = []string{map[string]string{"alice": "bob", "bob": "alice"}[user]}
			}
		}
		if frames != 1 {
			t.Errorf("%d frames are sent", frames)
		}
		w.wantHeard(heard, want)
	}
	check("alice", "bob", true, schemas.ChatBlocked, true)
	check("bob", "alice", true, schemas.ChatBlocked, true)
	check("alice", "bob", false, schemas.ChatUnblocked, true) // bob still does
	check("alice", "bob", false, schemas.ChatUnblocked, true)
	check("bob", "alice", false, schemas.ChatUnblocked, false)
	check("bob", "alice", true, schemas.ChatBlocked, true)
}

func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	many := strings.Repeat(`"u",`, schemas.ProfilesMax) + `"u"`
	for subject, requests := range map[string][]string{
		block:                  {``, `{"by":"alice","user":"alice","on":true}`, `{"by":"alice","user":"bob"}`, `{"by":"alice","on":true}`, `{"user":"bob","on":true}`},
		profile:                {`{"by":"alice"}`, `{"by":"alice","users":[]}`, `{"by":"alice","users":[` + many + `]}`, `{"by":"alice","users":["a b"]}`},
		setProfile:             {`{"by":"alice"}`, `{"by":"alice","name":""}`, `{"by":"alice","name":"a\nb"}`, `{"by":"alice","lang":"?"}`, `{"by":"alice","avatar":"a b"}`, `{"by":"alice","readReceipts":"no"}`},
		setStatus:              {`{"by":"alice"}`, `{"status":"away"}`, `{"by":"alice","status":""}`, `{"by":"alice","status":"offline"}`},
		streams.PrivacySubject: {``, `{}`, `{"user":""}`},
	} {
		for _, request := range requests {
			if _, code := w.ask(subject, request); code != schemas.Invalid {
				t.Errorf("%s %.100s: %q", subject, request, code)
			}
		}
	}
}

// fullStore has as many blocks of everybody as a store returns.
type fullStore struct{ users.Store }

func (fullStore) Blocks(context.Context, schemas.User) (all []schemas.User, err error) {
	for i := range store.BlocksMax {
		user, err := schemas.ParseUser(fmt.Sprintf("u%d", i))
		if err != nil {
			return nil, err
		}
		all = append(all, user)
	}
	return all, nil
}

func TestBlocksHaveABound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *users.Config) { cfg.Store = fullStore{cfg.Store} })
	if _, code := w.ask(block, `{"by":"alice","user":"bob","on":true}`); code != schemas.Invalid {
		t.Errorf("one more: %q", code)
	}
	for _, request := range []string{`{"by":"alice","user":"u7","on":true}`, `{"by":"alice","user":"u7","on":false}`, `{"by":"alice","user":"bob","on":false}`} {
		if _, code := w.ask(block, request); code != "" {
			t.Errorf("%s: %q", request, code)
		}
	}
}

func TestAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Store.Close()
	for subject, request := range map[string]string{
		block:                  `{"by":"alice","user":"bob","on":true}`,
		profile:                `{"by":"alice","users":["bob"]}`,
		setProfile:             `{"by":"alice","name":"A"}`,
		setStatus:              `{"by":"alice","status":"away"}`,
		streams.PrivacySubject: `{"user":"alice"}`,
	} {
		if _, code := w.ask(subject, request); code != schemas.Unavailable {
			t.Errorf("%s: %q", subject, code)
		}
	}
}

func TestOfTwoTimesTheLaterWins(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	times := []time.Time{time.Unix(2000, 0), time.Unix(1000, 0), time.Unix(2000, 0), time.Unix(1000, 0)}
	w := newWorld(t, func(cfg *users.Config) {
		cfg.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now := times[0]
			times = slices.Delete(times, 0, 1)
			return now
		}
	})
	w.done(setProfile, `{"by":"alice","name":"later"}`)
	w.done(setProfile, `{"by":"alice","name":"earlier"}`)
	if got := w.done(profile, `{"by":"bob","users":["alice"]}`); !strings.Contains(got, "later") {
		t.Errorf("got %s", got)
	}
	w.done(setStatus, `{"by":"alice","status":"invisible"}`)
	w.done(setStatus, `{"by":"alice","status":"online"}`)
	if got := w.done(profile, `{"by":"alice","users":["alice"]}`); !strings.Contains(got, "invisible") {
		t.Errorf("got %s", got)
	}
}

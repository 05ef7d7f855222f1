package bench

import (
	"bytes"
	"crypto/rand"
	"io"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
)

func testUser(t *testing.T, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// decodeClientFrame takes a masked frame apart as a server does.
func decodeClientFrame(t *testing.T, frame []byte) schemas.Frame {
	t.Helper()
	payload, header := frame, 2
	switch frame[1] & 0x7F {
	case 126:
		header = 4
	case 127:
		header = 10
	}
	payload = payload[header+4:]
	decoded, err := schemas.DecodeFrame(payload)
	if err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	return decoded
}

func TestSendFrameIsWhatAnEdgeTakes(t *testing.T) {
	t.Parallel()
	alice, bob := testUser(t, "alice"), testUser(t, "bob")
	for _, textBytes := range []int{1, 64, 70_000} {
		f := newSendFrame(alice, schemas.DirectChat(alice, bob), "d16", textBytes)
		for _, n := range []uint64{1, 999_999_999_999} {
			frame := decodeClientFrame(t, f.append(nil, 15, n))
			if frame.Ref.Value != refBase+15 || frame.Send == nil {
				t.Fatalf("ref %v, send %v", frame.Ref, frame.Send)
			}
			event, err := schemas.EncodeEvent(&schemas.Event{Type: frame.Send.Type, ID: frame.Send.ID, From: alice, Body: frame.Send.Body})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(event, f.event(n)) {
				t.Fatalf("the edge stores %.200s\nceiling       %.200s", event, f.event(n))
			}
			if got, ok := messageNumber(event); !ok || got != n {
				t.Fatalf("message number %d, want %d, in %.200s", got, n, event)
			}
		}
	}
}

func TestNumberAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		payload string
		want    uint64
		ok      bool
	}{
		{`{"t":"ack","ref":1000000015,"seq":1099511627781}`, 1099511627781, true},
		{`{"seq":7`, 7, true},
		{`{"seq":}`, 0, false},
		{`{"prev":3}`, 0, false},
		{``, 0, false},
	} {
		if got, ok := numberAfter([]byte(tc.payload), seqName); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %d %v, want %d %v", tc.payload, got, ok, tc.want, tc.ok)
		}
	}
}

func TestSessionChecksWhatComes(t *testing.T) {
	t.Parallel()
	event := func(seq string) string { return `{"t":"event","chat":"direct.a.b","seq":` + seq + `,"prev":0}` }
	for _, tc := range []struct {
		name   string
		frames []string
		want   string // part of the error that the last frame makes; empty: none
	}{
		{"rising", []string{event("1"), event("3")}, ""},
		{"doubled", []string{event("3"), event("3")}, "doubled"},
		{"falling", []string{event("3"), event("2")}, "out of order"},
		{"refused", []string{`{"t":"error","code":"rate_limited"}`}, "rate_limited"},
		{"resync", []string{`{"t":"resync"}`}, "resync"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var stream []byte
			for _, frame := range tc.frames {
				stream = appendUnmasked(stream, opText, []byte(frame))
			}
			s := &session{reader: frameReader{src: bytes.NewReader(stream), buf: make([]byte, 256)}}
			var err error
			for range tc.frames {
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = s.next()
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error %v, want …%s…", err, tc.want)
			}
		})
	}
}

func TestQuantilesAreNearTheTrueOnes(t *testing.T) {
	t.Parallel()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	var h histogram
	if h.quantile(0.99) != 0 {
		t.Fatal("a quantile of nothing is not 0")
	}
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(random.ExpFloat64() * float64(3*time.Millisecond))
		h.add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[int(q*float64(len(all)))-1]
		got := h.quantile(q)
		if got < want-time.Microsecond || float64(got) > float64(want+2*time.Microsecond)*1.016 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestBucketsHaveNoHoles(t *testing.T) {
	t.Parallel()
	for bucket := range bucketsMax - 1 {
		end := bucketEnd(bucket)
		if got := bucketOf(end); got != bucket {
			t.Fatalf("%v is in bucket %d, want %d", end, got, bucket)
		}
		if got := bucketOf(end + time.Microsecond); got != bucket+1 {
			t.Fatalf("%v is in bucket %d, want %d", end+time.Microsecond, got, bucket+1)
		}
	}
	if got := bucketOf(1000 * time.Hour); got != bucketsMax-1 {
		t.Fatalf("1000 h are in bucket %d, want the last", got)
	}
}

func TestParseSeries(t *testing.T) {
	t.Parallel()
	s, err := parseSeries(strings.NewReader("# HELP x y\nprocess_cpu_seconds_total 1.25\nparley_edge_sends_total{result=\"ack\"} 3\nparley_edge_sends_total{result=\"a b\"} 4\nbig 1.5e+06\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{cpuSeries: 1.25, "parley_edge_sends_total": 7, "big": 1.5e6} {
		if s[name] != want {
			t.Errorf("%s is %v, want %v", name, s[name], want)
		}
	}
	for name, want := range map[string]float64{"parley_edge_sends_total": 4, "parley_edge": 0, "nothing": 0} {
		if got := s.highest(name); got != want {
			t.Errorf("highest of %s is %v, want %v", name, got, want)
		}
	}
	for _, broken := range []string{"x", "x y", " 1"} {
		if _, err := parseSeries(strings.NewReader(broken)); err == nil {
			t.Errorf("%q is taken for a sample", broken)
		}
	}
}

func TestTableHasALineForEachResult(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	results := []Result{
		{Workload: "direct", Case: "16 in flight", Rate: 3000, Unit: "acked", Ratio: 0.83, RatioOf: "ceiling"},
		{Workload: "idle", Rate: 2000, Unit: "opened", BytesPerConnection: 11 * 1024},
		{Workload: "create", Unit: "groups", Goals: []Goal{{"under 2s", true}, {"under 1s", false}}},
	}
	if err := writeTable(&out, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3000 acked/s", "0.83 of ceiling", "11.0 KiB per connection", "goal: under 2s: reached, goal: under 1s: MISSED"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestFiguresHaveATableOfTheirWorkload(t *testing.T) {
	t.Parallel()
	first, second := Result{Workload: "persist", Case: "a", Rate: 100, Unit: "acked"}, Result{Workload: "persist", Case: "b"}
	first.figure("lag", 0.5, "s")
	second.figure("lag", 1234.5, "s")
	second.figure("rows", 50, "")
	var out bytes.Buffer
	if err := writeTable(&out, []Result{first, second, {Workload: "idle", Unit: "opened"}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"persist a 100 acked/s - - - - - -", "idle 0 opened/s - - - - - -", "", "persist lag s rows", "a 0.5 -", "b 1234 50"}
	if !slices.Equal(got[1:], want) {
		t.Errorf("%q, want after its head %q", got, want)
	}
}

func TestSessionOfManyChatsChecksEach(t *testing.T) {
	t.Parallel()
	event := func(chat, seq string) []byte {
		return []byte(`{"t":"event","chat":"` + chat + `","seq":` + seq + `,"prev":0}`)
	}
	s := &session{lastSeqs: map[string]*uint64{}}
	for _, e := range [][]byte{event("direct.a.b", "9"), event("direct.a.c", "3"), event("direct.a.b", "10"), event("direct.a.c", "4")} {
		if err := s.sawEvent(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.sawEvent(event("direct.a.c", "4")); err == nil {
		t.Error("an event that came twice is taken")
	}
}

func TestLagAtTheEndIsTheWorstOfTheLastSamples(t *testing.T) {
	t.Parallel()
	var l lags
	if l.atEnd() != 0 {
		t.Error("a lag without samples")
	}
	end := time.Now()
	l.samples = []lag{{end.Add(-3 * time.Second), 9}, {end.Add(-time.Second), 5}, {end.Add(-time.Millisecond), 7}, {end, 0}}
	if got := l.atEnd(); got != 7 {
		t.Errorf("lag at the end %v, want 7", got)
	}
}

// The chats of a load are in all streams, whatever the run is called.
func TestPairsAreInAllShards(t *testing.T) {
	t.Parallel()
	layout := streams.NewLayout(8)
	for range 50 {
		r := &run{name: strings.ToLower(rand.Text()[:6])}
		pairs := make(map[streams.Shard]int)
		for i := range 100 {
			_, _, chat := r.pairUsers(i)
			pairs[layout.Shard(chat)]++
		}
		if len(pairs) != 8 {
			t.Errorf("run %s: pairs by shard %v", r.name, pairs)
		}
	}
}

func TestDurationOfPersistIsItsOwnUnlessOneIsGiven(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cfg           Config
		persist, rest time.Duration
	}{
		{Config{}, time.Minute, 10 * time.Second},
		{Config{Short: true}, 6 * time.Second, time.Second},
		{Config{Duration: 3 * time.Second}, 3 * time.Second, 3 * time.Second},
	} {
		if got := tc.cfg.sizes().persistFor; got != tc.persist {
			t.Errorf("%+v: persist is measured for %s, want %s", tc.cfg, got, tc.persist)
		}
		if got := tc.cfg.withDefaults().Duration; got != tc.rest {
			t.Errorf("%+v: the others are measured for %s, want %s", tc.cfg, got, tc.rest)
		}
	}
}

func TestEachWorkloadHasAMethod(t *testing.T) {
	t.Parallel()
	for _, name := range Workloads() {
		if (&run{}).workload(name) == nil {
			t.Errorf("workload %q has no method", name)
		}
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	t.Parallel()
	err := Config{Workloads: []string{"nope", "replicas"}, TextBytes: -1, LogEvents: 5, LogChats: 3}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"running one", "nowhere", `"nope"`, `"replicas"`, "text bytes -1", "5 events in 3 chats"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if err := (Config{Target: &Target{}, Out: io.Discard}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestSumOfAHistogramIsNearTheTrueOne(t *testing.T) {
	t.Parallel()
	var h histogram
	want := time.Duration(0)
	for i := range 1000 {
		d := time.Duration(i) * time.Millisecond
		h.add(d)
		want += d
	}
	if got := h.sum(); got < want || float64(got) > float64(want)*1.016 {
		t.Errorf("sum %s, want %s", got, want)
	}
}

func TestSessionIsToldOfItsGroupInAnyOrder(t *testing.T) {
	t.Parallel()
	chat, frame, err := createFrame("team", []schemas.User{testUser(t, "bob")})
	if err != nil {
		t.Fatal(err)
	}
	if f := decodeClientFrame(t, frame); f.T != schemas.TCreate || f.Ask == nil || !strings.Contains(string(f.Ask.JSON), `"bob"`) {
		t.Fatalf("the request is %+v", f)
	}
	added, event := `{"t":"chat","chat":"group.team","change":"added","seq":7}`, `{"t":"event","chat":"group.team","seq":7,"prev":0}`
	for _, tc := range []struct {
		frames []string
		want   string // part of the error; empty: none
	}{
		{[]string{added, event}, ""},
		{[]string{event, added}, ""},
		{[]string{added, `{"t":"event","chat":"group.other","seq":8,"prev":0}`}, "group.other"},
		{[]string{added, `{"t":"done","chat":"group.team"}`}, "not told all"},
	} {
		var stream []byte
		for _, frame := range tc.frames {
			stream = appendUnmasked(stream, opText, []byte(frame))
		}
		here, there := net.Pipe()
		s := &session{net: here, reader: frameReader{src: bytes.NewReader(stream), buf: make([]byte, 256)}, lastSeqs: map[string]*uint64{}}
		_, err := s.awaitGroup(chat, kindChat, kindEvent)
		here.Close()
		there.Close()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q: error %v, want …%s…", tc.frames, err, tc.want)
		}
	}
}

func TestKeysAreWrittenAsEdgesWriteThem(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ heartbeat, ttl, every time.Duration }{
		{heartbeat, 75 * time.Second, 12 * time.Second},
		{heartbeatShort, 15 * time.Second, 2 * time.Second},
		{time.Second, 3 * time.Second, time.Second},
	} {
		if ttl, every := keyTTL(tc.heartbeat), keyEvery(tc.heartbeat); ttl != tc.ttl || every != tc.every {
			t.Errorf("heartbeat %s: keys live %s and are written every %s, want %s and %s", tc.heartbeat, ttl, every, tc.ttl, tc.every)
		}
	}
}

func TestReceiverTellsWhatEdgesTake(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	alice, bob := testUser(t, "alice"), testUser(t, "bob")
	p := newReceiptPair(&receiptLoad{}, &session{user: alice}, &session{user: bob, net: here})
	told := make(chan error, 1)
	go func() { told <- p.tell(1099511627780) }()
	for _, want := range []schemas.Type{schemas.TDelivered, schemas.TRead} {
		frame := make([]byte, 256)
		n, err := there.Read(frame)
		if err != nil {
			t.Fatal(err)
		}
		f := decodeClientFrame(t, frame[:n])
		if f.T != want || f.Ref.Present || f.Mark == nil || f.Mark.Seq != 1099511627780 || f.Mark.Chat != schemas.DirectChat(alice, bob) {
			t.Errorf("it tells %+v, want %s", f, want)
		}
	}
	if err := <-told; err != nil || p.got.Load() != 1099511627780 {
		t.Errorf("told %v, it got %d", err, p.got.Load())
	}
	for frame, want := range map[string]kind{
		`{"t":"receipt","chat":"direct.alice.bob","marks":[]}`: kindReceipt, `{"t":"receipts","ref":1}`: kindOther, `{"t":"presence","users":{}}`: kindPresence,
	} {
		if got := kindOf([]byte(frame)); got != want {
			t.Errorf("%s is of kind %d, want %d", frame, got, want)
		}
	}
}

func TestFiguresThatHaveNothingInCommonAreTables(t *testing.T) {
	t.Parallel()
	one, other, third := Result{Workload: "presence", Case: "a"}, Result{Workload: "presence", Case: "b"}, Result{Workload: "presence", Case: "c"}
	one.figure("CPU", 1, "%")
	other.figure("left", 2, "")
	third.figure("left", 3, "")
	third.figure("after", 4, "s")
	var out bytes.Buffer
	if err := writeTable(&out, []Result{one, {Workload: "presence", Unit: "changes"}, other, third}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"", "presence CPU %", "a 1", "", "presence left after s", "b 2 -", "c 3 4"}
	if !slices.Equal(got[2:], want) {
		t.Errorf("%q, want at its end %q", got, want)
	}
}

func TestMergedHistogramHasAll(t *testing.T) {
	t.Parallel()
	var one, other histogram
	one.add(time.Millisecond)
	other.add(3 * time.Millisecond)
	one.merge(&other)
	if one.count() != 2 || one.quantile(1) < 3*time.Millisecond {
		t.Errorf("%d durations, the longest %s", one.count(), one.quantile(1))
	}
}

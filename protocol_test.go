package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/websocket"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"parley/edge/auth"
	"parley/schemas"
)

const (
	protocolFile = "docs/protocol.md"
	// frameWithin bounds the wait for a frame: only a defect takes so long.
	frameWithin = 60 * time.Second
)

// protocolBlock is a fenced block of docs/protocol.md: a comment there says how they read.
type protocolBlock struct {
	line             int
	side, name, text string
}

func readProtocolBlocks(t *testing.T) (blocks []protocolBlock) {
	t.Helper()
	data, err := os.ReadFile(protocolFile)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	fence := regexp.MustCompile("(?ms)^```(?:json )?(client|server|close|http)(?: ([a-z0-9]+))?\n(.*?)\n```$")
	for _, at := range fence.FindAllStringSubmatchIndex(doc, -1) {
		block := protocolBlock{line: 1 + strings.Count(doc[:at[0]], "\n"), side: doc[at[2]:at[3]], text: doc[at[6]:at[7]]}
		if at[4] >= 0 {
			block.name = doc[at[4]:at[5]]
		}
		blocks = append(blocks, block)
	}
	return blocks
}

// TestProtocolDocumentIsTrue plays the conversations of docs/protocol.md with a server.
func TestProtocolDocumentIsTrue(t *testing.T) {
	t.Parallel()
	p := &protocolReplay{
		server: startDev(t, ""), sessions: map[string]*protocolSession{},
		seqs: map[uint64]uint64{}, cursors: map[string]string{}, shown: map[string]bool{},
		schemas: map[string]*jsonschema.Schema{},
	}
	played := 0
	for _, block := range readProtocolBlocks(t) {
		p.t, p.line = t, block.line
		switch {
		case block.side == "client":
			p.say(block)
		case block.side == "server" && block.name == "": // for its form alone
			p.checkSchema(block.text)
			continue
		case block.side == "server":
			p.expect(block)
		case block.side == "close":
			p.expectClose(block)
		case block.side == "http":
			p.call(block)
		}
		played++
	}
	for name := range p.sessions {
		p.hangUp(name)
	}
	if played < 130 {
		t.Errorf("only %d examples were found in %s", played, protocolFile)
	}
}

// protocolReplay plays the examples of one document.
type protocolReplay struct {
	t        *testing.T
	line     int // of the example at hand
	server   *devServer
	sessions map[string]*protocolSession
	seqs     map[uint64]uint64 // of the document → of the server
	cursors  map[string]string // likewise
	shown    map[string]bool   // events of the server that an example has shown to a session
	request  protocolBlock     // the last HTTP request, which is made when its answer is read
	schemas  map[string]*jsonschema.Schema
}

// protocolSession is the connection that a name of the document stands for.
type protocolSession struct {
	conn  *websocket.Conn
	early []string // frames that came and that no example has shown yet
	asked string   // the last frame said
}

func (p *protocolReplay) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s", protocolFile, p.line, fmt.Sprintf(format, args...))
}

// say sends a client's frame; a hello opens a new connection.
func (p *protocolReplay) say(block protocolBlock) {
	p.t.Helper()
	if strings.HasPrefix(block.text, `{"t":"hello"`) {
		p.hangUp(block.name)
		dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}}
		conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(p.server.url, "http")+"/v1/ws", nil)
		if err != nil {
			p.fatalf("dial: %v", err)
		}
		p.t.Cleanup(func() { conn.Close() })
		if conn.Subprotocol() != schemas.Subprotocol {
			p.fatalf("the subprotocol is %q", conn.Subprotocol())
		}
		p.sessions[block.name] = &protocolSession{conn: conn}
	}
	s := p.sessions[block.name]
	if s == nil {
		p.fatalf("%s has said no hello", block.name)
	}
	s.asked = p.real(block.text, block.name)
	p.write(s, s.asked)
}

func (p *protocolReplay) write(s *protocolSession, text string) {
	p.t.Helper()
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.fatalf("%v", err)
	}
}

// real is an example with the server's own seqs and cursors, and a token, in it.
func (p *protocolReplay) real(example, name string) string {
	p.t.Helper()
	if strings.Contains(example, "<token>") {
		example = strings.ReplaceAll(example, "<token>", p.token(name))
	}
	for shown, cursor := range p.cursors {
		example = strings.ReplaceAll(example, shown, cursor)
	}
	return exampleSeq.ReplaceAllStringFunc(example, func(number string) string {
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			p.fatalf("%v", err)
		}
		bound, ok := p.seqs[seq]
		if !ok {
			p.fatalf("%s names seq %d, which no server has told", name, seq)
		}
		return strconv.FormatUint(bound, 10)
	})
}

// token returns a valid token; each is later than the one before.
func (p *protocolReplay) token(user string) string {
	p.t.Helper()
	secret, err := loadOrCreateSecret(p.server.data, "")
	if err != nil {
		p.fatalf("%v", err)
	}
	token, err := auth.Mint(secret, mustUser(p.t, user), time.Now(), time.Hour)
	if err != nil {
		p.fatalf("%v", err)
	}
	return token
}

// expect takes frames of a session until one is what the example shows.
func (p *protocolReplay) expect(block protocolBlock) {
	p.t.Helper()
	p.checkSchema(block.text)
	s := p.sessions[block.name]
	for i, frame := range s.early {
		if p.matches(block.text, frame) {
			s.early = append(s.early[:i], s.early[i+1:]...)
			return
		}
	}
	for tries := 0; ; {
		frame, err := s.next()
		if err != nil {
			p.fatalf("%s waits for %s\ngot %s\nand then: %v", block.name, block.text, strings.Join(s.early, "\n    "), err)
		}
		p.checkSchema(frame)
		switch {
		case p.matches(block.text, frame):
			return
		case asksAgain(frame, block.text):
			if tries++; tries > listTries {
				p.fatalf("%s waits for %s\nand gets %s", block.name, block.text, frame)
			}
			<-time.After(listAgainAfter) // it may lag
			p.write(s, s.asked)
		default:
			s.early = append(s.early, frame)
		}
	}
}

// Lists of chats, and receipts, are asked for until they are as shown.
const (
	listTries      = 1500
	listAgainAfter = 20 * time.Millisecond
)

var lags = regexp.MustCompile(`^\{"t":"(chats|receipts)"`)

// asksAgain tells whether a frame is what an example shows, but for what may lag.
func asksAgain(frame, example string) bool {
	prefix := lags.FindString(frame)
	return prefix != "" && strings.HasPrefix(example, prefix)
}

// call makes an HTTP request when the example of its answer is read.
func (p *protocolReplay) call(block protocolBlock) {
	p.t.Helper()
	if _, err := strconv.Atoi(block.name); err != nil {
		p.request = block
		return
	}
	head, body, _ := strings.Cut(p.real(p.request.text, p.request.name), "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	for tries := 0; ; tries++ {
		req, err := http.NewRequestWithContext(p.t.Context(), method, p.server.url+path, strings.NewReader(body))
		if err != nil {
			p.fatalf("%v", err)
		}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Set(name, value)
		}
		status, answer := p.answerOf(req)
		isList := strings.HasPrefix(path, "/v1/chats?")
		if strconv.Itoa(status) == block.name && p.matches(block.text, answer) {
			p.checkAnswer(answer)
			return
		}
		if !isList || tries > listTries {
			p.fatalf("%s: %d %s\nwant %s %s", lines[0], status, answer, block.name, block.text)
		}
		<-time.After(listAgainAfter)
	}
}

func (p *protocolReplay) answerOf(req *http.Request) (status int, body string) {
	p.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.fatalf("%v", err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.fatalf("%v", err)
	}
	return resp.StatusCode, string(data)
}

// checkAnswer holds an HTTP answer against the schema of the frame that it would be.
func (p *protocolReplay) checkAnswer(body string) {
	p.t.Helper()
	for first, t := range map[string]schemas.Type{`{"code":`: schemas.TError, `{"id":`: schemas.TAck, `{"chats":`: schemas.TChats, `{"chat":`: schemas.TPage} {
		if strings.HasPrefix(body, first) {
			p.checkSchema(`{"t":"` + string(t) + `",` + strings.TrimPrefix(body, "{"))
			return
		}
	}
	p.fatalf("%s is no answer of the protocol", body)
}

func (s *protocolSession) next() (string, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(frameWithin)); err != nil {
		return "", err
	}
	_, data, err := s.conn.ReadMessage()
	return string(data), err
}

// expectClose reads a session's end and checks its code.
func (p *protocolReplay) expectClose(block protocolBlock) {
	p.t.Helper()
	s := p.sessions[block.name]
	frame, err := s.next()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || strconv.Itoa(closed.Code) != block.text {
		p.fatalf("%s got %q, %v: want close %s", block.name, frame, err, block.text)
	}
	p.wantAllShown(block.name)
	delete(p.sessions, block.name)
}

// hangUp ends a session once all that came for it was shown: a ping brings the rest.
func (p *protocolReplay) hangUp(name string) {
	p.t.Helper()
	s := p.sessions[name]
	if s == nil {
		return
	}
	const ping = `{"t":"ping","ref":9007199254740991}`
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(ping)); err != nil {
		p.fatalf("%v", err)
	}
	for {
		frame, err := s.next()
		if err != nil {
			p.fatalf("%s: %v", name, err)
		}
		if frame == strings.Replace(ping, "ping", "pong", 1) {
			break
		}
		s.early = append(s.early, frame)
	}
	p.wantAllShown(name)
	s.conn.Close()
	delete(p.sessions, name)
}

// wantAllShown wants that an example shows each frame that came: an event to one
// of the sessions that get it.
func (p *protocolReplay) wantAllShown(name string) {
	p.t.Helper()
	for _, frame := range p.sessions[name].early {
		if p.shown[p.eventOf(frame)] {
			continue
		}
		p.t.Errorf("%s: before line %d, %s got what no example shows: %s", protocolFile, p.line, name, frame)
	}
}

var (
	// exampleSeq are the numbers that stand for seqs: from 2^40 up to 2^41.
	exampleSeq = regexp.MustCompile(`\b(1099511627[7-9]\d{2}|10995116[3-9]\d{5})\b`)
	// volatile members are whatever the server says; so are the ids of what it writes itself.
	volatileText = regexp.MustCompile(`"(time|now|expires|lastSeen|session|node|message|cursor)":"(?:[^"\\]|\\.)*"`)
	prevText     = regexp.MustCompile(`"prev":\d+`)
	cursorText   = regexp.MustCompile(`"cursor":"([^"]+)"`)
	serverID     = regexp.MustCompile(`("change":"[a-z]+","count":\d+,"from":"[a-z]+"(?:,"history":"[a-z]+")?),"id":"[A-Z0-9]{26}"`)
)

// matches tells whether frame is the example, and binds the seqs of the example
// that were not seen before.
func (p *protocolReplay) matches(example, frame string) bool {
	want, have := p.canonical(example), p.canonical(frame)
	if exampleSeq.ReplaceAllString(want, "#") != exampleSeq.ReplaceAllString(have, "#") {
		return false
	}
	bound := map[uint64]uint64{}
	haveSeqs := exampleSeq.FindAllString(have, -1)
	for i, number := range exampleSeq.FindAllString(want, -1) {
		wantSeq, _ := strconv.ParseUint(number, 10, 64)
		haveSeq, _ := strconv.ParseUint(haveSeqs[i], 10, 64)
		known, ok := p.seqs[wantSeq]
		if !ok {
			known, ok = bound[wantSeq]
		}
		if ok && known != haveSeq {
			return false
		}
		bound[wantSeq] = haveSeq
	}
	for wantSeq, haveSeq := range bound {
		p.seqs[wantSeq] = haveSeq
	}
	if shown, cursor := cursorText.FindStringSubmatch(example), cursorText.FindStringSubmatch(frame); shown != nil {
		p.cursors[shown[1]] = cursor[1]
	}
	if strings.HasPrefix(frame, `{"t":"event"`) {
		p.shown[p.eventOf(frame)] = true
	}
	return true
}

// canonical sorts a frame's members and blanks what is whatever the server says.
func (p *protocolReplay) canonical(frame string) string {
	value := jsontext.Value(frame)
	if err := value.Canonicalize(); err != nil {
		p.fatalf("%q: %v", frame, err)
	}
	return serverID.ReplaceAllString(volatileText.ReplaceAllString(string(value), `"$1":"…"`), `$1,"id":"…"`)
}

// eventOf is a frame as all of its sessions get it: whoever has just come into a
// chat is told of nothing before it.
func (p *protocolReplay) eventOf(frame string) string {
	return prevText.ReplaceAllString(p.canonical(frame), `"prev":0`)
}

// checkSchema holds a server's frame against the schema of its type.
func (p *protocolReplay) checkSchema(frame string) {
	p.t.Helper()
	var head struct {
		T schemas.Type `json:"t"`
	}
	if err := json.Unmarshal([]byte(frame), &head); err != nil {
		p.fatalf("%q: %v", frame, err)
	}
	if !strings.HasPrefix(frame, `{"t":"`) {
		p.fatalf("%q does not begin with t", frame)
	}
	file := "schemas/json/server-" + string(head.T) + ".json"
	schema := p.schemas[file]
	if schema == nil {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		var err error
		if schema, err = compiler.Compile(file); err != nil {
			p.fatalf("%v", err)
		}
		p.schemas[file] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(frame)))
	if err != nil {
		p.fatalf("%v", err)
	}
	if err := schema.Validate(value); err != nil {
		p.fatalf("%s: %v", frame, err)
	}
}

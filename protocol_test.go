package main

import (
	"bytes"
	"errors"
	"fmt"
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

	"parley/edge"
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
	fence := regexp.MustCompile("(?ms)^```(?:json )?(client|server|close)(?: ([a-z]+))?\n(.*?)\n```$")
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
		seqs: map[uint64]uint64{}, schemas: map[string]*jsonschema.Schema{},
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
		}
		played++
	}
	for name := range p.sessions {
		p.hangUp(name)
	}
	if played < 40 {
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
	schemas  map[string]*jsonschema.Schema
}

// protocolSession is the connection that a name of the document stands for.
type protocolSession struct {
	conn  *websocket.Conn
	early []string // frames that came and that no example has shown yet
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
	text := strings.ReplaceAll(block.text, "<token>", p.token(block.name))
	text = exampleSeq.ReplaceAllStringFunc(text, func(number string) string {
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			p.fatalf("%v", err)
		}
		bound, ok := p.seqs[seq]
		if !ok {
			p.fatalf("%s names seq %d, which no server has told", block.name, seq)
		}
		return strconv.FormatUint(bound, 10)
	})
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.fatalf("%v", err)
	}
}

// token returns a valid token; each is later than the one before.
func (p *protocolReplay) token(user string) string {
	p.t.Helper()
	secret, err := loadOrCreateSecret(p.server.data, "")
	if err != nil {
		p.fatalf("%v", err)
	}
	token, err := edge.MintToken(secret, mustUser(p.t, user), time.Now(), time.Hour)
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
	for {
		frame, err := s.next()
		if err != nil {
			p.fatalf("%s waits for %s\ngot %s\nand then: %v", block.name, block.text, strings.Join(s.early, "\n    "), err)
		}
		p.checkSchema(frame)
		if p.matches(block.text, frame) {
			return
		}
		s.early = append(s.early, frame)
	}
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

func (p *protocolReplay) wantAllShown(name string) {
	p.t.Helper()
	for _, frame := range p.sessions[name].early {
		p.t.Errorf("%s: before line %d, %s got what no example shows: %s", protocolFile, p.line, name, frame)
	}
}

var (
	// exampleSeq are the numbers that stand for seqs: from 2^40 up to 2^41.
	exampleSeq = regexp.MustCompile(`\b(1099511627[7-9]\d{2}|10995116[3-9]\d{5})\b`)
	// volatile members are whatever the server says.
	volatileText = regexp.MustCompile(`"(time|now|expires|session|node|message)":"(?:[^"\\]|\\.)*"`)
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
	return true
}

// canonical sorts a frame's members and blanks what is whatever the server says.
func (p *protocolReplay) canonical(frame string) string {
	value := jsontext.Value(frame)
	if err := value.Canonicalize(); err != nil {
		p.fatalf("%q: %v", frame, err)
	}
	return volatileText.ReplaceAllString(string(value), `"$1":"…"`)
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

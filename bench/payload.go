package bench

import (
	"bytes"
	"fmt"
	"strings"

	"parley/schemas"
)

// kind is what a frame is, as far as a workload looks.
type kind byte

const (
	kindOther kind = iota
	kindAck
	kindEvent
	kindPage
	kindChats
	kindChat
	kindCreated
	kindWelcome
	kindResumed
	kindError
	kindResync
	kindReceipt
	kindPresence
)

// The server writes t first: a kind is a prefix.
var kinds = [...]struct {
	prefix []byte
	kind   kind
}{
	{[]byte(`{"t":"event"`), kindEvent},
	{[]byte(`{"t":"ack"`), kindAck},
	{[]byte(`{"t":"page"`), kindPage},
	{[]byte(`{"t":"chats"`), kindChats},
	{[]byte(`{"t":"chat"`), kindChat},
	{[]byte(`{"t":"created"`), kindCreated},
	{[]byte(`{"t":"welcome"`), kindWelcome},
	{[]byte(`{"t":"resumed"`), kindResumed},
	{[]byte(`{"t":"error"`), kindError},
	{[]byte(`{"t":"resync"`), kindResync},
	{[]byte(`{"t":"receipt"`), kindReceipt},
	{[]byte(`{"t":"presence"`), kindPresence},
}

func kindOf(payload []byte) kind {
	for i := range kinds {
		if bytes.HasPrefix(payload, kinds[i].prefix) {
			return kinds[i].kind
		}
	}
	return kindOther
}

var (
	seqName = []byte(`"seq":`)
	refName = []byte(`"ref":`)
	idName  = []byte(`"id":"`)

	chatName = []byte(`"chat":"`)
)

// textAfter returns the text that follows name at its first place in payload, up
// to the next quote.
func textAfter(payload, name []byte) []byte {
	_, text, _ := bytes.Cut(payload, name)
	text, _, _ = bytes.Cut(text, []byte{'"'})
	return text
}

// numberAfter returns the number that follows name at its first place in payload.
func numberAfter(payload, name []byte) (n uint64, ok bool) {
	i := bytes.Index(payload, name)
	if i < 0 {
		return 0, false
	}
	for _, b := range payload[i+len(name):] {
		if b < '0' || b > '9' {
			break
		}
		n, ok = n*10+uint64(b-'0'), true
	}
	return n, ok
}

// messageNumber returns the number in an event's id, as [sendFrame] wrote it.
func messageNumber(payload []byte) (n uint64, ok bool) {
	i := bytes.Index(payload, idName)
	if i < 0 {
		return 0, false
	}
	id := payload[i+len(idName):]
	if len(id) < idDigits {
		return 0, false
	}
	for _, b := range id[:idDigits] {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + uint64(b-'0')
	}
	return n, true
}

// An id is a number of idDigits, then what makes it unlike those of other runs;
// a ref has refDigits and never begins with a zero.
const (
	idDigits  = 12
	refDigits = 10
	refBase   = 1_000_000_000
)

// sendFrame is a send of one chat whose ref and id are written over before each use.
type sendFrame struct {
	frame       []byte
	refAt, idAt int // where their digits are
	eventJSON   []byte
	suffix      string // of each id
}

// newSendFrame builds the frame of a text message; suffix ends each id.
func newSendFrame(from schemas.User, chat schemas.Chat, suffix string, textBytes int) *sendFrame {
	body := fmt.Sprintf(`{"kind":"text","text":%q}`, strings.Repeat("x", textBytes))
	ref, id := strings.Repeat("1", refDigits), strings.Repeat("0", idDigits)
	payload := fmt.Sprintf(`{"t":"send","ref":%s,"id":"%s%s","chat":%q,"type":"message","body":%s}`, ref, id, suffix, chat, body)
	f := &sendFrame{frame: appendMasked(nil, opText, []byte(payload)), suffix: suffix}
	f.refAt = bytes.Index(f.frame, refName) + len(refName)
	f.idAt = bytes.Index(f.frame, idName) + len(idName)
	f.eventJSON = fmt.Appendf(nil, `{"type":"message","id":"%s%s","from":%q,"body":%s}`, id, suffix, from, body)
	return f
}

// append appends the frame of message number n, to be answered under refBase+slot.
func (f *sendFrame) append(b []byte, slot int, n uint64) []byte {
	writeDigits(f.frame[f.refAt:f.refAt+refDigits], uint64(refBase+slot))
	writeDigits(f.frame[f.idAt:f.idAt+idDigits], n)
	return append(b, f.frame...)
}

// event returns what the log stores of message number n: as direct's sends, for publishing past the edge.
func (f *sendFrame) event(n uint64) []byte {
	event := bytes.Clone(f.eventJSON)
	at := bytes.Index(event, idName) + len(idName)
	writeDigits(event[at:at+idDigits], n)
	return event
}

// id returns the id of message number n.
func (f *sendFrame) id(n uint64) schemas.ID {
	id, err := schemas.ParseID(fmt.Sprintf("%0*d%s", idDigits, n, f.suffix))
	if err != nil {
		panic(err) // the suffixes are ours
	}
	return id
}

func writeDigits(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
}

package schemas

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// member is one member of a JSON object. Its value is raw JSON and aliases the
// input; so does its name unless that was written with escapes.
type member struct {
	name  []byte
	value jsontext.Value
}

// field says where the member called name goes: into is a pointer, see [member.decode].
type field struct {
	name string
	into any
}

// readers keeps jsontext's decoders for reuse: making one costs more than reading
// a frame with it. One may hold on to the last input it read.
var readers = sync.Pool{New: func() any { return new(reader) }}

type reader struct {
	dec jsontext.Decoder
	buf bytes.Buffer
}

func newReader(data []byte) *reader {
	r := readers.Get().(*reader)
	r.buf = *bytes.NewBuffer(data) // which dec reads in place
	r.dec.Reset(&r.buf)
	return r
}

var errTrailing = errors.New("something follows the object")

// readMembers appends the members of the JSON object data, all of whose syntax
// it checks: UTF-8, duplicate names at any depth, nothing after the object. On
// an error it returns what came before. The size of a frame bounds their number.
func readMembers(data []byte, members []member) ([]member, error) {
	r := newReader(data)
	defer readers.Put(r)
	dec := &r.dec
	if _, err := dec.ReadToken(); err != nil {
		return members, err
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadValue()
		if err != nil {
			return members, err
		}
		nameEnd := int(dec.InputOffset())
		name = data[nameEnd-len(name) : nameEnd]
		value, err := dec.ReadValue()
		if err != nil {
			return members, err
		}
		end := int(dec.InputOffset())
		members = append(members, member{unquote(name), data[end-len(value) : end : end]})
	}
	if _, err := dec.ReadToken(); err != nil {
		return members, err
	}
	switch _, err := dec.ReadToken(); err {
	case io.EOF:
		return members, nil
	case nil:
		return members, errTrailing
	default:
		return members, err
	}
}

// unquote returns the text of a JSON string whose syntax was checked.
func unquote(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	return text
}

// decodeFields puts each member where its field says and leaves others alone.
// A name that differs from a field's by case alone is refused: it would be lost
// in silence. It returns the first error, but decodes the rest all the same.
func decodeFields(members []member, fields []field) (first *Error) {
	for i := range members {
		if err := decodeField(&members[i], fields); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func decodeField(m *member, fields []field) *Error {
	for _, f := range fields {
		if string(m.name) == f.name {
			return m.decode(f.into)
		}
	}
	for _, f := range fields {
		if err := m.checkCase(f.name); err != nil {
			return err
		}
	}
	return nil
}

// checkCase refuses a member that is called name but for its case.
func (m *member) checkCase(name string) *Error {
	if string(m.name) != name && strings.EqualFold(string(m.name), name) {
		return Errorf(BadFrame, "member %q is wrongly cased: write %q", m.name, name)
	}
	return nil
}

// decode sets what into points to. Errors name the member and never its value,
// which may be a secret. null is a wrong type everywhere: what is absent is left out.
func (m *member) decode(into any) *Error {
	switch p := into.(type) {
	case *jsontext.Value:
		*p = m.value
		return nil
	case *bool:
		return m.decodeBool(p)
	case **bool:
		*p = new(bool)
		return m.decodeBool(*p)
	case *uint64:
		return m.decodeNumber(p, SeqMax)
	case **uint64:
		*p = new(uint64)
		return m.decodeNumber(*p, SeqMax)
	case *uint32:
		var n uint64
		err := m.decodeNumber(&n, math.MaxUint32)
		*p = uint32(n)
		return err
	case *[]string:
		return m.decodeStrings(p)
	case *[]User:
		return m.decodeUsers(p)
	}
	if m.value.Kind() != '"' {
		return m.wrongType("a string")
	}
	var err error
	text := string(unquote(m.value))
	switch p := into.(type) {
	case *string:
		*p = text
	case **string:
		*p = new(string) // of its own, so that the text of other fields need not be on the heap
		**p = text
	case *Role:
		*p = Role(text)
	case *Status:
		*p = Status(text)
	case *HistoryMode:
		*p = HistoryMode(text)
	case *time.Time:
		*p, err = time.Parse(time.RFC3339, text)
	case *User:
		*p, err = ParseUser(text)
	case *Type:
		*p = Type(text)
	case *EventType:
		*p = EventType(text)
	case *BodyKind:
		*p = BodyKind(text)
	case *ID:
		*p, err = ParseID(text)
	case *Chat:
		*p, err = ParseChat(text)
	}
	if err != nil {
		return Errorf(Invalid, "%s: %v", m.name, err)
	}
	return nil
}

func (m *member) decodeBool(into *bool) *Error {
	kind := m.value.Kind()
	if kind != 't' && kind != 'f' {
		return m.wrongType("true or false")
	}
	*into = kind == 't'
	return nil
}

func (m *member) decodeNumber(into *uint64, nMax uint64) *Error {
	n, err := strconv.ParseUint(string(m.value), 10, 64)
	if err != nil || n > nMax {
		return m.wrongType("an integer from 0 to " + strconv.FormatUint(nMax, 10))
	}
	*into = n
	return nil
}

func (m *member) decodeStrings(into *[]string) *Error {
	if m.value.Kind() != '[' {
		return m.wrongType("a list of strings")
	}
	r := newReader(m.value)
	defer readers.Put(r)
	dec := &r.dec
	if _, err := dec.ReadToken(); err != nil {
		return Errorf(BadFrame, "%s", sentence(err))
	}
	for dec.PeekKind() == '"' {
		text, err := dec.ReadToken()
		if err != nil {
			return Errorf(BadFrame, "%s", sentence(err))
		}
		*into = append(*into, text.String())
	}
	if dec.PeekKind() != ']' {
		return m.wrongType("a list of strings")
	}
	return nil
}

func (m *member) decodeUsers(into *[]User) *Error {
	var names []string
	if err := m.decodeStrings(&names); err != nil {
		return err
	}
	users := make([]User, len(names))
	for i, name := range names {
		var err error
		if users[i], err = ParseUser(name); err != nil {
			return Errorf(Invalid, "%s: %v", m.name, err)
		}
	}
	*into = users
	return nil
}

func (m *member) wrongType(want string) *Error {
	return Errorf(Invalid, "%s is not what belongs there: it should be %s", m.name, want)
}

// depth returns how deep arrays and objects nest in value, whose syntax was checked.
func depth(value jsontext.Value) (deepest int) {
	level, inString := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inString && c == '\\':
			i++ // what is escaped may be a quote
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// sentence makes an answer's text of a decoder's error.
func sentence(err error) string {
	return strings.TrimPrefix(err.Error(), "jsontext: ")
}

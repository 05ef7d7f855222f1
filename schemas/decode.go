package schemas

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeFrame reads one frame of a client and validates it. On an error the
// returned Frame still carries T and Ref (and the ID of a send) as far as they
// were read, so that the answer finds its request.
func DecodeFrame(data []byte) (Frame, *Error) {
	var envelope struct {
		T   jsontext.Value `json:"t"`
		Ref jsontext.Value `json:"ref"`
	}
	if jsontext.Value(data).Kind() != '{' {
		return Frame{}, Errorf(BadFrame, "a frame is one JSON object")
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return Frame{}, Errorf(BadFrame, "%s", sentence(err))
	}
	frame, err := decodeEnvelope(envelope.T, envelope.Ref)
	if err != nil {
		return frame, err
	}
	switch frame.T {
	case THello:
		frame.Hello, err = decodeHello(data)
	case TRenew:
		frame.Renew, err = decodeRenew(data)
	case TPing:
		err = decodeMembers(data, &struct{}{})
	case TSend:
		frame.Send, err = decodeSend(data)
	case THistory:
		frame.History, err = decodeHistory(data)
	case TTyping:
		frame.Typing, err = decodeTyping(data)
	default:
		err = Errorf(BadFrame, "t %q is unknown", clip(string(frame.T)))
	}
	return frame, err
}

// decodeEnvelope reads ref before t: an answer to a frame of unknown type should find its request too.
func decodeEnvelope(t, ref jsontext.Value) (Frame, *Error) {
	var frame Frame
	if len(ref) > 0 {
		n, err := strconv.ParseUint(string(ref), 10, 64)
		if err != nil || n > SeqMax {
			return frame, Errorf(BadFrame, "ref %s is not an integer from 0 to 2^53-1", clip(string(ref)))
		}
		frame.Ref = Ref{Value: n, Present: true}
	}
	if t.Kind() != '"' {
		return frame, Errorf(BadFrame, "t is absent or no string: it names the frame, like \"send\"")
	}
	if err := json.Unmarshal(t, &frame.T); err != nil {
		return frame, Errorf(BadFrame, "%s", sentence(err))
	}
	return frame, nil
}

func decodeHello(data []byte) (*Hello, *Error) {
	var hello Hello
	if err := decodeMembers(data, &hello); err != nil {
		return nil, Errorf(BadFrame, "%s", err.Message)
	}
	if len(hello.Resume) > ResumeChatsMax {
		return nil, Errorf(BadFrame, "resume names %d chats: at most %d are allowed", len(hello.Resume), ResumeChatsMax)
	}
	for chat, seq := range hello.Resume {
		if seq > SeqMax {
			return nil, Errorf(BadFrame, "resume of %s: seq %d is beyond 2^53", chat, seq)
		}
	}
	return &hello, nil
}

func decodeRenew(data []byte) (*Renew, *Error) {
	var renew Renew
	if err := decodeMembers(data, &renew); err != nil {
		return nil, err
	}
	if renew.Token == "" {
		return nil, Errorf(Invalid, "token is absent")
	}
	return &renew, nil
}

// decodeSend returns the send with its ID even where the rest is refused.
func decodeSend(data []byte) (*Send, *Error) {
	var send Send
	if err := decodeMembers(data, &send); err != nil {
		return &Send{ID: send.ID}, err
	}
	if err := checkSend(&send); err != nil {
		return &Send{ID: send.ID}, err
	}
	return &send, nil
}

func checkSend(send *Send) (err *Error) {
	switch {
	case send.ID.IsZero():
		return Errorf(Invalid, "id is absent: a send has its own, 1 to %d of A-Z a-z 0-9 _ -", TokenBytesMax)
	case send.Chat.IsZero():
		return Errorf(Invalid, "chat is absent")
	case send.Type == "":
		return Errorf(Invalid, "type is absent: it is %q", Message)
	case send.Type != Message:
		return Errorf(Invalid, "type %q is not one that can be sent: it is %q", clip(string(send.Type)), Message)
	case len(send.TTL) > 0:
		return Errorf(Invalid, "ttl is not served by this version")
	case send.ReplyTo > SeqMax || send.Thread > SeqMax || send.After > SeqMax:
		return Errorf(Invalid, "replyTo, thread and after are below 2^53")
	case len(send.Mentions) > MentionsMax:
		return Errorf(Invalid, "mentions names %d users: at most %d are allowed", len(send.Mentions), MentionsMax)
	}
	if len(send.Mentions) != 1 || send.Mentions[0] != "*" {
		for _, name := range send.Mentions {
			if err := checkToken("user", name); err != nil {
				return Errorf(Invalid, "mentions: %v", err)
			}
		}
	}
	send.Body, err = checkBody(send.Body)
	return err
}

func decodeHistory(data []byte) (*History, *Error) {
	var history History
	if err := decodeMembers(data, &history); err != nil {
		return nil, err
	}
	switch {
	case history.Chat.IsZero():
		return nil, Errorf(Invalid, "chat is absent")
	case history.Before != nil && history.After != nil:
		return nil, Errorf(Invalid, "before and after exclude each other")
	case history.Before != nil && *history.Before > SeqMax, history.After != nil && *history.After > SeqMax:
		return nil, Errorf(Invalid, "before and after are below 2^53")
	case history.Limit != nil && *history.Limit <= 0:
		return nil, Errorf(Invalid, "limit %d is not positive", *history.Limit)
	}
	return &history, nil
}

func decodeTyping(data []byte) (*Typing, *Error) {
	var typing Typing
	if err := decodeMembers(data, &typing); err != nil {
		return nil, err
	}
	if typing.Chat.IsZero() {
		return nil, Errorf(Invalid, "chat is absent")
	}
	return &typing, nil
}

// decodeMembers decodes an object into out, a pointer to struct. It refuses a
// member that differs from one of out's only by case: it would be lost in silence.
func decodeMembers(data []byte, out any) *Error {
	if err := checkCase(data, memberNames(reflect.TypeOf(out).Elem())); err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return memberError(err)
	}
	return nil
}

// checkCase walks the top level of data, whose syntax was checked before.
func checkCase(data []byte, exactByLower map[string]string) *Error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if _, err := dec.ReadToken(); err != nil {
		return Errorf(BadFrame, "%s", sentence(err))
	}
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return Errorf(BadFrame, "%s", sentence(err))
		}
		name := token.String()
		if exact, ok := exactByLower[strings.ToLower(name)]; ok && exact != name {
			return Errorf(BadFrame, "member %q is wrongly cased: write %q", clip(name), exact)
		}
		if err := dec.SkipValue(); err != nil {
			return Errorf(BadFrame, "%s", sentence(err))
		}
	}
	return nil
}

// memberNamesByType holds one entry per type that is decoded: bounded by the code.
var memberNamesByType sync.Map

// memberNames returns the JSON names of a struct and of the frame around it, by their lower case.
func memberNames(t reflect.Type) map[string]string {
	if names, ok := memberNamesByType.Load(t); ok {
		return names.(map[string]string)
	}
	names := map[string]string{"t": "t", "ref": "ref"}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names[strings.ToLower(name)] = name
	}
	memberNamesByType.Store(t, names)
	return names
}

// memberError tells broken JSON (bad_frame) from a member of the wrong type or form (invalid).
func memberError(err error) *Error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return Errorf(BadFrame, "%s", sentence(err))
	}
	at := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
	switch {
	case semantic.Err != nil && !errors.Is(semantic.Err, strconv.ErrRange) && !errors.Is(semantic.Err, strconv.ErrSyntax):
		return Errorf(Invalid, "%s: %s", at, sentence(semantic.Err))
	case len(semantic.JSONValue) > 0:
		return Errorf(Invalid, "%s: %s is not what belongs there", at, clip(string(semantic.JSONValue)))
	default:
		return Errorf(Invalid, "%s: a %s is not what belongs there", at, semantic.JSONKind)
	}
}

// sentence makes one line of a decoder's error.
func sentence(err error) string {
	return clip(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "jsontext: "), "\n", " "))
}

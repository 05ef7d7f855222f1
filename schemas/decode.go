package schemas

import (
	"github.com/go-json-experiment/json/jsontext"
)

// frameMembersUsual is how many members are read without an allocation; more are allowed.
const frameMembersUsual = 12

// DecodeFrame reads one frame of a client and validates it. On an error the
// returned Frame still carries T and Ref (and the ID of a send, in a Send with
// nothing else) as far as they could be read, so that the answer finds its request.
// What it returns shares no memory with data.
func DecodeFrame(data []byte) (Frame, *Error) {
	if jsontext.Value(data).Kind() != '{' {
		return Frame{}, Errorf(BadFrame, "a frame is one JSON object")
	}
	var space [frameMembersUsual]member
	members, syntaxErr := readMembers(data, space[:0])
	frame, err := decodeEnvelope(members)
	if syntaxErr != nil {
		if frame.T == TSend {
			send, _ := decodeSend(members) // of what could be read, for its ID
			frame.Send = &Send{ID: send.ID}
		}
		return frame, Errorf(BadFrame, "%s", sentence(syntaxErr))
	}
	if err != nil {
		return frame, err
	}
	switch frame.T {
	case THello:
		frame.Hello, err = decodeHello(members)
	case TRenew:
		frame.Renew, err = decodeRenew(members)
	case TPing:
	case TSend:
		frame.Send, err = decodeSend(members)
	case THistory:
		frame.History, err = decodeHistory(members)
	case TTyping:
		frame.Typing, err = decodeTyping(members)
	case TDelivered, TRead:
		frame.Mark, err = decodeMark(members)
	case TPresence, TWatch, TUnwatch:
		frame.Users, err = decodePresenceUsers(members)
	default:
		frame.Ask, err = decodeAsk(frame.T, members)
	}
	return frame, err
}

// decodeEnvelope reads t and ref, each even where the other is refused: an
// answer to a frame of unknown type should find its request too.
func decodeEnvelope(members []member) (frame Frame, first *Error) {
	for i := range members {
		var err *Error
		switch m := &members[i]; {
		case string(m.name) == "t":
			if err = m.decode(&frame.T); err != nil {
				err.Code = BadFrame
			}
		case string(m.name) == "ref":
			if err = m.decode(&frame.Ref.Value); err != nil {
				err.Code = BadFrame
			}
			frame.Ref.Present = err == nil
		default:
			if err = m.checkCase("t"); err == nil {
				err = m.checkCase("ref")
			}
		}
		if first == nil {
			first = err
		}
	}
	if first == nil && frame.T == "" {
		first = Errorf(BadFrame, "t is absent: it names the frame, like \"send\"")
	}
	return frame, first
}

// decodeHello answers every fault with bad_frame: there is no session yet that
// could stay. A token that is absent is left to whoever verifies it.
func decodeHello(members []member) (*Hello, *Error) {
	var hello Hello
	var resume jsontext.Value
	err := decodeFields(members, []field{
		{"token", &hello.Token},
		{"device", &hello.Device},
		{"resume", &resume},
	})
	if err == nil && len(resume) > 0 {
		hello.Resume, err = decodeResume(resume)
	}
	if err != nil {
		err.Code = BadFrame
		return nil, err
	}
	return &hello, nil
}

func decodeResume(value jsontext.Value) (map[Chat]uint64, *Error) {
	if value.Kind() != '{' {
		return nil, Errorf(Invalid, "resume is not an object of chats and seqs")
	}
	members, err := readMembers(value, nil)
	if err != nil {
		return nil, Errorf(BadFrame, "%s", sentence(err))
	}
	if len(members) > ResumeChatsMax {
		return nil, Errorf(Invalid, "resume names %d chats: at most %d are allowed", len(members), ResumeChatsMax)
	}
	seqs := make(map[Chat]uint64, len(members))
	for i := range members {
		chat, err := ParseChat(string(members[i].name))
		if err != nil {
			return nil, Errorf(Invalid, "resume: %v", err)
		}
		var seq uint64
		if err := members[i].decode(&seq); err != nil {
			return nil, err
		}
		seqs[chat] = seq
	}
	return seqs, nil
}

func decodeRenew(members []member) (*Renew, *Error) {
	var renew Renew
	if err := decodeFields(members, []field{{"token", &renew.Token}}); err != nil {
		return nil, err
	}
	if renew.Token == "" {
		return nil, Errorf(Invalid, "token is absent")
	}
	return &renew, nil
}

func decodeHistory(members []member) (*History, *Error) {
	var history History
	var limit *uint64
	err := decodeFields(members, []field{
		{"chat", &history.Chat},
		{"before", &history.Before},
		{"after", &history.After},
		{"limit", &limit},
		{"raw", &history.Raw},
	})
	switch {
	case err != nil:
		return nil, err
	case history.Chat.IsZero():
		return nil, Errorf(Invalid, "chat is absent")
	case history.Before != nil && history.After != nil:
		return nil, Errorf(Invalid, "before and after exclude each other")
	case limit != nil && *limit == 0:
		return nil, Errorf(Invalid, "limit is 0: a page has at least 1 event")
	case limit != nil:
		clamped := int64(min(*limit, PageEventsMax))
		history.Limit = &clamped
	}
	return &history, nil
}

func decodeTyping(members []member) (*Typing, *Error) {
	var typing Typing
	if err := decodeFields(members, []field{{"chat", &typing.Chat}}); err != nil {
		return nil, err
	}
	if typing.Chat.IsZero() {
		return nil, Errorf(Invalid, "chat is absent")
	}
	return &typing, nil
}

func decodeMark(members []member) (*Mark, *Error) {
	var mark Mark
	err := decodeFields(members, []field{{"chat", &mark.Chat}, {"seq", &mark.Seq}})
	switch {
	case err != nil:
		return nil, err
	case mark.Chat.IsZero():
		return nil, Errorf(Invalid, "chat is absent")
	case mark.Seq == 0:
		return nil, Errorf(Invalid, "seq is absent or 0: it is that of an event of the chat")
	}
	return &mark, nil
}

func decodePresenceUsers(members []member) (*Users, *Error) {
	var users Users
	if err := decodeFields(members, []field{{"users", &users.Users}}); err != nil {
		return nil, err
	}
	return &users, checkUsers(users.Users, PresenceUsersMax)
}

package schemas

import (
	"unicode"
	"unicode/utf8"
)

// decodeSend returns the send with its ID even where the rest is refused.
func decodeSend(members []member) (*Send, *Error) {
	var send Send
	err := decodeFields(members, []field{
		{"id", &send.ID},
		{"chat", &send.Chat},
		{"type", &send.Type},
		{"body", &send.Body},
		{"replyTo", &send.ReplyTo},
		{"thread", &send.Thread},
		{"mentions", &send.Mentions},
		{"ttl", &send.TTL},
		{"target", &send.Target},
		{"emoji", &send.Emoji},
		{"remove", &send.Remove},
		{"retry", &send.Retry},
		{"after", &send.After},
	})
	if err == nil {
		err = checkSend(&send)
	}
	if err != nil {
		return &Send{ID: send.ID}, err
	}
	return &send, nil
}

// DecodeSend reads a send that did not come as a frame: its chat and its id are
// told beside it, and a member of one of these names has to say the same.
func DecodeSend(data []byte, chat Chat, id ID) (*Send, *Error) {
	var space [frameMembersUsual]member
	members, syntaxErr := readMembers(data, space[:0])
	if syntaxErr != nil {
		return nil, Errorf(Invalid, "the body is not one JSON object: %s", sentence(syntaxErr))
	}
	quote := func(name string) []byte { return []byte(`"` + name + `"`) } // of nothing that has to be escaped
	for _, own := range []member{{[]byte("chat"), quote(chat.String())}, {[]byte("id"), quote(id.String())}} {
		for i := range members {
			if string(members[i].name) == string(own.name) && string(members[i].value) != string(own.value) {
				return nil, Errorf(Invalid, "%s is not that of the request: it is %s", own.name, own.value)
			}
		}
		members = append(members, own)
	}
	return decodeSend(members)
}

func checkSend(send *Send) (err *Error) {
	switch {
	case send.ID.IsZero():
		return Errorf(Invalid, "id is absent: a send has its own, 1 to %d of A-Z a-z 0-9 _ -", TokenBytesMax)
	case send.Chat.IsZero():
		return Errorf(Invalid, "chat is absent")
	}
	switch send.Type {
	case Message:
		if err = checkMessage(send); err == nil {
			send.Body, err = checkBody(send.Body)
		}
	case Edit:
		if err = checkTarget(send); err == nil {
			send.Body, err = checkBody(send.Body)
		}
	case React:
		if err = checkTarget(send); err == nil {
			err = checkEmoji(send.Emoji)
		}
	case Delete, Pin:
		err = checkTarget(send)
	case MemberEvent, GroupEvent:
		return Errorf(Invalid, "type %q is not sent: it comes of create, add, remove, leave, role and rename", send.Type)
	case "":
		return Errorf(Invalid, "type is absent: it is message, edit, delete, reaction or pin")
	default:
		return Errorf(Invalid, "type %q is not one that can be sent: it is message, edit, delete, reaction or pin", clip(string(send.Type)))
	}
	return err
}

func checkMessage(send *Send) *Error {
	switch {
	case send.TTL != nil && (*send.TTL == 0 || *send.TTL > TTLMax):
		return Errorf(Invalid, "ttl is %d seconds: it is from 1 to %d", *send.TTL, TTLMax)
	case len(send.Mentions) > MentionsMax:
		return Errorf(Invalid, "mentions names %d users: at most %d are allowed", len(send.Mentions), MentionsMax)
	case len(send.Mentions) == 1 && send.Mentions[0] == "*":
		return nil
	}
	for _, name := range send.Mentions {
		if err := checkToken("user", name); err != nil {
			return Errorf(Invalid, "mentions: %v", err)
		}
	}
	return nil
}

func checkTarget(send *Send) *Error {
	if send.Target == 0 {
		return Errorf(Invalid, "target is absent: it is the seq of the message that the %s is about", send.Type)
	}
	return nil
}

func checkEmoji(emoji string) *Error {
	switch {
	case emoji == "":
		return Errorf(Invalid, "emoji is absent")
	case len(emoji) > EmojiBytesMax:
		return Errorf(Invalid, "emoji has %d bytes: at most %d are allowed", len(emoji), EmojiBytesMax)
	}
	for _, r := range emoji {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return Errorf(Invalid, "emoji has a %q: no spaces or control characters are allowed", r)
		}
	}
	return nil
}

// checkName checks what people read as a group's or a user's name.
func checkName(name string) *Error {
	switch n := utf8.RuneCountInString(name); {
	case n > NameCharsMax || len(name) > NameBytesMax:
		return Errorf(Invalid, "name has %d characters in %d bytes: at most %d in %d are allowed", n, len(name), NameCharsMax, NameBytesMax)
	}
	blank := true
	for _, r := range name {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return Errorf(Invalid, "name has a %q: no control characters or line breaks are allowed", r)
		}
		blank = blank && unicode.IsSpace(r)
	}
	if blank {
		return Errorf(Invalid, "name is empty")
	}
	return nil
}

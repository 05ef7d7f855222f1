package schemas

import (
	"regexp"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeAsk checks a request that a service is to answer, and returns it as that
// service reads it.
func decodeAsk(t Type, members []member) (*Ask, *Error) {
	request, err := decodeRequest(t, members)
	if err != nil {
		return nil, err
	}
	data, encodeErr := json.Marshal(request)
	if encodeErr != nil {
		return nil, Errorf(Internal, "the %s could not be handed on", t)
	}
	return &Ask{JSON: data}, nil
}

func decodeRequest(t Type, members []member) (any, *Error) {
	switch t {
	case TCreate:
		return decodeCreate(members)
	case TAdd, TRemove:
		return decodeChangeMembers(members)
	case TLeave:
		var leave Leave
		err := decodeFields(members, []field{{"chat", &leave.Chat}})
		return &leave, checkGroupRequest(leave.Chat, err)
	case TRole:
		return decodeSetRole(members)
	case TRename:
		var rename Rename
		err := decodeFields(members, []field{{"chat", &rename.Chat}, {"name", &rename.Name}})
		if err = checkGroupRequest(rename.Chat, err); err == nil {
			err = checkName(rename.Name)
		}
		return &rename, err
	case TMembers:
		return decodeMembers(members)
	case TChats:
		var chats Chats
		err := decodeFields(members, []field{{"cursor", &chats.Cursor}, {"limit", &chats.Limit}})
		return &chats, checkPaging(chats.Cursor, chats.Limit, err)
	case TMute:
		return decodeMute(members)
	case TPin, TArchive:
		var set SetChat
		var on *bool
		err := decodeFields(members, []field{{"chat", &set.Chat}, {"on", &on}})
		if err = checkOn(set.Chat, on, err); err == nil {
			set.On = *on
		}
		return &set, err
	case TBlock:
		return decodeBlock(members)
	case TProfile:
		return decodeProfiles(members)
	case TSetProfile:
		return decodeSetProfile(members)
	case TReceipts:
		var ask Receipts
		err := decodeFields(members, []field{{"chat", &ask.Chat}, {"cursor", &ask.Cursor}, {"limit", &ask.Limit}})
		return &ask, checkPagingOf(ask.Chat, ask.Cursor, ask.Limit, err)
	case TStatus:
		return decodeSetStatus(members)
	}
	return nil, Errorf(BadFrame, "t %q is unknown", clip(string(t)))
}

func decodeCreate(members []member) (*Create, *Error) {
	var create Create
	err := decodeFields(members, []field{
		{"id", &create.ID},
		{"name", &create.Name},
		{"members", &create.Members},
		{"history", &create.History},
	})
	switch {
	case err != nil:
		return nil, err
	case create.ID.IsZero():
		return nil, Errorf(Invalid, "id is absent: a group has its own, 1 to %d of A-Z a-z 0-9 _ -", TokenBytesMax)
	case len(create.Members) > UsersMax:
		return nil, Errorf(Invalid, "members names %d users: at most %d are allowed", len(create.Members), UsersMax)
	case create.History != "" && create.History != HistoryJoined && create.History != HistoryAll:
		return nil, Errorf(Invalid, "history %q is unknown: it is %s or %s", clip(string(create.History)), HistoryJoined, HistoryAll)
	}
	return &create, checkName(create.Name)
}

func decodeChangeMembers(members []member) (*ChangeMembers, *Error) {
	var change ChangeMembers
	err := decodeFields(members, []field{{"chat", &change.Chat}, {"users", &change.Users}})
	if err = checkGroupRequest(change.Chat, err); err != nil {
		return nil, err
	}
	return &change, checkUsers(change.Users, UsersMax)
}

func decodeSetRole(members []member) (*SetRole, *Error) {
	var set SetRole
	err := decodeFields(members, []field{{"chat", &set.Chat}, {"user", &set.User}, {"role", &set.Role}})
	switch err = checkGroupRequest(set.Chat, err); {
	case err != nil:
		return nil, err
	case set.User.IsZero():
		return nil, Errorf(Invalid, "user is absent")
	case !set.Role.In():
		return nil, Errorf(Invalid, "role %q is unknown: it is %s, %s or %s", clip(string(set.Role)), Owner, Admin, Member)
	}
	return &set, nil
}

func decodeMembers(members []member) (*Members, *Error) {
	var list Members
	err := decodeFields(members, []field{{"chat", &list.Chat}, {"cursor", &list.Cursor}, {"limit", &list.Limit}})
	return &list, checkPagingOf(list.Chat, list.Cursor, list.Limit, err)
}

func decodeSetStatus(members []member) (*SetStatus, *Error) {
	var set SetStatus
	if err := decodeFields(members, []field{{"status", &set.Status}}); err != nil {
		return nil, err
	}
	switch set.Status {
	case Online, Away, Invisible:
		return &set, nil
	case "":
		return nil, Errorf(Invalid, "status is absent: it is %s, %s or %s", Online, Away, Invisible)
	}
	return nil, Errorf(Invalid, "status %q is none to choose: it is %s, %s or %s", clip(string(set.Status)), Online, Away, Invisible)
}

func decodeMute(members []member) (*Mute, *Error) {
	var mute Mute
	var on *bool
	err := decodeFields(members, []field{{"chat", &mute.Chat}, {"on", &on}, {"until", &mute.Until}})
	if err = checkOn(mute.Chat, on, err); err == nil {
		mute.On = *on
	}
	return &mute, err
}

func decodeBlock(members []member) (*Block, *Error) {
	var block Block
	var on *bool
	err := decodeFields(members, []field{{"user", &block.User}, {"on", &on}})
	switch {
	case err != nil:
		return nil, err
	case block.User.IsZero():
		return nil, Errorf(Invalid, "user is absent")
	case on == nil:
		return nil, Errorf(Invalid, "on is absent: it is true or false")
	}
	block.On = *on
	return &block, nil
}

func decodeProfiles(members []member) (*Profiles, *Error) {
	var profiles Profiles
	if err := decodeFields(members, []field{{"users", &profiles.Users}}); err != nil {
		return nil, err
	}
	return &profiles, checkUsers(profiles.Users, ProfilesMax)
}

// langTag is the form of a language tag, not a list of languages.
var langTag = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$`)

func decodeSetProfile(members []member) (*SetProfile, *Error) {
	var set SetProfile
	err := decodeFields(members, []field{{"name", &set.Name}, {"avatar", &set.Avatar}, {"lang", &set.Lang}, {"readReceipts", &set.ReadReceipts}})
	switch {
	case err != nil:
		return nil, err
	case set.Name == nil && set.Avatar == nil && set.Lang == nil && set.ReadReceipts == nil:
		return nil, Errorf(Invalid, "nothing is set: name, avatar, lang or readReceipts")
	case set.Lang != nil && *set.Lang != "" && !langTag.MatchString(*set.Lang):
		return nil, Errorf(Invalid, "lang %q is no language tag like pt-BR", clip(*set.Lang))
	}
	if set.Avatar != nil && *set.Avatar != "" {
		if err := checkToken("file", *set.Avatar); err != nil {
			return nil, Errorf(Invalid, "avatar: %v", err)
		}
	}
	if set.Name != nil {
		return &set, checkName(*set.Name)
	}
	return &set, nil
}

// checkGroupRequest returns err, or what is wrong with the group that a request names.
func checkGroupRequest(chat Chat, err *Error) *Error {
	switch {
	case err != nil:
		return err
	case chat.IsZero():
		return Errorf(Invalid, "chat is absent")
	case chat.Kind() != Group:
		return Errorf(Invalid, "chat %s is not a group", chat)
	}
	return nil
}

func checkUsers(users []User, usersMax int) *Error {
	switch {
	case len(users) == 0:
		return Errorf(Invalid, "users is absent or empty")
	case len(users) > usersMax:
		return Errorf(Invalid, "users names %d users: at most %d are allowed", len(users), usersMax)
	}
	return nil
}

func checkOn(chat Chat, on *bool, err *Error) *Error {
	switch {
	case err != nil:
		return err
	case chat.IsZero():
		return Errorf(Invalid, "chat is absent")
	case on == nil:
		return Errorf(Invalid, "on is absent: it is true or false")
	}
	return nil
}

// checkPagingOf is [checkPaging] of what belongs to a chat.
func checkPagingOf(chat Chat, cursor string, limit *uint64, err *Error) *Error {
	if err == nil && chat.IsZero() {
		err = Errorf(Invalid, "chat is absent")
	}
	return checkPaging(cursor, limit, err)
}

func checkPaging(cursor string, limit *uint64, err *Error) *Error {
	switch {
	case err != nil:
		return err
	case len(cursor) > CursorBytesMax:
		return Errorf(Invalid, "cursor has %d bytes: it is one that a page ended with", len(cursor))
	case limit != nil && *limit == 0:
		return Errorf(Invalid, "limit is 0: a page has at least 1")
	}
	return nil
}

// DecodeQuery reads the request t, chats or history, from the parameters of a URL.
// Numbers and truth values are what JSON has; parameters of other names are left alone.
func DecodeQuery(t Type, query map[string][]string) (Frame, *Error) {
	frame := Frame{T: t}
	var members []member
	for name, values := range query {
		value := values[0]
		if len(values) > 1 {
			return frame, Errorf(Invalid, "%s is there %d times", clip(name), len(values))
		}
		raw := jsontext.Value(value)
		if name == "chat" || name == "cursor" || !raw.IsValid() {
			var err error
			if raw, err = jsontext.AppendQuote(nil, value); err != nil {
				return frame, Errorf(Invalid, "%s is no UTF-8", clip(name))
			}
		}
		members = append(members, member{[]byte(name), raw})
	}
	var err *Error
	if t == THistory {
		frame.History, err = decodeHistory(members)
	} else {
		frame.Ask, err = decodeAsk(t, members)
	}
	return frame, err
}

// DecodeBy reads the request t of a user as a service gets it from an edge, or
// from an operator's `nats req`: its members, and by, which names the user.
func DecodeBy[Request any](t Type, data []byte) (by User, request *Request, refused *Error) {
	var space [frameMembersUsual]member
	members, err := readMembers(data, space[:0])
	if err != nil {
		return by, nil, Errorf(Invalid, "the request is not one JSON object: %s", sentence(err))
	}
	if refused = decodeFields(members, []field{{"by", &by}}); refused == nil && by.IsZero() {
		refused = Errorf(Invalid, "by is absent: it names the user who asks")
	}
	if refused != nil {
		return by, nil, refused
	}
	decoded, refused := decodeRequest(t, members)
	if refused != nil {
		return by, nil, refused
	}
	return by, decoded.(*Request), nil
}

package chats

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// joinedMax bounds the groups that an edge is told of one user; live delivery and
// sending work in those, the others wait until it has left some.
const joinedMax = 5000

// joined answers which groups a user is in, as the store has it, and up to where
// that is.
func (s *Service) joined(ctx context.Context, request []byte) (any, *schemas.Error) {
	var ask schemas.Joined
	if err := json.Unmarshal(request, &ask); err != nil || ask.User.IsZero() {
		return nil, schemas.Errorf(schemas.Invalid, "the request is not {user}")
	}
	// Before the rows: they have everything up to it then.
	stored, err := s.cfg.Store.Shards(ctx)
	if err != nil {
		return nil, s.unavailable("read shards", err)
	}
	rows, err := s.cfg.Store.UserChats(ctx, ask.User, schemas.Group, joinedMax+1)
	if err != nil {
		return nil, s.unavailable("read a user's chats", err)
	}
	answer := schemas.JoinedAnswer{Groups: []schemas.JoinedGroup{}, Stored: stored}
	for _, row := range rows {
		if len(answer.Groups) == joinedMax {
			s.log.Warn("a user is in too many groups", "user", ask.User, "most", joinedMax)
			answer.More = true
			break
		}
		answer.Groups = append(answer.Groups, schemas.JoinedGroup{Chat: row.Chat, Role: row.Role, Since: row.Since, From: row.From})
	}
	return answer, nil
}

// standing answers what users are in a group, and how many are, as of all that the
// log has.
func (s *Service) standing(ctx context.Context, request []byte) (any, *schemas.Error) {
	var ask schemas.Standing
	if err := json.Unmarshal(request, &ask); err != nil || ask.Chat.Kind() != schemas.Group || len(ask.Users) > schemas.UsersMax {
		return nil, schemas.Errorf(schemas.Invalid, "the request is not {chat, users}, of a group and at most %d", schemas.UsersMax)
	}
	answer := schemas.StandingAnswer{Members: []schemas.JoinedMember{}}
	err := s.groups.use(ctx, ask.Chat, func(g *group) error {
		answer.Count = g.count
		for _, user := range ask.Users {
			if m := g.members[user]; m.role.In() {
				answer.Members = append(answer.Members, schemas.JoinedMember{User: user, Role: m.role, Since: m.since, From: m.from})
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.unavailable("read group", err)
	}
	return answer, nil
}

// membersAnswer is the frame members without its t and ref.
type membersAnswer struct {
	Chat    schemas.Chat         `json:"chat"`
	Members []schemas.ChatMember `json:"members"`
	Cursor  string               `json:"cursor,omitzero"`
}

// members answers who is in a chat, as of all that the log has.
func (s *Service) members(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.Members](schemas.TMembers, request)
	if refused != nil {
		return nil, refused
	}
	limit := pageLimit(ask.Limit, schemas.MembersDefault, schemas.MembersMax)
	page, refused := s.membersOf(ctx, by, ask.Chat, ask.Cursor, limit)
	if refused != nil {
		return nil, refused
	}
	return membersAnswer{Chat: ask.Chat, Members: page.members, Cursor: page.cursor}, nil
}

// membersPage is some of a chat's members.
type membersPage struct {
	members []schemas.ChatMember // by rising name
	cursor  string               // for what follows; empty at the end
	count   uint64               // of all that the chat has
}

// membersOf returns up to limit members of a chat behind a cursor. Who asks has to be
// one of them. The two of a direct chat are in it from its first event on, and may be before.
func (s *Service) membersOf(ctx context.Context, by schemas.User, chat schemas.Chat, cursor string, limit int) (page membersPage, refused *schemas.Error) {
	var place membersPlace
	if refused := openCursor(cursor, s.cfg.Now(), &place); refused != nil {
		return page, refused
	}
	take := func(names []schemas.User, is func(schemas.User) member) {
		begin, found := slices.BinarySearchFunc(names, place.After, compareUsers)
		if found {
			begin++
		}
		some := names[begin:min(begin+limit, len(names))]
		page.members, page.count = make([]schemas.ChatMember, len(some)), uint64(len(names))
		for i, user := range some {
			page.members[i] = schemas.ChatMember{User: user, Role: is(user).role, Since: is(user).since}
		}
		if begin+limit < len(names) {
			page.cursor = newCursor(s.cfg.Now(), membersPlace{After: some[limit-1]})
		}
	}
	if a, b, direct := chat.Users(); direct {
		if !chat.HasDirectMember(by) {
			return page, notMember(by, chat)
		}
		take(slices.Compact([]schemas.User{a, b}), func(schemas.User) member { return member{role: schemas.Member} })
		return page, nil
	}
	err := s.groups.use(ctx, chat, func(g *group) error {
		if !g.role(by).In() {
			return notMember(by, chat)
		}
		take(g.names(), func(user schemas.User) member { return g.members[user] })
		return nil
	})
	if err != nil {
		return page, s.unavailable("read group", err)
	}
	return page, nil
}

// checkMember refuses who is not in a chat.
func (s *Service) checkMember(ctx context.Context, by schemas.User, chat schemas.Chat) *schemas.Error {
	if chat.Kind() == schemas.Direct {
		if !chat.HasDirectMember(by) {
			return notMember(by, chat)
		}
		return nil
	}
	err := s.groups.use(ctx, chat, func(g *group) error {
		if !g.role(by).In() {
			return notMember(by, chat)
		}
		return nil
	})
	if err != nil {
		return s.unavailable("read group", err)
	}
	return nil
}

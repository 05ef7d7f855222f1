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
	var place membersPlace
	if refused := openCursor(ask.Cursor, s.cfg.Now(), &place); refused != nil {
		return nil, refused
	}
	if ask.Chat.Kind() == schemas.Direct {
		return s.directMembers(by, ask.Chat)
	}
	limit := pageLimit(ask.Limit, schemas.MembersDefault, schemas.MembersMax)
	answer := membersAnswer{Chat: ask.Chat, Members: []schemas.ChatMember{}}
	err := s.groups.use(ctx, ask.Chat, func(g *group) error {
		if !g.role(by).In() {
			return notMember(by, ask.Chat)
		}
		page, more := namesAbove(g.names(), place.After, limit)
		for _, user := range page {
			m := g.members[user]
			answer.Members = append(answer.Members, schemas.ChatMember{User: user, Role: m.role, Since: m.since})
		}
		if more {
			answer.Cursor = newCursor(s.cfg.Now(), membersPlace{After: page[limit-1]})
		}
		return nil
	})
	if err != nil {
		return nil, s.unavailable("read group", err)
	}
	return answer, nil
}

// namesAbove returns up to limit of names, which rise, from the first above after on,
// and whether there are more.
func namesAbove(names []schemas.User, after schemas.User, limit int) (page []schemas.User, more bool) {
	begin, found := slices.BinarySearchFunc(names, after, compareUsers)
	if found {
		begin++
	}
	names = names[begin:]
	return names[:min(limit, len(names))], limit < len(names)
}

// directMembers answers for the two of a direct chat: they are in it from its
// first event on, and may be before.
func (s *Service) directMembers(by schemas.User, chat schemas.Chat) (any, *schemas.Error) {
	if !chat.HasDirectMember(by) {
		return nil, notMember(by, chat)
	}
	a, b, _ := chat.Users()
	answer := membersAnswer{Chat: chat, Members: []schemas.ChatMember{{User: a, Role: schemas.Member}}}
	if a != b {
		answer.Members = append(answer.Members, schemas.ChatMember{User: b, Role: schemas.Member})
	}
	return answer, nil
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

package chats

import (
	"context"

	"parley/schemas"
)

// Rights in a group. The owner may all. Admins add and remove members, and rename;
// they touch no admin and not the owner. Members talk, and leave.

// asked refuses who is not in the group, alike where there is no such group, and
// who has not one of the roles.
func (g *group) asked(by schemas.User, what string, roles ...schemas.Role) *schemas.Error {
	role := g.role(by)
	if !role.In() {
		return notMember(by, g.chat)
	}
	for _, may := range roles {
		if role == may {
			return nil
		}
	}
	return schemas.Errorf(schemas.Forbidden, "%s is %s of %s and may not %s", by, role, g.chat, what)
}

func (s *Service) add(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, add, refused := schemas.DecodeBy[schemas.ChangeMembers](schemas.TAdd, request)
	if refused != nil {
		return nil, refused
	}
	return s.change(ctx, add.Chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if refused := g.asked(by, "add members", schemas.Owner, schemas.Admin); refused != nil {
			return nil, refused
		}
		users := unique(add.Users, func(user schemas.User) bool { return !g.role(user).In() })
		switch {
		case len(users) == 0:
			return nil, nil
		case g.count+uint64(len(users)) > schemas.GroupMembersMax:
			return nil, schemas.Errorf(schemas.Invalid, "%s has %d members: with %d more they are over %d", g.chat, g.count, len(users), schemas.GroupMembersMax)
		}
		return &schemas.Event{Type: schemas.MemberEvent, Change: schemas.Added, Users: users}, nil
	})
}

func (s *Service) remove(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, remove, refused := schemas.DecodeBy[schemas.ChangeMembers](schemas.TRemove, request)
	if refused != nil {
		return nil, refused
	}
	return s.change(ctx, remove.Chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if refused := g.asked(by, "remove members", schemas.Owner, schemas.Admin); refused != nil {
			return nil, refused
		}
		for _, user := range remove.Users {
			if refused := g.mayRemove(by, user); refused != nil {
				return nil, refused
			}
		}
		users := unique(remove.Users, func(user schemas.User) bool { return g.role(user).In() })
		if len(users) == 0 {
			return nil, nil
		}
		return &schemas.Event{Type: schemas.MemberEvent, Change: schemas.Removed, Users: users}, nil
	})
}

// mayRemove is for who may remove members at all. Who has left already may be
// removed again, since the one who asks may not know whether it was heard.
func (g *group) mayRemove(by, user schemas.User) *schemas.Error {
	role := g.role(user)
	switch {
	case user == by:
		return schemas.Errorf(schemas.Invalid, "one does not remove oneself: leave %s", g.chat)
	case role == "":
		return g.unknown(user)
	case role.Administers() && g.role(by) != schemas.Owner:
		return schemas.Errorf(schemas.Forbidden, "%s is %s of %s: only the owner removes admins", user, role, g.chat)
	}
	return nil
}

// unknown refuses what names a user who never was in the group.
func (g *group) unknown(user schemas.User) *schemas.Error {
	return schemas.Errorf(schemas.Invalid, "%s is not a member of %s", user, g.chat)
}

func (s *Service) leave(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, leave, refused := schemas.DecodeBy[schemas.Leave](schemas.TLeave, request)
	if refused != nil {
		return nil, refused
	}
	return s.change(ctx, leave.Chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if refused := g.asked(by, "leave", schemas.Owner, schemas.Admin, schemas.Member); refused != nil {
			return nil, refused
		}
		ev := &schemas.Event{Type: schemas.MemberEvent, Change: schemas.HasLeft, Users: []schemas.User{by}}
		if g.role(by) == schemas.Owner {
			ev.Owner = g.heir(by)
		}
		return ev, nil
	})
}

func (s *Service) setRole(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, set, refused := schemas.DecodeBy[schemas.SetRole](schemas.TRole, request)
	if refused != nil {
		return nil, refused
	}
	return s.change(ctx, set.Chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if refused := g.asked(by, "give roles", schemas.Owner); refused != nil {
			return nil, refused
		}
		switch {
		case !g.role(set.User).In():
			return nil, g.unknown(set.User)
		case g.role(set.User) == set.Role:
			return nil, nil
		case set.User == by:
			return nil, schemas.Errorf(schemas.Invalid, "%s stays the owner of %s: give the role owner to another", by, g.chat)
		}
		return &schemas.Event{Type: schemas.MemberEvent, Change: schemas.RoleChanged, Users: []schemas.User{set.User}, Role: set.Role}, nil
	})
}

func (s *Service) rename(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, rename, refused := schemas.DecodeBy[schemas.Rename](schemas.TRename, request)
	if refused != nil {
		return nil, refused
	}
	return s.change(ctx, rename.Chat, by, func(g *group) (*schemas.Event, *schemas.Error) {
		if refused := g.asked(by, "rename it", schemas.Owner, schemas.Admin); refused != nil {
			return nil, refused
		}
		if g.name == rename.Name {
			return nil, nil
		}
		return &schemas.Event{Type: schemas.GroupEvent, Change: schemas.Renamed, Name: rename.Name}, nil
	})
}

// unique returns those of users of whom keep is true, once each, in their order.
func unique(users []schemas.User, keep func(schemas.User) bool) (kept []schemas.User) {
	seen := make(map[schemas.User]struct{}, len(users))
	for _, user := range users {
		if _, ok := seen[user]; ok || !keep(user) {
			continue
		}
		seen[user] = struct{}{}
		kept = append(kept, user)
	}
	return kept
}

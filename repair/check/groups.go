package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"parley/schemas"
	"parley/workers/store"
)

// membersMax bounds the members of a shard's groups that are remembered, at some
// 200 bytes each. A group that would go past it is not compared.
const membersMax = 300_000

// memberEvent is an event that changes a group's members.
type memberEvent struct {
	seq   uint64
	event *schemas.Event
}

func isOfMembers(chat schemas.Chat, ev *schemas.Event) bool {
	return chat.Kind() == schemas.Group && ev.ChangesGroup()
}

// groups are those whose creation is in a shard's log, as far as it was walked.
type groups struct {
	byChat map[schemas.Chat]*group
	kept   int // members
}

// group is what the log makes of a group's members.
type group struct {
	created uint64
	history schemas.HistoryMode
	members map[schemas.User]store.Member
	partial bool // not all of its changes are known
}

func newGroups() groups { return groups{byChat: make(map[schemas.Chat]*group)} }

// add applies what a chat's part of a window says of its members.
func (gs *groups) add(found *comparison) {
	slices.SortFunc(found.members, func(a, b memberEvent) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range found.members {
		g := gs.byChat[found.chat]
		if e.event.Change == schemas.Created && g == nil {
			g = &group{created: e.seq, history: e.event.History, members: make(map[schemas.User]store.Member)}
			gs.byChat[found.chat] = g
		}
		if g == nil || g.partial {
			continue
		}
		before := len(g.members)
		g.apply(e)
		if gs.kept += len(g.members) - before; gs.kept > membersMax {
			gs.kept -= len(g.members)
			g.partial, g.members = true, nil
		}
	}
	if g := gs.byChat[found.chat]; g != nil && found.membersPartial {
		g.partial = true
	}
}

func (g *group) apply(e memberEvent) {
	for user, role := range e.event.Roles() {
		member := g.members[user]
		member.User, member.Role = user, role
		if e.event.Joins() {
			member.Since, member.From = e.seq, g.history.ReadFrom(e.seq)
		}
		g.members[user] = member
	}
}

// compareMembers compares a group's rows of table members_by_chat with the log.
func (c *Checker) compareMembers(ctx context.Context, s *shard, chat schemas.Chat, g *group) error {
	const perRead = 1000
	met := 0
	var wrong []schemas.User
	for after := (schemas.User{}); ; {
		members, err := again(ctx, c.cfg.RetryWithin, func() ([]store.Member, error) { return c.cfg.Store.Members(ctx, chat, after, perRead) })
		if err != nil {
			return fmt.Errorf("read members of %s: %w", chat, err)
		}
		for _, member := range members {
			want, ok := g.members[member.User]
			if ok {
				met++
			}
			if want != member {
				wrong = append(wrong, member.User)
			}
		}
		if len(members) < perRead {
			break
		}
		after = members[len(members)-1].User
	}
	missing := len(g.members) - met
	if len(wrong) == 0 && missing == 0 {
		return nil
	}
	came, err := c.cameSince(ctx, s, chat, func(ev *schemas.Event) bool { return isOfMembers(chat, ev) })
	if err != nil || came {
		return err
	}
	text := fmt.Sprintf("of its members %d are missing, and %d have another role or place than the log gives them", missing, len(wrong))
	if len(wrong) > 0 {
		text += fmt.Sprintf(", %s among them", wrong[0])
	}
	s.report.add(Finding{Kind: Different, Shard: s.shard.Token, Chat: chat, Seq: g.created, Text: text})
	return nil
}

package fold

import (
	"parley/schemas"
	"parley/workers/store"
)

// foldRoles adds what an event makes of users: those of a direct chat are in it
// from its first event on.
func foldRoles(chat *store.ChatBatch, e *Event, first bool) {
	if a, b, direct := chat.Chat.Users(); direct {
		if first {
			chat.Roles = append(chat.Roles, store.Role{User: a, Role: schemas.Member, Seq: e.Seq, Joins: true})
			if a != b {
				chat.Roles = append(chat.Roles, store.Role{User: b, Role: schemas.Member, Seq: e.Seq, Joins: true})
			}
		}
		return
	}
	head, ev := &chat.Head, e.Event
	Group(head, ev)
	for user, role := range ev.Roles() {
		change := store.Role{User: user, Role: role, Seq: e.Seq}
		if ev.Joins() {
			change.Joins, change.From = true, head.History.ReadFrom(e.Seq)
			if head.LastN > 0 { // what came before counts as read
				chat.Reads = raise(chat.Reads, store.Read{User: user, Seq: e.Seq, N: head.LastN})
			}
		}
		chat.Roles = append(chat.Roles, change)
	}
}

// Group changes a group's head as an event says.
func Group(head *store.Head, ev *schemas.Event) {
	if ev.Type == schemas.GroupEvent {
		head.Name = ev.Name
		if ev.Change == schemas.Created {
			head.History = ev.History
		}
	}
	if ev.ChangesGroup() {
		head.Members = ev.Count
	}
}

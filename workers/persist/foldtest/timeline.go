package foldtest

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
)

// Start is when the first event of a drawn log was stored; each further one
// was a second later.
var Start = time.Unix(1_700_000_000, 0)

// timelines draw what is said in a few chats of one log: four direct ones and two groups.
type timelines struct {
	t     *rapid.T
	log   *Log
	chats map[schemas.Chat][]drawn
	// favourites are a chat's first messages: most of what is about one is about these.
	favourites map[schemas.Chat][]drawn
}

// drawn is an event that may be the target of later ones.
type drawn struct {
	seq     uint64
	from    schemas.User
	expires time.Time
}

// Draw draws a log of events of all types. What they are about is mostly a
// message of the same chat, and may be anything.
func Draw(t *rapid.T) *Log {
	d := &timelines{t: t, log: &Log{First: Layout.At(0).FirstSeq()}, chats: map[schemas.Chat][]drawn{}, favourites: map[schemas.Chat][]drawn{}}
	n := rapid.IntRange(1, 60).Draw(t, "length")
	for i := range n {
		if i > 0 && rapid.IntRange(0, 14).Draw(t, "deleted") == 0 {
			d.log.Msgs = append(d.log.Msgs, nil) // not the first, which would be lost
			continue
		}
		d.add(i)
	}
	return d.log
}

// User returns the user of that name.
func User(name string) schemas.User {
	u, err := schemas.ParseUser(name)
	if err != nil {
		panic(err)
	}
	return u
}

// add draws the event at index i.
func (d *timelines) add(i int) {
	at := Start.Add(time.Duration(i) * time.Second)
	chat, ev := d.drawChat(), &schemas.Event{}
	ev.ID, _ = schemas.ParseID(fmt.Sprintf("m%d", i))
	before := d.chats[chat]
	switch what := rapid.IntRange(0, 24).Draw(d.t, "what"); {
	case chat.Kind() == schemas.Group && len(before) == 0:
		d.create(ev)
	case chat.Kind() == schemas.Group && what < 4:
		d.change(ev)
	case what == 4:
		ev.Type = "later" // a type that this version does not know gets a row and no n
		ev.From = d.author(chat)
	case what < 11 || len(before) == 0:
		ev.Type, ev.From, ev.Body = schemas.Message, d.author(chat), d.body()
		if what == 10 {
			ev.TTL = uint64(rapid.IntRange(1, 60).Draw(d.t, "ttl"))
		}
	default:
		d.about(chat, ev, uint64(i), at)
	}
	data, err := schemas.EncodeEvent(ev)
	if err != nil {
		d.t.Fatal(err)
	}
	seq := d.log.First + uint64(i)
	expires, _ := ev.Expires(at)
	d.chats[chat] = append(before, drawn{seq, ev.From, expires})
	if ev.Type == schemas.Message && len(d.favourites[chat]) < 2 {
		d.favourites[chat] = append(d.favourites[chat], drawn{seq, ev.From, expires})
	}
	d.log.Msgs = append(d.log.Msgs, &jetstream.RawStreamMsg{Subject: Layout.Shard(chat).Timeline(chat), Sequence: seq, Time: at, Data: data})
}

func (d *timelines) drawChat() schemas.Chat {
	of := rapid.IntRange(0, 5).Draw(d.t, "chat")
	if of < 4 {
		return schemas.DirectChat(User("alice"), User(fmt.Sprintf("bob%d", of)))
	}
	id, _ := schemas.ParseID(fmt.Sprintf("g%d", of%2))
	return schemas.GroupChat(id)
}

func (d *timelines) author(chat schemas.Chat) schemas.User {
	a, b, direct := chat.Users()
	if !direct {
		a, b = User("alice"), User("bob1")
	}
	return rapid.SampledFrom([]schemas.User{a, b}).Draw(d.t, "from")
}

func (d *timelines) body() jsontext.Value {
	return jsontext.Value(fmt.Sprintf(`{"kind":"text","text":"%d"}`, rapid.IntRange(0, 1000).Draw(d.t, "text")))
}

// about draws what somebody does to an earlier event. Whoever edits what
// disappears sets a ttl, so that the edit disappears too, as edges do.
func (d *timelines) about(chat schemas.Chat, ev *schemas.Event, i uint64, at time.Time) {
	targets := d.favourites[chat]
	if len(targets) == 0 || rapid.IntRange(0, 3).Draw(d.t, "which") == 0 {
		targets = d.chats[chat]
	}
	target := rapid.SampledFrom(targets).Draw(d.t, "target")
	if rapid.IntRange(0, 9).Draw(d.t, "any target") == 0 {
		target = drawn{seq: rapid.Uint64Range(d.log.First, d.log.First+i+2).Draw(d.t, "any"), from: d.author(chat)}
	}
	ev.Target, ev.From = target.seq, d.author(chat)
	ev.Remove = rapid.IntRange(0, 3).Draw(d.t, "remove") == 0
	switch rapid.IntRange(0, 7).Draw(d.t, "about") {
	case 0, 1, 2:
		ev.Type, ev.Body, ev.Remove = schemas.Edit, d.body(), false
		if rapid.IntRange(0, 4).Draw(d.t, "its author") > 0 {
			ev.From = target.from
		}
		if left := target.expires.Sub(at); left > 0 {
			ev.TTL = uint64(left.Seconds())
		}
	case 3:
		ev.Type, ev.Remove = schemas.Delete, false
	case 4:
		ev.Type = schemas.Pin
	default:
		ev.Type, ev.Emoji = schemas.React, rapid.SampledFrom([]string{"👍", "🎉"}).Draw(d.t, "emoji")
	}
}

func (d *timelines) create(ev *schemas.Event) {
	ev.Type, ev.Change, ev.From, ev.Name = schemas.GroupEvent, schemas.Created, User("alice"), "first name"
	ev.Members, ev.Count = []schemas.User{User("bob1"), User("bob2")}, 3
	ev.History = rapid.SampledFrom([]schemas.HistoryMode{schemas.HistoryJoined, schemas.HistoryAll}).Draw(d.t, "history")
}

// change draws a change of a group. Nothing here knows who may do what.
func (d *timelines) change(ev *schemas.Event) {
	ev.From = User("alice")
	ev.Count = uint64(rapid.IntRange(0, 5).Draw(d.t, "count"))
	ev.Users = []schemas.User{User(fmt.Sprintf("bob%d", rapid.IntRange(1, 4).Draw(d.t, "about whom")))}
	ev.Type = schemas.MemberEvent
	switch rapid.IntRange(0, 4).Draw(d.t, "change") {
	case 0:
		ev.Type, ev.Change, ev.Name, ev.Users = schemas.GroupEvent, schemas.Renamed, fmt.Sprintf("name %d", ev.Count), nil
	case 1:
		ev.Change = schemas.Removed
	case 2:
		ev.Change, ev.Role = schemas.RoleChanged, rapid.SampledFrom([]schemas.Role{schemas.Owner, schemas.Admin, schemas.Member}).Draw(d.t, "role")
	case 3:
		owner := User("bob9")
		ev.Change, ev.Owner = schemas.HasLeft, &owner
	default:
		ev.Change = schemas.Added
	}
}

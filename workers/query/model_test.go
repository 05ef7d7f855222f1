package query_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
)

// said is an event as the log has it; a nil event is none that can be read.
type said struct {
	seq  uint64
	time time.Time
	ev   *schemas.Event
}

// op is an event of a random timeline before its chat has seqs: target is the
// index of an earlier one, or -1 for one that there is not.
type op struct {
	poison bool
	target int
	ev     schemas.Event
}

var emptyJSON = jsontext.Value("{}")

func user(name string) schemas.User {
	u, err := schemas.ParseUser(name)
	if err != nil {
		panic(err)
	}
	return u
}

func textBody(text string) jsontext.Value {
	return jsontext.Value(`{"kind":"text","text":"` + text + `"}`)
}

// drawOps makes a timeline in which most happens to the same few messages.
func drawOps(random *rand.Rand, n int) []op {
	names := []string{"alice", "alice", "alice", "bob", "carol"}
	emojis := []string{"👍", ":shipit:", `"`}
	brief := make(map[int]bool) // messages that disappear at once
	var ops []op
	for len(ops) < n {
		i := len(ops)
		id, _ := schemas.ParseID("m" + string(rune('a'+i%26)))
		o := op{target: -1, ev: schemas.Event{Type: schemas.Message, ID: id, From: user(names[random.IntN(len(names))])}}
		if i > 0 {
			o.target = random.IntN(i)
			if random.IntN(3) > 0 {
				o.target = min(o.target, random.IntN(i), random.IntN(i))
			}
		}
		if random.IntN(20) == 0 {
			o.target = -1
		}
		text := textBody(string(rune('a' + random.IntN(26))))
		switch kind := random.IntN(20); {
		case kind < 5 || i == 0:
			o.ev.Body, o.ev.Mentions = text, []string{"bob"}
			switch random.IntN(6) {
			case 0:
				o.ev.TTL, brief[i] = 1, true
			case 1:
				o.ev.TTL = 1000
			}
		case kind < 12 && brief[o.target]: // what becomes of its edits depends on when they are stored
			o.ev.Type = schemas.Pin
		case kind < 10:
			o.ev.Type, o.ev.Body = schemas.Edit, text
		case kind < 12:
			o.ev.Type = schemas.Delete
		case kind < 17:
			o.ev.Type, o.ev.Emoji, o.ev.Remove = schemas.React, emojis[random.IntN(len(emojis))], random.IntN(3) == 0
		case kind < 18:
			o.ev.Type, o.ev.Remove = schemas.Pin, random.IntN(3) == 0
		case kind < 19:
			o.ev.Type = "later" // of a version to come
		default:
			o.poison = true
		}
		ops = append(ops, o)
	}
	return ops
}

// folded is an event as a page should show it.
type folded struct {
	said
	shown   schemas.Event
	prev, n uint64
	edited  uint64
	deleted bool
	pinned  bool
	former  []schemas.FormerBody
	current schemas.FormerBody
	edits   []*folded
	words   map[string]map[schemas.User]word
	stored  map[string]map[schemas.User]word
}

// word is a user's last about an emoji.
type word struct {
	seq uint64
	on  bool
}

func (f *folded) goneAt(t time.Time) bool {
	at, expires := f.ev.Expires(f.time)
	return expires && !t.Before(at)
}

// foldAll is the model: what a chat looks like, of which head and what is below is stored.
func foldAll(chat []said, head uint64, now time.Time) (visible []*folded) {
	bySeq := make(map[uint64]*folded)
	var prev, n uint64
	for _, s := range chat {
		if s.ev == nil {
			continue
		}
		if s.ev.Type == schemas.Message {
			n++
		}
		f := &folded{said: s, shown: *s.ev, prev: prev, n: n, current: schemas.FormerBody{Seq: s.seq, Time: s.time, Body: s.ev.Body}}
		prev = s.seq
		t := bySeq[s.ev.Target]
		if t != nil && t.ev.Type == schemas.Message && s.ev.HasTarget() && !t.goneAt(s.time) {
			t.apply(f, head)
		}
		bySeq[s.seq] = f
		if !f.goneAt(now) {
			visible = append(visible, f)
		}
	}
	return visible
}

func (f *folded) apply(by *folded, head uint64) {
	switch ev := by.ev; ev.Type {
	case schemas.Edit:
		switch {
		case f.deleted:
			by.shown.Body = emptyJSON
		case ev.From == f.ev.From:
			f.edited, f.shown.Body = by.seq, ev.Body
			f.former = append(f.former, f.current)
			f.current = by.current
			f.edits = append(f.edits, by)
		}
	case schemas.Delete:
		if f.deleted {
			return
		}
		f.deleted, f.shown.Body, f.shown.Mentions = true, emptyJSON, nil
		for _, edit := range f.edits {
			edit.shown.Body = emptyJSON
		}
	case schemas.React:
		f.words = say(f.words, by)
		if by.seq <= head {
			f.stored = say(f.stored, by)
		}
	case schemas.Pin:
		f.pinned = !ev.Remove
	}
}

func say(words map[string]map[schemas.User]word, by *folded) map[string]map[schemas.User]word {
	if words == nil {
		words = make(map[string]map[schemas.User]word)
	}
	if words[by.ev.Emoji] == nil {
		words[by.ev.Emoji] = make(map[schemas.User]word)
	}
	words[by.ev.Emoji][by.ev.From] = word{by.seq, !by.ev.Remove}
	return words
}

// reactions has the emojis in order. One whose earliest user took it away keeps
// its place as long as that is not stored, and another one has it.
func (f *folded) reactions() []schemas.Reaction {
	type emoji struct {
		schemas.Reaction
		first uint64
	}
	var emojis []emoji
	for name, words := range f.words {
		var users []schemas.User
		for user, word := range words {
			if word.on {
				users = append(users, user)
			}
		}
		if len(users) == 0 {
			continue
		}
		slices.SortFunc(users, func(a, b schemas.User) int { return cmp.Compare(words[a].seq, words[b].seq) })
		first, stays, storedFirst := words[users[0]].seq, false, ^uint64(0)
		for user, stored := range f.stored[name] {
			if stored.on {
				storedFirst = min(storedFirst, stored.seq)
				stays = stays || words[user] == stored
			}
		}
		if stays {
			first = storedFirst
		}
		emojis = append(emojis, emoji{schemas.Reaction{Emoji: name, Count: len(users), Users: users}, first})
	}
	slices.SortFunc(emojis, func(a, b emoji) int { return cmp.Compare(a.first, b.first) })
	var reactions []schemas.Reaction
	for _, e := range emojis {
		reactions = append(reactions, e.Reaction)
	}
	return reactions
}

// item is f in an answer.
func (f *folded) item(ask schemas.HistoryAsk) schemas.Item {
	event, err := schemas.EncodeEvent(&f.shown)
	if err != nil {
		panic(err)
	}
	it := schemas.Item{
		StoredEvent: schemas.StoredEvent{Seq: f.seq, Prev: f.prev, Time: f.time.UTC(), N: f.n, JSON: event},
		Edited:      f.edited, Deleted: f.deleted, Pinned: f.pinned,
	}
	if !f.deleted {
		it.Reactions = f.reactions()
		if ask.Raw && (ask.Author.IsZero() || ask.Author == f.ev.From) {
			it.Former = f.former
		}
	}
	return it
}

// wantPage is the answer to ask; slack tells that more may be told, too, since
// only what has disappeared is left.
func wantPage(chat []said, head uint64, now time.Time, ask schemas.HistoryAsk) (page schemas.HistoryAnswer, slack bool) {
	var in []*folded
	for _, f := range foldAll(chat, head, now) {
		below := ask.Before != nil && f.seq >= *ask.Before
		above := ask.After != nil && f.seq <= *ask.After
		if !below && !above && f.seq >= ask.From {
			in = append(in, f)
		}
	}
	limit := int(*ask.Limit)
	if page.More = len(in) > limit; page.More {
		if ask.After != nil {
			in = in[:limit]
		} else {
			in = in[len(in)-limit:]
		}
	}
	for _, f := range in {
		page.Events = append(page.Events, f.item(ask))
	}
	slack = ask.From > 0 && ask.After == nil && len(in) > 0 && in[0].prev >= ask.From
	return page, slack
}

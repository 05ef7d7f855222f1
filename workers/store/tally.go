package store

import (
	"cmp"
	"slices"

	"parley/schemas"
)

// Tally counts reactions as their rows are read, in any order. It keeps the
// earliest users of each emoji, [schemas.ReactionUsersMax] at most, however many
// there are.
type Tally struct {
	emojis map[uint64]map[string]*count
}

// count is one emoji's under one event.
type count struct {
	number int
	first  []reaction // by rising seq
}

type reaction struct {
	seq  uint64
	user schemas.User
}

// NewTally returns one that has counted nothing.
func NewTally() *Tally { return &Tally{emojis: make(map[uint64]map[string]*count)} }

// Add counts the row of a reaction that is there.
func (t *Tally) Add(target uint64, emoji string, user schemas.User, seq uint64) {
	of := t.emojis[target]
	if of == nil {
		of = make(map[string]*count)
		t.emojis[target] = of
	}
	c := of[emoji]
	if c == nil {
		c = &count{}
		of[emoji] = c
	}
	c.number++
	at, _ := slices.BinarySearchFunc(c.first, seq, func(r reaction, seq uint64) int { return cmp.Compare(r.seq, seq) })
	if at == schemas.ReactionUsersMax {
		return
	}
	if len(c.first) == schemas.ReactionUsersMax {
		c.first = c.first[:len(c.first)-1]
	}
	c.first = slices.Insert(c.first, at, reaction{seq, user})
}

// Reactions returns what was counted, by target; the emoji that came first is first.
func (t *Tally) Reactions() map[uint64][]Reactions {
	all := make(map[uint64][]Reactions, len(t.emojis))
	for target, emojis := range t.emojis {
		of := make([]Reactions, 0, len(emojis))
		for emoji, c := range emojis {
			r := Reactions{Emoji: emoji, First: c.first[0].seq, Count: c.number, Users: make([]schemas.User, len(c.first))}
			for i := range c.first {
				r.Users[i] = c.first[i].user
			}
			of = append(of, r)
		}
		slices.SortFunc(of, func(a, b Reactions) int { return cmp.Compare(a.First, b.First) })
		all[target] = of
	}
	return all
}

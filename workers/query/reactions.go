package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// reaction is a user's word in the tail about an emoji: the last one counts.
type reaction struct {
	emoji string
	user  schemas.User
	seq   uint64
	on    bool
}

// who is a user with an emoji.
type who struct {
	emoji string
	user  schemas.User
}

// react makes the reactions under d of those that are stored and the tail's.
//
// The store names only the first users of an emoji, and when the earliest of them
// reacted. What follows from the rest shows when the tail is stored: until then an
// emoji keeps its place after its earliest user took it away, and a name that was
// taken from a full list is not replaced.
func (s *Service) react(ctx context.Context, f *fold, d *draft) error {
	reacted := lastWords(d.reacted)
	var counted map[who]bool
	if isCrowded(d.reactions, reacted) {
		var err error
		if counted, reacted, err = s.crowd(ctx, f, d); err != nil {
			return err
		}
	}
	emojis := slices.Clone(d.reactions)
	for i := range emojis {
		emojis[i].Users = slices.Clone(emojis[i].Users)
	}
	for _, r := range reacted {
		if e := emojiOf(emojis, r.emoji); e != nil {
			takeAway(e, r.user, counted[who{r.emoji, r.user}])
		}
	}
	for _, r := range reacted {
		if !r.on {
			continue
		}
		e := emojiOf(emojis, r.emoji)
		if e == nil {
			emojis = append(emojis, store.Reactions{Emoji: r.emoji})
			e = &emojis[len(emojis)-1]
		}
		put(e, r)
	}
	emojis = slices.DeleteFunc(emojis, func(e store.Reactions) bool { return e.Count == 0 })
	slices.SortStableFunc(emojis, func(a, b store.Reactions) int { return cmp.Compare(a.First, b.First) })
	for i := range emojis {
		emojis[i].Users = emojis[i].Users[:min(len(emojis[i].Users), schemas.ReactionUsersMax)]
	}
	d.reactions = emojis
	return nil
}

// lastWords leaves of reactions, which rise, the last of each user and emoji.
func lastWords(reactions []reaction) []reaction {
	seen := make(map[who]bool, len(reactions))
	var last []reaction
	for _, r := range slices.Backward(reactions) {
		if key := (who{r.emoji, r.user}); !seen[key] {
			seen[key] = true
			last = append(last, r)
		}
	}
	slices.Reverse(last)
	return last
}

func emojiOf(emojis []store.Reactions, emoji string) *store.Reactions {
	for i := range emojis {
		if emojis[i].Emoji == emoji {
			return &emojis[i]
		}
	}
	return nil
}

// takeAway takes a user from an emoji; counted tells that the user is counted there.
func takeAway(e *store.Reactions, user schemas.User, counted bool) {
	if at := slices.Index(e.Users, user); at >= 0 {
		e.Users = slices.Delete(e.Users, at, at+1)
		e.Count--
	} else if counted {
		e.Count--
	}
}

// put adds a user, as the last one: also who had reacted before.
func put(e *store.Reactions, r reaction) {
	if e.Count == 0 {
		e.First = r.seq
	}
	if e.Count == len(e.Users) { // else earlier ones have no name
		e.Users = append(e.Users, r.user)
	}
	e.Count++
}

func isCrowded(stored []store.Reactions, reacted []reaction) bool {
	return slices.ContainsFunc(stored, func(e store.Reactions) bool {
		return e.Count > len(e.Users) && slices.ContainsFunc(reacted, func(r reaction) bool { return r.emoji == e.Emoji })
	})
}

const (
	// crowdMax is how many users' reactions are looked up for one item; past it the
	// answer is refused as if the tail were too long.
	crowdMax = 2000
	// crowdReadsMax is how many are looked up at once.
	crowdReadsMax = 16
)

// crowd reads the reactions under d again, and who of those that the tail is about
// is counted there without a name. The two are of the same moment: else a reaction
// that is stored meanwhile would count twice, or not at all. What of the tail is
// stored is left out of what it returns.
func (s *Service) crowd(ctx context.Context, f *fold, d *draft) (counted map[who]bool, reacted []reaction, err error) {
	row := store.Event{Bucket: d.bucket, Seq: d.seq, Type: d.kind, Author: d.author, Time: d.time, Expires: d.expires}
	for {
		head, _, err := s.cfg.Store.Head(ctx, f.q.chat)
		if err != nil {
			return nil, nil, fmt.Errorf("read head of %s: %w", f.q.chat, err)
		}
		reacted = slices.DeleteFunc(lastWords(d.reacted), func(r reaction) bool { return r.seq <= head.LastSeq })
		if len(reacted) > crowdMax {
			return nil, nil, fmt.Errorf("%d users react to %d of %s: %w", len(reacted), d.seq, f.q.chat, errTailTooLong)
		}
		before, err := s.areCounted(ctx, f, d, reacted)
		if err != nil {
			return nil, nil, err
		}
		stored, err := s.cfg.Store.Reactions(ctx, f.q.chat, []store.Event{row})
		if err != nil {
			return nil, nil, fmt.Errorf("read reactions under %d of %s: %w", d.seq, f.q.chat, err)
		}
		after, err := s.areCounted(ctx, f, d, reacted)
		if err != nil {
			return nil, nil, err
		}
		if slices.Equal(before, after) {
			d.reactions = stored[d.seq]
			counted = make(map[who]bool, len(reacted))
			for i, r := range reacted {
				counted[who{r.emoji, r.user}] = after[i]
			}
			return counted, reacted, nil
		}
	}
}

// areCounted asks the store of each of reacted whether the user has the emoji.
func (s *Service) areCounted(ctx context.Context, f *fold, d *draft, reacted []reaction) ([]bool, error) {
	counted := make([]bool, len(reacted))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(crowdReadsMax)
	for i, r := range reacted {
		group.Go(func() (err error) {
			counted[i], err = s.cfg.Store.Reacted(ctx, f.q.chat, d.bucket, d.seq, r.emoji, r.user)
			if err != nil {
				return fmt.Errorf("read reaction of %s to %d of %s: %w", r.user, d.seq, f.q.chat, err)
			}
			return nil
		})
	}
	return counted, group.Wait()
}

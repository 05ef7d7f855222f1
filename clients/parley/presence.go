package parley

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"parley/schemas"
)

// watched are the users whose presence the client is told of, at most [schemas.PresenceUsersMax].
type watched struct {
	signal chan struct{} // has one element while all are to be watched again

	mu    sync.Mutex // guards what follows
	users map[schemas.User]struct{}
}

func (w *watched) init() {
	w.signal = make(chan struct{}, 1)
	w.users = map[schemas.User]struct{}{}
}

// add returns those of users that are new; ok is false where they are too many, and none is added.
func (w *watched) add(users []schemas.User) (added []schemas.User, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, user := range users {
		if _, known := w.users[user]; !known {
			w.users[user] = struct{}{}
			added = append(added, user)
		}
	}
	if len(w.users) <= schemas.PresenceUsersMax {
		return added, true
	}
	for _, user := range added {
		delete(w.users, user)
	}
	return nil, false
}

func (w *watched) remove(users []schemas.User) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, user := range users {
		delete(w.users, user)
	}
}

// all returns the users by name.
func (w *watched) all() []schemas.User {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]schemas.User, 0, len(w.users))
	for user := range w.users {
		all = append(all, user)
	}
	slices.SortFunc(all, func(a, b schemas.User) int { return cmp.Compare(a.String(), b.String()) })
	return all
}

// has returns those of users that are watched.
func (w *watched) has(users map[schemas.User]schemas.Presence) map[schemas.User]schemas.Presence {
	w.mu.Lock()
	defer w.mu.Unlock()
	has := map[schemas.User]schemas.Presence{}
	for user, presence := range users {
		if _, known := w.users[user]; known {
			has[user] = presence
		}
	}
	return has
}

// again has all users watched once more.
func (w *watched) again() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// Presence returns whether users can be reached, at most 500 at a time.
func (c *Client) Presence(ctx context.Context, users ...schemas.User) (map[schemas.User]schemas.Presence, error) {
	frame, err := ask[schemas.PresenceFrame](ctx, c, schemas.TPresence, schemas.Users{Users: users})
	return frame.Users, err
}

// Watch is Presence, and has Options.OnPresence told of the users from now on, over
// reconnects too: of what is returned here in its place among the changes. A client
// watches at most 500 users. After an error that is no [*schemas.Error] they may be
// watched or not: Watch and Unwatch can be called again.
func (c *Client) Watch(ctx context.Context, users ...schemas.User) (map[schemas.User]schemas.Presence, error) {
	added, ok := c.watched.add(users)
	if !ok {
		return nil, schemas.Errorf(schemas.Invalid, "with these there are more than %d users to watch", schemas.PresenceUsersMax)
	}
	frame, err := ask[schemas.PresenceFrame](ctx, c, schemas.TWatch, schemas.Users{Users: users})
	if refusal := (*schemas.Error)(nil); errors.As(err, &refusal) {
		c.watched.remove(added)
	}
	return frame.Users, err
}

// Unwatch ends what Watch began; OnPresence hears no more of these users.
func (c *Client) Unwatch(ctx context.Context, users ...schemas.User) error {
	c.watched.remove(users)
	_, err := ask[schemas.Done](ctx, c, schemas.TUnwatch, schemas.Users{Users: users})
	return err
}

// SetStatus chooses how the user is shown to others, in all its sessions and later
// ones: online (as it is), away, or invisible.
func (c *Client) SetStatus(ctx context.Context, status schemas.Status) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TStatus, schemas.SetStatus{Status: status})
	return err
}

// watchLoop watches again what is watched, after each welcome and resync.
func (c *Client) watchLoop(ctx context.Context) {
	for {
		select {
		case <-c.watched.signal:
		case <-ctx.Done():
			return
		}
		if err := c.watchAgain(ctx); err != nil && ctx.Err() == nil {
			c.opts.Log.Warn("users not watched again: changes of their presence are missing", "err", err)
		}
	}
}

// watchAgain asks until it is answered, at most repairTries times. The answer is
// taken where it comes, see handleFrame.
func (c *Client) watchAgain(ctx context.Context) (err error) {
	for range repairTries {
		if len(c.watched.all()) == 0 {
			return nil
		}
		// The users are those at the time of writing: one that Unwatch was called for
		// meanwhile is not among them, or is said after them.
		r := &request{ask: func(ref uint64) any {
			return askFrame[schemas.Users]{schemas.TWatch, ref, schemas.Users{Users: c.watched.all()}}
		}}
		if err = c.start(ctx, r); err != nil {
			return err
		}
		var answer schemas.PresenceFrame
		err = c.await(ctx, r, &answer)
		var refusal *schemas.Error
		if !errors.As(err, &refusal) {
			return err
		}
		if err := c.sleep(ctx, refusalWait(refusal)); err != nil {
			return err
		}
	}
	return err
}

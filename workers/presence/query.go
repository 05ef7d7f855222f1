package presence

import (
	"context"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// query answers how users are. Whom the asker may not see, its edge has left out.
func (w *Worker) query(ctx context.Context, request []byte) (any, *schemas.Error) {
	var ask schemas.Users
	if err := json.Unmarshal(request, &ask); err != nil || len(ask.Users) == 0 || len(ask.Users) > schemas.PresenceUsersMax {
		return nil, schemas.Errorf(schemas.Invalid, "the request is not {users}, 1 to %d of them", schemas.PresenceUsersMax)
	}
	var answer schemas.PresenceAnswer
	answer.Users, answer.AsOf = w.roster.shown(ask.Users)
	var offline []schemas.User
	for user, is := range answer.Users {
		if is.Status == schemas.Offline {
			offline = append(offline, user)
		}
	}
	seen, err := w.seen.last(ctx, offline)
	if err != nil { // who is online matters more
		w.log.Warn("read when users were last seen", "users", len(offline), "err", err)
	}
	for user, at := range seen {
		answer.Users[user] = schemas.Presence{Status: schemas.Offline, LastSeen: at}
	}
	return answer, nil
}

package persist

import (
	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

// tellJoined tells users who came into a group by one of the committed events.
// Who changed the group has told them already, if it lived long enough; edges
// drop what they know. What is lost on the way an edge asks for when it connects.
func (s *shard) tellJoined(events []event) {
	for i := range events {
		e := &events[i]
		if e.chat.Kind() != schemas.Group {
			continue
		}
		mode := s.heads.get(e.chat).History
		for user, notice := range schemas.Notices(e.chat, e.seq, e.event, mode) {
			if err := s.tell(user, notice); err != nil {
				s.log.Warn("users were not told of a group they came into", "chat", e.chat, "seq", e.seq, "err", err)
				return
			}
		}
	}
}

func (s *shard) tell(user schemas.User, notice schemas.Notice) error {
	data, err := json.Marshal(notice)
	if err != nil {
		return err
	}
	return s.cfg.JetStream.Conn().Publish(streams.Personal(user), data)
}

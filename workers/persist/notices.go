package persist

import (
	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/worker"
)

// tellJoined tells users who came into a group by one of the committed events.
// Who changed the group has told them already, if it lived long enough; edges
// drop what they know. What is lost on the way an edge asks for when it connects.
func (s *shard) tellJoined(events []fold.Event) {
	for i := range events {
		e := &events[i]
		if e.Chat.Kind() != schemas.Group {
			continue
		}
		mode := s.heads.get(e.Chat).History
		for user, notice := range schemas.Notices(e.Chat, e.Seq, e.Event, mode) {
			if err := worker.Notify(s.cfg.JetStream.Conn(), user, notice); err != nil {
				s.log.Warn("users were not told of a group they came into", "chat", e.Chat, "seq", e.Seq, "err", err)
				return
			}
		}
	}
}

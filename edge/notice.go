package edge

import (
	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// handleNotice takes a personal event. What it tells of a group that its user
// came into is done beside the loop: the group may have to be subscribed first.
func (v *liveLoop) handleNotice(name string, data []byte) {
	v.mu.Lock()
	u := v.users[name]
	v.mu.Unlock()
	if u == nil {
		return // its last session has just left
	}
	var notice schemas.Notice
	if err := json.Unmarshal(data, &notice); err != nil {
		v.log.Warn("personal event cannot be read", "user", name, "error", err)
		return
	}
	switch notice.Change {
	case schemas.ChatAdded:
		if m, refused := v.members.memberOf(u, notice.Chat); refused == nil && m.since >= notice.Seq {
			return // told before
		}
		if u.words.Add(1) > wordsMax {
			u.words.Add(-1)
			v.members.loadLater(u)
			return
		}
		v.tasks.Go(func() {
			defer u.words.Add(-1)
			if err := v.members.enter(v.ctx, u, &notice); err != nil && v.ctx.Err() == nil {
				v.log.Warn("enter group", "user", name, "chat", notice.Chat, "error", err)
				v.members.loadLater(u)
			}
		})
		return
	case schemas.ChatBlocked, schemas.ChatUnblocked, schemas.ChatPrivacy:
		if notice.Hidden {
			v.tasks.Go(func() { v.members.loadPrivacy(v.ctx, u) })
		}
	case schemas.ChatRead:
		marks := []schemas.ReceiptMark{{User: u.name, Read: notice.Seq}}
		v.deliver(&u.audience, item{frame: jsonFrame(schemas.ReceiptFrame{T: schemas.TReceipt, Chat: notice.Chat, Marks: marks})})
	}
	if !notice.Hidden {
		v.deliver(&u.audience, item{frame: jsonFrame(notice.ChatFrame)})
	}
}

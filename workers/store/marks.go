package store

import (
	"fmt"

	"parley/schemas"
)

// Mark is how far a user has got in a chat, by seqs; 0 is no news. Delivered is in
// its row of table receipts and in that of chats_by_user, Read in the latter. Each
// of them only rises.
type Mark struct {
	Chat      schemas.Chat
	User      schemas.User
	Delivered uint64
	Read      uint64
	ReadN     uint64 // messages up to Read: of the same Read it is the same
	Told      bool   // others may know of Read: it is in the row of receipts too
}

// Receipt is a row of table receipts: what others are told of how far a user has got.
type Receipt struct {
	Delivered uint64
	Read      uint64
}

// ValidateMarks returns [ErrBatch] with the first of marks that can never be stored.
// Several of a user in a chat are no fault.
func ValidateMarks(marks []Mark) error {
	for i := range marks {
		if reason := marks[i].fault(); reason != "" {
			return fmt.Errorf("%w: mark %d, of %q in %q: %s", ErrBatch, i, marks[i].User, marks[i].Chat, reason)
		}
	}
	return nil
}

// fault says what is wrong with m, or "".
func (m *Mark) fault() string {
	switch {
	case m.Chat.IsZero() || m.User.IsZero():
		return "it names no chat or no user"
	case m.Delivered == 0 && m.Read == 0:
		return "it has neither what was delivered nor what was read"
	case max(m.Delivered, m.Read, m.ReadN) > schemas.SeqMax:
		return fmt.Sprintf("delivered %d, read %d or n %d is beyond 2^53", m.Delivered, m.Read, m.ReadN)
	}
	return ""
}

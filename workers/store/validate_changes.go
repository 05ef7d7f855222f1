package store

import (
	"fmt"

	"parley/schemas"
)

// changesFault checks that each change is made by an event of the batch, of an earlier one.
func (c *ChatBatch) changesFault() string {
	events := c.Events
	for i := range c.Changes {
		change := &c.Changes[i]
		for len(events) > 0 && events[0].Seq < change.Seq {
			events = events[1:]
		}
		reason := "no event of the batch, in their order, makes it"
		if len(events) > 0 && events[0].Seq == change.Seq {
			reason = change.fault(&events[0])
		}
		if reason != "" {
			return fmt.Sprintf("change %d, %s of %d: %s", change.Seq, change.Type, change.Target, reason)
		}
	}
	return ""
}

// fault says what is wrong with a change that the event by makes, or "".
func (c *Change) fault(by *Event) string {
	switch {
	case c.Type != by.Type:
		return fmt.Sprintf("its event is a %s", by.Type)
	case c.Target == 0 || c.Target >= c.Seq:
		return "its target is not before it"
	case c.Bucket < 0 || c.Bucket > by.Bucket:
		return fmt.Sprintf("its target's bucket %d is not between 0 and %d", c.Bucket, by.Bucket)
	case !c.Expires.IsZero() && !timeFits(c.Expires):
		return fmt.Sprintf("its target expires at %s, which is not between 1970 and 2262", c.Expires)
	}
	switch c.Type {
	case schemas.Edit:
		switch {
		case len(c.Body) == 0:
			return "it has no body"
		case !timeFits(c.Time):
			return fmt.Sprintf("its time %s is not between 1970 and 2262", c.Time)
		case !by.Expires.Equal(c.Expires):
			return fmt.Sprintf("its event expires at %s, and its target at %s: what it says would outlive it", by.Expires, c.Expires)
		}
	case schemas.Delete:
		return c.blanksFault()
	case schemas.React:
		if c.Emoji == "" || c.User.IsZero() {
			return "it has no emoji or no user"
		}
	case schemas.Pin:
	default:
		return "it is none of edit, delete, reaction and pin"
	}
	return ""
}

// blanksFault checks that the target comes first, and then its edits.
func (c *Change) blanksFault() string {
	if len(c.Blanks) == 0 || c.Blanks[0].Seq != c.Target || c.Blanks[0].Bucket != c.Bucket {
		return "its target is not the first that it blanks"
	}
	for i := range c.Blanks {
		switch b := &c.Blanks[i]; {
		case i > 0 && (b.Seq <= c.Target || b.Seq >= c.Seq):
			return fmt.Sprintf("it blanks %d, which is no edit between its target and itself", b.Seq)
		case b.Bucket < c.Bucket:
			return fmt.Sprintf("it blanks %d in bucket %d, before its target's %d", b.Seq, b.Bucket, c.Bucket)
		case len(b.JSON) == 0:
			return fmt.Sprintf("it blanks %d without JSON", b.Seq)
		}
	}
	return ""
}

// rolesFault checks that each role is given by an event of the batch.
func (c *ChatBatch) rolesFault() string {
	events := c.Events
	for i := range c.Roles {
		role := &c.Roles[i]
		for len(events) > 0 && events[0].Seq < role.Seq {
			events = events[1:]
		}
		var reason string
		switch {
		case role.User.IsZero():
			reason = "it names no user"
		case len(events) == 0 || events[0].Seq != role.Seq:
			reason = "no event of the batch, in their order, gives it"
		case !role.Role.In() && role.Role != schemas.Left:
			reason = fmt.Sprintf("there is no role %q", role.Role)
		case role.Joins && (!role.Role.In() || role.From > role.Seq):
			reason = fmt.Sprintf("who joins as %s cannot read from %d on", role.Role, role.From)
		}
		if reason != "" {
			return fmt.Sprintf("role %d of %q: %s", role.Seq, role.User, reason)
		}
	}
	return ""
}

// readsFault checks that nobody has read what is not there.
func (c *ChatBatch) readsFault() string {
	for i := range c.Reads {
		switch read := &c.Reads[i]; {
		case read.User.IsZero():
			return fmt.Sprintf("read mark %d names no user", read.Seq)
		case read.Seq == 0 || read.Seq > c.Head.LastSeq || read.N > c.Head.LastN:
			return fmt.Sprintf("read mark {%d, n %d} of %s is not up to the chat's last event {%d, n %d}",
				read.Seq, read.N, read.User, c.Head.LastSeq, c.Head.LastN)
		}
	}
	return ""
}

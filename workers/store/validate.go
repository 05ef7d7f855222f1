package store

import (
	"fmt"
	"time"

	"parley/schemas"
)

// timeMin and timeMax are inside what 64 bits hold in nanoseconds since 1970.
var (
	timeMin = time.Unix(0, 0)
	timeMax = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// expiresMax is the longest that an event may stay that disappears.
const expiresMax = schemas.TTLMax * time.Second

// Validate returns [ErrBatch] with the first rule that b breaks. Stores call it
// before they write, so that what was stored can be read back.
func (b *Batch) Validate() error {
	if b.Shard == "" {
		return fmt.Errorf("%w: it names no shard", ErrBatch)
	}
	if b.Committed > schemas.SeqMax {
		return fmt.Errorf("%w: shard %s: committed %d is beyond 2^53", ErrBatch, b.Shard, b.Committed)
	}
	for i := range b.Chats {
		if reason := b.Chats[i].fault(); reason != "" {
			return fmt.Errorf("%w: shard %s, chat %q: %s", ErrBatch, b.Shard, b.Chats[i].Chat, reason)
		}
	}
	return nil
}

// fault says what is wrong with c, or "".
func (c *ChatBatch) fault() string {
	if c.Chat.IsZero() {
		return "the chat has no name"
	}
	if len(c.Events) == 0 {
		return "it has no events"
	}
	for i := range c.Events {
		if reason := c.Events[i].fault(); reason != "" {
			return fmt.Sprintf("event %d: %s", c.Events[i].Seq, reason)
		}
		if i == 0 {
			continue
		}
		if before, seq := c.Events[i-1].Seq, c.Events[i].Seq; seq <= before {
			return fmt.Sprintf("event %d comes after event %d", seq, before)
		}
		if before, bucket := c.Events[i-1].Bucket, c.Events[i].Bucket; bucket < before {
			return fmt.Sprintf("event %d is in bucket %d, the one before it in %d", c.Events[i].Seq, bucket, before)
		}
	}
	for _, fault := range []func() string{c.bucketsFault, c.headFault, c.changesFault, c.rolesFault, c.readsFault} {
		if reason := fault(); reason != "" {
			return reason
		}
	}
	return ""
}

func (e *Event) fault() string {
	switch {
	case e.Seq == 0 || e.Seq > schemas.SeqMax:
		return "its seq is not between 0 and 2^53"
	case e.Prev >= e.Seq:
		return fmt.Sprintf("its prev %d is not lower", e.Prev)
	case e.N > schemas.SeqMax:
		return fmt.Sprintf("its n %d is beyond 2^53", e.N)
	case e.Bucket < 0:
		return fmt.Sprintf("its bucket %d is negative", e.Bucket)
	case !timeFits(e.Time):
		return fmt.Sprintf("its time %s is not between 1970 and 2262", e.Time)
	case !e.Expires.IsZero() && (!e.Expires.After(e.Time) || e.Expires.After(e.Time.Add(expiresMax))):
		return fmt.Sprintf("it expires at %s, which is not within a year after %s", e.Expires, e.Time)
	case e.Type == "" || e.Author.IsZero() || e.ID.IsZero() || len(e.JSON) == 0:
		return "it has no type, author, id or JSON"
	}
	return ""
}

// bucketsFault checks that each bucket in which an event is the first is named:
// without its row a page would not find it.
func (c *ChatBatch) bucketsFault() string {
	named := c.Buckets
	for i := range c.Events {
		opens := c.Opened && i == 0 || i > 0 && c.Events[i].Bucket != c.Events[i-1].Bucket
		first := len(named) > 0 && named[0].FirstSeq == c.Events[i].Seq && named[0].Bucket == c.Events[i].Bucket
		if opens && !first {
			return fmt.Sprintf("event %d opens bucket %d, which is not named in its turn", c.Events[i].Seq, c.Events[i].Bucket)
		}
		if first {
			named = named[1:]
		}
	}
	if len(named) > 0 {
		return fmt.Sprintf("bucket %d starts at %d, where no event of the batch opens it", named[0].Bucket, named[0].FirstSeq)
	}
	return ""
}

func (c *ChatBatch) headFault() string {
	last, head := &c.Events[len(c.Events)-1], &c.Head
	switch {
	case head.LastSeq != last.Seq || head.LastN != last.N || head.Bucket != last.Bucket:
		return fmt.Sprintf("its head {seq %d, n %d, bucket %d} is not that of its last event {seq %d, n %d, bucket %d}",
			head.LastSeq, head.LastN, head.Bucket, last.Seq, last.N, last.Bucket)
	case !timeFits(head.Created) || !timeFits(head.LastTime):
		return fmt.Sprintf("its head's times %s and %s are not between 1970 and 2262", head.Created, head.LastTime)
	case head.Members > schemas.SeqMax:
		return fmt.Sprintf("its head's %d members are beyond 2^53", head.Members)
	case head.BucketEvents < 0 || head.BucketBytes < 0:
		return fmt.Sprintf("its head's bucket has %d events and %d bytes", head.BucketEvents, head.BucketBytes)
	}
	return ""
}

func timeFits(t time.Time) bool { return !t.Before(timeMin) && t.Before(timeMax) }

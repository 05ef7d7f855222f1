package edge

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// logReach is how many sequences of a shard a resume reads over; what lies
	// further back comes from the store, where a chat's events stand together.
	logReach = 100_000
	// resumeChunkBytes of frames are queued before a resume waits for room.
	resumeChunkBytes = 256 << 10
	// openTries bounds how often a chat's tail is read because live events passed meanwhile.
	openTries = 10
	// secondLookAfter: a replica that lags may not have had a chat's last event yet.
	secondLookAfter = time.Second
)

// resume sends a session what it missed. Its chats' live events are held since
// before the welcome (see gate), and let through chat by chat as each is done.
type resume struct {
	*base
	members  *membership
	reader   *reader
	logWatch *logWatch
	session  *session
	bytes    int // sent so far, of all chats
	chunk    int // queued since there was room
	result   schemas.Resumed
	// since tells by which event the user is in a group: one after it may take it out.
	since map[schemas.Chat]uint64
	// entering: the user has just come into the chat, and its first event follows on
	// nothing that the session holds.
	entering bool
}

func newResume(members *membership, s *session) *resume {
	return &resume{base: members.base, members: members, reader: members.reader, logWatch: members.reader.logWatch, session: s}
}

// run ends with the frame resumed, whatever came.
func (r *resume) run(ctx context.Context, held map[schemas.Chat]uint64) {
	r.result = schemas.Resumed{T: schemas.TResumed, Reset: []schemas.ResetChat{}}
	r.since = make(map[schemas.Chat]uint64)
	chats := make([]schemas.Chat, 0, len(held))
	for chat, after := range held {
		m, refused := r.members.memberOf(r.session.user, chat)
		switch {
		case refused == nil:
			chats = append(chats, chat)
			held[chat] = max(after, m.before())
			r.since[chat] = m.since
		case refused.Code == schemas.NotMember:
			r.reset(chat, schemas.ResetNotMember)
		default:
			r.reset(chat, schemas.ResetGap)
		}
	}
	slices.SortFunc(chats, func(a, b schemas.Chat) int { return cmp.Compare(a.String(), b.String()) })
	var current map[schemas.Chat]uint64
	if len(chats) > 0 {
		current = r.chats(ctx, chats, held)
	}
	r.session.push(jsonFrame(r.result))
	if len(current) > 0 && r.logReader.Replicated() && sleep(ctx, secondLookAfter) {
		r.lookAgain(ctx, current)
	}
}

// chats resumes each of chats and returns those that seemed to be current.
func (r *resume) chats(ctx context.Context, chats []schemas.Chat, held map[schemas.Chat]uint64) (current map[schemas.Chat]uint64) {
	chats, lasts := r.lasts(ctx, chats)
	if r.logReader.Replicated() {
		r.raise(ctx, chats, lasts)
	}
	current = make(map[schemas.Chat]uint64)
	for _, chat := range chats {
		after := held[chat]
		last, inLog := lasts[chat]
		switch {
		case last > after, !inLog && !r.logWatch.reaches(chat, after):
			r.chat(ctx, chat, after, last)
		case last != after && r.ahead(ctx, chat, after):
			r.reset(chat, schemas.ResetAhead)
		default: // as far as the replica that answered knows
			current[chat] = after
			r.metrics.resumes.WithLabelValues("current").Inc()
			r.open(ctx, chat, after, after, last)
		}
	}
	return current
}

// lasts returns the lasts of those of chats whose shard answers, and these chats in
// their order; the others are reset.
func (r *resume) lasts(ctx context.Context, chats []schemas.Chat) (read []schemas.Chat, lasts map[schemas.Chat]uint64) {
	layout := r.logReader.Layout()
	groups := make(map[streams.Shard][]schemas.Chat)
	for _, chat := range chats {
		shard := layout.Shard(chat)
		groups[shard] = append(groups[shard], chat)
	}
	lasts = make(map[schemas.Chat]uint64, len(chats))
	failed := make(map[streams.Shard]bool)
	for shard, group := range groups {
		of, err := r.logReader.Lasts(ctx, group)
		if err != nil {
			r.log.Warn("resume: read lasts", "user", r.session.user.name, "chats", len(group), "error", err)
			failed[shard] = true
		}
		maps.Copy(lasts, of)
	}
	for _, chat := range chats {
		if failed[layout.Shard(chat)] {
			r.reset(chat, schemas.ResetGap)
		} else {
			read = append(read, chat)
		}
	}
	return read, lasts
}

// raise raises a replica's lasts to what the user's other sessions were sent: a
// second look would take that for delivered to this one too.
func (r *resume) raise(ctx context.Context, chats []schemas.Chat, lasts map[schemas.Chat]uint64) {
	byLoop := make(map[*liveLoop]map[schemas.Chat]*audience)
	for _, chat := range chats {
		a := r.members.audienceIn(r.session.user, chat)
		if a == nil {
			continue
		}
		if byLoop[a.live] == nil {
			byLoop[a.live] = make(map[schemas.Chat]*audience)
		}
		byLoop[a.live][chat] = a
	}
	for loop, audiences := range byLoop {
		sent := make(chan map[schemas.Chat]uint64, 1)
		loop.call(func() {
			seqs := make(map[schemas.Chat]uint64)
			for chat, a := range audiences {
				if c := a.cursors[chat]; c.last > 0 && !c.fresh {
					seqs[chat] = c.last
				}
			}
			sent <- seqs
		})
		select {
		case seqs := <-sent:
			for chat, seq := range seqs {
				lasts[chat] = max(lasts[chat], seq)
			}
		case <-ctx.Done():
			return
		}
	}
}

// ahead asks the log's leader whether a seq is above a chat's last. Where the
// log holds nothing of the chat, the chat's last may be one that it has
// forgotten, but none that it never had.
func (r *resume) ahead(ctx context.Context, chat schemas.Chat, seq uint64) bool {
	last, inLog, err := r.logReader.Last(ctx, chat)
	if err != nil || inLog {
		return err == nil && last < seq
	}
	first, last, err := r.logReader.Bounds(ctx, r.logReader.Layout().Shard(chat))
	return err == nil && (seq > last || seq >= first)
}

// chat sends the events after a seq: from the store as long as the log does not
// reach back so far, then from the log until its end.
func (r *resume) chat(ctx context.Context, chat schemas.Chat, after, last uint64) {
	var events []schemas.StoredEvent
	bytes, more := 0, true
	at := after
	for more {
		page, further, err := r.reader.after(ctx, chat, at, last)
		more = further
		if err != nil {
			r.log.Warn("resume: read chat", "chat", chat, "after", at, "error", err)
			r.reset(chat, schemas.ResetGap)
			return
		}
		for i := range page {
			bytes += len(page[i].JSON)
		}
		events = append(events, page...)
		if len(events) > schemas.ResumeEventsMax || bytes > schemas.ResumeBytesMax || r.bytes+bytes > schemas.ResumeTotalBytesMax {
			r.reset(chat, schemas.ResetGap)
			return
		}
		if len(page) == 0 {
			break
		}
		at = page[len(page)-1].Seq
	}
	if len(events) > 0 {
		if r.entering {
			events[0].Prev = 0
		}
		r.result.Chats++
		r.metrics.resumes.WithLabelValues("replayed").Inc()
	}
	if r.send(ctx, chat, events) {
		r.open(ctx, chat, after, at, last)
	}
}

// send queues events as ordinary frames and waits for room now and then. It ends
// with one that takes the user out of the chat, and is not in then: the live loop
// may not have come as far.
func (r *resume) send(ctx context.Context, chat schemas.Chat, events []schemas.StoredEvent) (in bool) {
	for i := range events {
		frame := backfilledFrame(chat, &events[i])
		r.bytes += len(events[i].JSON)
		r.chunk += len(frame)
		r.session.push(frame)
		if r.chunk >= resumeChunkBytes {
			r.chunk = 0
			r.session.awaitRoom(ctx)
		}
		if events[i].Seq > r.since[chat] && takesOut(events[i].JSON, r.session.user.name) {
			r.shut(chat, events[i].Seq)
			return false
		}
	}
	return true
}

// shut tells the session that its user is out of a chat by the event at a seq. Live
// events up to it were sent.
func (r *resume) shut(chat schemas.Chat, seq uint64) {
	s := r.session
	s.loop.push(item{do: func(*fanoutLoop) {
		if g := s.out.gates[chat]; g != nil {
			g.held, g.floor = false, seq
		}
	}})
	s.push(jsonFrame(schemas.ChatFrame{T: schemas.TChat, Chat: chat, Change: schemas.ChatRemoved, Seq: seq}))
}

// open lets a chat's live events through behind what was sent up to seq. What
// passed meanwhile, and what is known to exist up to last, is read from the log first.
func (r *resume) open(ctx context.Context, chat schemas.Chat, after, seq, last uint64) {
	for range openTries {
		if seq >= last && r.tryOpen(ctx, chat, seq, seq > after) {
			return
		}
		events, _, err := r.logReader.After(ctx, chat, seq, schemas.ResumeEventsMax, schemas.ResumeBytesMax)
		if err != nil {
			r.log.Warn("resume: read tail", "chat", chat, "after", seq, "error", err)
		}
		if len(events) == 0 {
			if !sleep(ctx, healAgainAfter) { // it exists, and not yet on the replica that answered
				return
			}
			continue
		}
		if !r.send(ctx, chat, events) {
			return
		}
		seq = events[len(events)-1].Seq
	}
	r.forceOpen(chat)
	r.session.push(resyncFrame)
}

// tryOpen asks the fan-out loop to open the chat's gate, which it does only if
// nothing above seq was held back. With floor, live events up to seq are dropped after.
func (r *resume) tryOpen(ctx context.Context, chat schemas.Chat, seq uint64, floor bool) bool {
	opened := make(chan bool, 1)
	s := r.session
	s.loop.push(item{do: func(l *fanoutLoop) {
		g := s.out.gates[chat]
		switch {
		case g == nil: // detached
		case g.skipped > seq:
			opened <- false
			return
		case floor:
			g.held, g.floor = false, seq
		default:
			l.dropGate(s, chat)
		}
		opened <- true
	}})
	select {
	case ok := <-opened:
		return ok
	case <-ctx.Done():
		return true
	}
}

func (r *resume) forceOpen(chat schemas.Chat) {
	s := r.session
	s.loop.push(item{do: func(l *fanoutLoop) { l.dropGate(s, chat) }})
}

// reset tells that a chat got nothing, and lets its live events through.
func (r *resume) reset(chat schemas.Chat, reason schemas.ResetReason) {
	r.metrics.resumes.WithLabelValues(string(reason)).Inc()
	r.result.Reset = append(r.result.Reset, schemas.ResetChat{Chat: chat, Reason: reason})
	r.forceOpen(chat)
}

// lookAgain finds what a replica that lagged did not show, and has it healed as
// if a live event had told of it.
func (r *resume) lookAgain(ctx context.Context, current map[schemas.Chat]uint64) {
	lasts, err := r.logReader.Lasts(ctx, slices.Collect(maps.Keys(current)))
	if err != nil {
		r.log.Warn("resume: look again", "user", r.session.user.name, "error", err)
		r.session.push(resyncFrame)
		return
	}
	for chat, after := range current {
		a := r.members.audienceIn(r.session.user, chat)
		if last := lasts[chat]; last > after && a != nil {
			a.live.call(func() {
				if _, known := a.cursors[chat]; !known {
					a.setCursor(chat, cursor{last: after})
				}
				a.live.handleStored(a, chat, streams.Stored{Seq: last, Hint: true}, nil)
			})
		}
	}
}

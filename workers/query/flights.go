package query

import "sync"

// flights answers equal questions once. A request that comes while its question
// is being answered does not share that answer: events may have been acknowledged
// since it was begun. It waits for the next one, with all others that come
// meanwhile; so there is one query at a time of each question. (This is why it is
// not x/sync/singleflight, which shares what is under way.)
type flights struct {
	questionsMax int
	waitingMax   int
	fly          func(q question, replies func() []string)

	running sync.WaitGroup // a goroutine per question

	mu      sync.Mutex
	closed  bool
	waiting int // in all flights; at most waitingMax
	flights map[question]*flight
}

// flight holds reply subjects: of those that are being answered, and of the next.
type flight struct{ now, next []string }

// newFlights returns flights that call fly for each answer. fly calls replies
// once, when it has the answer.
func newFlights(questionsMax, waitingMax int, fly func(q question, replies func() []string)) *flights {
	return &flights{questionsMax: questionsMax, waitingMax: waitingMax, fly: fly, flights: make(map[question]*flight)}
}

// join has reply answered; false where too much is under way, or the end is near.
func (f *flights) join(q question, reply string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.waiting >= f.waitingMax {
		return false
	}
	if at, ok := f.flights[q]; ok {
		at.next = append(at.next, reply)
		f.waiting++
		return true
	}
	if len(f.flights) >= f.questionsMax {
		return false
	}
	at := &flight{now: []string{reply}}
	f.flights[q] = at
	f.waiting++
	f.running.Go(func() { f.flyLoop(q, at) })
	return true
}

// flyLoop runs until nobody waits for q.
func (f *flights) flyLoop(q question, at *flight) {
	for more := true; more; {
		f.fly(q, func() []string {
			f.mu.Lock()
			defer f.mu.Unlock()
			replies := at.now
			f.waiting -= len(replies)
			at.now, at.next = at.next, nil
			if more = len(at.now) > 0; !more {
				delete(f.flights, q)
			}
			return replies
		})
	}
}

// close lets nobody join any more and waits until all were answered.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.running.Wait()
}

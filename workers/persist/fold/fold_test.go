package fold

import (
	"testing"

	"parley/schemas"
	"parley/workers/store"
)

func TestFoldOpensBucketsAtTheirBounds(t *testing.T) {
	t.Parallel()
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	ev := &schemas.Event{Type: schemas.Message}
	one := func(head store.Head, bytes int) store.ChatBatch {
		e := Event{Entry: Entry{Seq: 100, Data: make([]byte, bytes)}, Chat: chat, Event: ev}
		return Batch("0", func(schemas.Chat) store.Head { return head }, nil, []Event{e}, 100).Chats[0]
	}
	for _, test := range []struct {
		name   string
		head   store.Head
		bytes  int
		bucket int64
		opens  bool
	}{
		{"the first event", store.Head{}, 10, 0, true},
		{"the first event, however large", store.Head{}, store.BucketBytesMax + 1, 0, true},
		{"room for one more", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: store.BucketEventsMax - 1}, 10, 3, false},
		{"full by events", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: store.BucketEventsMax}, 10, 4, true},
		{"exactly full by bytes", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: 5, BucketBytes: store.BucketBytesMax - 10}, 10, 3, false},
		{"full by bytes", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: 5, BucketBytes: store.BucketBytesMax - 9}, 10, 4, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := one(test.head, test.bytes)
			if b.Events[0].Bucket != test.bucket || b.Head.Bucket != test.bucket {
				t.Errorf("bucket %d, want %d", b.Events[0].Bucket, test.bucket)
			}
			if (len(b.Buckets) == 1) != test.opens {
				t.Errorf("opens %v, want opening %v", b.Buckets, test.opens)
			}
			if test.opens && (b.Head.BucketEvents != 1 || b.Head.BucketBytes != int64(test.bytes)) {
				t.Errorf("a bucket that was opened has %d events and %d bytes", b.Head.BucketEvents, b.Head.BucketBytes)
			}
		})
	}
}

func TestFoldCountsMessagesAlone(t *testing.T) {
	t.Parallel()
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	var events []Event
	for i, kind := range []schemas.EventType{schemas.Message, "later", schemas.Message, "later"} {
		events = append(events, Event{Entry: Entry{Seq: uint64(10 + i)}, Chat: chat, Event: &schemas.Event{Type: kind}})
	}
	b := Batch("0", func(schemas.Chat) store.Head { return store.Head{LastSeq: 9, LastN: 5} }, nil, events, 13).Chats[0]
	for i, want := range []uint64{6, 6, 7, 7} {
		if b.Events[i].N != want {
			t.Errorf("event %d has n %d, want %d", i, b.Events[i].N, want)
		}
	}
	if b.Head.LastN != 7 {
		t.Errorf("the head has n %d, want 7", b.Head.LastN)
	}
}

package chats_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
)

// BenchmarkAdd adds one user after the other to a group of a thousand.
func BenchmarkAdd(b *testing.B) {
	w := newWorld(b)
	w.serve(nil)
	names := make([]string, schemas.UsersMax)
	for i := range names {
		names[i] = fmt.Sprintf("u%03d", i)
	}
	chat := w.create("g", "olga", names...)
	b.ResetTimer()
	for i := range b.N {
		w.done(schemas.TAdd, "olga", `"chat":%q,"users":["n%d"]`, chat, i)
	}
}

// BenchmarkCreate makes groups of a thousand.
func BenchmarkCreate(b *testing.B) {
	w := newWorld(b)
	w.serve(nil)
	names := make([]string, schemas.UsersMax)
	for i := range names {
		names[i] = fmt.Sprintf("u%03d", i)
	}
	b.ResetTimer()
	for i := range b.N {
		w.create(fmt.Sprintf("g%d", i), "olga", names...)
	}
}

// BenchmarkChats asks for the first page of 500 chats, with 2 or 40 messages in
// each: all in the log and stored, or some of them not stored yet, or the log empty.
func BenchmarkChats(b *testing.B) {
	for _, messages := range []int{2, 40} {
		w := newWorld(b)
		w.serve(nil)
		var all []schemas.Chat
		for i := range 500 {
			chat := w.chat(fmt.Sprintf("direct.alice.b%03d", i))
			if i%2 == 0 {
				chat = w.create(fmt.Sprintf("g%03d", i), "alice", "bob", "carol")
			}
			all = append(all, chat)
		}
		say := func(n int, chats []schemas.Chat) {
			for i := range n {
				for _, chat := range chats {
					data := fmt.Appendf(nil, `{"type":"message","id":"m%d","from":"alice","body":{"kind":"text","text":"how are you?"}}`, i)
					if _, err := w.EdgeJS.PublishAsync(w.Layout.Shard(chat).Timeline(chat), data); err != nil {
						b.Fatal(err)
					}
				}
				<-w.EdgeJS.PublishAsyncComplete()
			}
		}
		say(messages, all)
		w.PersistAll()
		ask := func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				begun := time.Now()
				if r := w.done(schemas.TChats, "alice", `"limit":50`); len(r.Chats) != 50 {
					b.Fatalf("%d chats", len(r.Chats))
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		}
		b.Run(fmt.Sprintf("stored/%d", messages), ask)
		say(1, all[:50])
		b.Run(fmt.Sprintf("tails/%d", messages), ask)
		w.expire()
		b.Run(fmt.Sprintf("expired/%d", messages), ask)
	}
}

// BenchmarkJoined asks which of 200 groups a user is in.
func BenchmarkJoined(b *testing.B) {
	w := newWorld(b)
	w.serve(nil)
	for i := range 200 {
		w.create(fmt.Sprintf("g%03d", i), "alice", "bob")
	}
	w.PersistAll()
	for b.Loop() {
		var answer schemas.JoinedAnswer
		if code := w.request(streams.JoinedSubject, `{"user":"bob"}`, &answer); code != "" || len(answer.Groups) != 200 {
			b.Fatalf("%q, %d groups", code, len(answer.Groups))
		}
	}
}

// BenchmarkLargeGroup tells what one of a group of 100,000 is, in memory and read from the store.
func BenchmarkLargeGroup(b *testing.B) {
	w := newWorld(b)
	stop := w.serve(nil)
	chat := w.create("g", "olga")
	for i := range schemas.GroupMembersMax/schemas.UsersMax - 1 {
		names := make([]string, schemas.UsersMax)
		for j := range names {
			names[j] = fmt.Sprintf("u%03d-%03d", i, j)
		}
		w.done(schemas.TAdd, "olga", `"chat":%q,"users":%s`, chat, quoted(names))
	}
	w.PersistAll()
	request := fmt.Sprintf(`{"chat":%q,"users":["u042-042"]}`, chat)
	ask := func(b *testing.B) {
		var answer schemas.StandingAnswer
		if code := w.request(streams.StandingSubject, request, &answer); code != "" || len(answer.Members) != 1 {
			b.Fatalf("%q, %d members", code, len(answer.Members))
		}
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			ask(b)
		}
	})
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			stop()
			stop = w.serve(nil)
			b.StartTimer()
			ask(b)
		}
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		b.ReportMetric(float64(stats.HeapAlloc>>20), "MiB")
	})
}

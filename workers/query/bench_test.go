package query_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"parley/streams"
	"parley/workers/store"
)

// BenchmarkNewestPage has ten readers ask for the newest 50 of a chat of 10,000,
// through NATS and from the store alone.
func BenchmarkNewestPage(b *testing.B) {
	w := newWorld(b, nil)
	w.sayAtOnce(10_000)
	w.PersistAll()
	const readers = 10
	b.Run("service", func(b *testing.B) {
		conns := make([]*nats.Conn, readers)
		for i := range conns {
			conns[i] = w.Connect(b, streams.EdgeComponent)
		}
		request := fmt.Appendf(nil, `{"chat":%q,"limit":50}`, w.chat)
		pages(b, readers, func(reader int) error {
			_, err := conns[reader].Request(streams.HistorySubject, request, 10*time.Second)
			return err
		})
	})
	b.Run("store", func(b *testing.B) {
		pages(b, readers, func(int) error {
			_, _, err := w.Store.Page(b.Context(), w.chat, store.Range{Limit: 50})
			return err
		})
	})
}

// pages has readers read b.N pages between them.
func pages(b *testing.B, readers int, read func(reader int) error) {
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for reader := range readers {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := read(reader); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}

// sayAtOnce puts n messages into the chat without waiting for each.
func (w *world) sayAtOnce(n int) {
	w.T.Helper()
	for i := range n {
		data := fmt.Appendf(nil, `{"type":"message","id":"m%d","from":"alice","body":{"kind":"text","text":"how are you today?"}}`, i)
		if _, err := w.EdgeJS.PublishAsync(w.subject(), data); err != nil {
			w.T.Fatal(err)
		}
	}
	<-w.EdgeJS.PublishAsyncComplete()
	last, ok, err := streams.NewLog(w.JetStream, w.Layout).Last(w.T.Context(), w.chat)
	if err != nil || !ok {
		w.T.Fatalf("last of %s: %v", w.chat, err)
	}
	w.sent = append(w.sent, item{Seq: last})
}

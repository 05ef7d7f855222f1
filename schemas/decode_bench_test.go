package schemas

import "testing"

// typicalSend has the members that clients write with every message.
const typicalSend = `{"t":"send","ref":17,"id":"01JDG7T3Q0V8N5M4K2H6W9XZAB","chat":"direct.alice.bob",` +
	`"type":"message","body":{"kind":"text","text":"shall we meet at the station at half past six?"}}`

// BenchmarkDecodeSend is the edge's first work on every message.
func BenchmarkDecodeSend(b *testing.B) {
	data := []byte(typicalSend)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeFrame(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeEvent is what each reader of the log does per event.
func BenchmarkDecodeEvent(b *testing.B) {
	data := []byte(`{"type":"message","id":"01JDG7T3Q0V8N5M4K2H6W9XZAB","from":"alice",` +
		`"body":{"kind":"text","text":"shall we meet at the station at half past six?"}}`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}

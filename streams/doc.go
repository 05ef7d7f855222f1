// Package streams is Parley's side of NATS: it alone spells subjects, declares
// streams, buckets and consumers, starts the embedded server, publishes to the
// log with back-pressure and reads back from it.
//
// A chat's log is one subject, chat.<shard>.<chat>.timeline, in the stream of
// its shard. Once an event is stored, the stream republishes it on
// live.<chat>.timeline, where edges listen.
package streams

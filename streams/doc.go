// Package streams is Parley's side of NATS: it alone spells subjects, declares
// streams, buckets and consumers, publishes to the log with back-pressure and
// reads back from it. Package natsserver runs the server itself.
//
// A chat's log is one subject, chat.<shard>.<chat>.timeline, in the stream of
// its shard. Once an event is stored, the stream republishes it on
// live.<chat>.timeline, where edges listen.
package streams

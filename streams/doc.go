// Package streams is Parley's side of NATS: it alone spells subjects, declares
// streams, buckets and consumers, publishes to the log with back-pressure and
// reads back from it. Package natsserver runs the server itself.
//
// A chat's log is one subject, chat.<shard>.<chat>.timeline, in the stream of
// its shard. Once an event is stored, the stream republishes it on
// live.<chat>.timeline, where edges listen.
//
// The files are named after their subject, and begin with it:
//
//   - subjects.go spells subjects, and live.go reads live timelines.
//   - layout*.go map chats to shards, load that map from NATS and follow it.
//   - catalogue.go declares streams and consumers, and provision*.go creates them.
//   - connect*.go connect, with components.go and passwords.go for the users.
//   - publish.go writes the log, and log*.go read it.
//   - presence.go reads the bucket presence, and ask.go asks services.
package streams

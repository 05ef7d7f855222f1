// Package bench measures a Parley server over its own protocol. Each workload
// checks what it measures: every send is acknowledged once, every session gets
// every event once and in order, nothing is refused. If not, the workload ends
// with a sentence and the run with an error.
//
// Client and server often share a machine, so the load generator is lean. It
// writes frames that were built beforehand, and counts what comes by walking
// WebSocket frame headers, without decoding JSON and without allocating.
//
// The workloads:
//
//	ceiling   the log alone: asynchronous publishing with nats.go to the streams of
//	          the chats of direct, as many in flight, deduplicated, republished to
//	          one subscriber, persisted
//	direct    pairs of users, with 1 and 16 sends in flight each
//	fanout    one user with 100 and 1,000 sessions, all members of one chat
//	latency   a steady 300 sends/s, next to synchronous publishing at the same rate
//	history   the newest page of a long chat, next to the store alone
//	idle      10,000 connections that say nothing: memory of each
//	storm     all of them reconnect at once, each with a chat to resume
package bench

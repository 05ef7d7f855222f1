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
//	group     groups of 100 and 1,000 members, a session each, next to fanout
//	latency   a steady 300 sends/s, next to synchronous publishing at the same rate
//	receipts  a steady load in 100 busy chats and in 2,000 quiet ones, with every message
//	          delivered and read, next to the same without: CPU of a message
//	history   the newest page of a long chat, next to the store alone
//	idle      10,000 connections that say nothing: memory of each
//	storm     all of them reconnect at once, each with a chat to resume
//
// These start servers of their own:
//
//	replicas  the log alone, as ceiling: one replica on one node next to three on
//	          three nodes, with one stream and with eight
//	restart   a NATS node with 10,000,000 events in 1,000,000 chats: how long it
//	          takes to start after SIGTERM and after SIGKILL, its memory and disk,
//	          the first multi_last; and what follows from it for other sizes
//	persist   how far the permanent store is behind while the edge takes half of
//	          what the log alone would, in 100, 1,000 and 10,000 chats
//	pages     a page of a chat of 1,000,000, next to one of a chat of 1,000, from
//	          the store alone
//	connect   a user in 200 groups connects again and again: hello to welcome, and
//	          the requests to workers
//	chats     a page of a user's 500 chats, half of which the log has forgotten
//	          wholly, with 10 messages in each and with 100
//	create    a group of 1,000 is created while all of them are connected: until the
//	          last one is told
//	presence  10,000 sessions that say nothing: CPU and memory of knowing who is
//	          there; a change until 100 watchers are told; questions about 500 users
package bench

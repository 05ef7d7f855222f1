// Package schemas holds the words that every part of Parley agrees on: names of
// users and chats, the frames between a client and an edge, the events in a
// chat's log, error and close codes, and the bounds of each of them.
//
// A conversation between a client (→) and an edge (←) reads:
//
//	→ {"t":"hello","token":"<JWT>","resume":{"direct.alice.bob":1099511627780}}
//	← {"t":"welcome","user":"alice","session":"01JD…","node":"edge-1","heartbeat":30,…}
//	← {"t":"event","chat":"direct.alice.bob","seq":1099511627781,…}     what was missed
//	← {"t":"resumed","chats":1,"reset":[]}
//	→ {"t":"send","ref":1,"id":"01JE…","chat":"direct.alice.bob","type":"message","body":{"kind":"text","text":"hi"}}
//	← {"t":"ack","ref":1,"id":"01JE…","chat":"direct.alice.bob","seq":1099511627782,"time":"…"}
//	← {"t":"event","chat":"direct.alice.bob","seq":1099511627782,"prev":1099511627781,…}
//
// The package imports nothing else of Parley. What decodes here is valid: a
// [User], [Chat] or [ID] cannot be made from text that would reach a NATS
// subject as a wildcard or as an extra token.
//
// The folder json holds a JSON Schema of every frame, body and event, made from
// the types here.
package schemas

//go:generate go test -run TestJSONSchemas -update .

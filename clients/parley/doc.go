// Package parley is a client of a Parley server: for tests, tools, bots and
// whoever integrates. It speaks the protocol of package schemas over one
// WebSocket and keeps the rules that make a chat complete and in order for its
// caller, whatever happens to the connection.
//
// The rules, as one conversation. A client (→) that holds direct.alice.bob up
// to 41 connects, and an edge (←) tells it what it missed:
//
//	→ {"t":"hello","token":"<JWT>","device":"bot","resume":{"direct.alice.bob":41}}
//	← {"t":"welcome","user":"alice","session":"01JD…","node":"edge-1","heartbeat":30,…}
//	← {"t":"event","chat":"direct.alice.bob","seq":44,"prev":41,…}   prev is not above 41: taken, 44 is held
//	← {"t":"resumed","chats":1,"reset":[]}                            a chat under reset is read by history
//
// An event is taken once and in order:
//
//	← {"t":"event",…,"seq":44,"prev":41,…}      44 is not above what is held: dropped
//	← {"t":"event",…,"seq":50,"prev":47,…}      prev is above 44: something is missing
//	→ {"t":"history","ref":1,"chat":"direct.alice.bob","after":44}
//	← {"t":"page","ref":1,"chat":"direct.alice.bob","events":[45, 47],"more":false}
//	                                            45 and 47 are taken, then 50, whatever the page held
//	← {"t":"event",…,"seq":52,"prev":50,…}      from and id of an event that is held: dropped, 52 is held
//	← {"t":"resync"}                            each held chat is read on by history {after}
//
// A send is in the chat once, however often it has to be said:
//
//	→ {"t":"send","ref":2,"id":"01JE…","chat":"direct.alice.bob","type":"message","body":{…}}
//	  the connection breaks: nobody knows whether the log has it
//	→ {"t":"hello",…,"resume":{"direct.alice.bob":52}}
//	← {"t":"welcome",…}
//	→ {"t":"send","ref":2,"id":"01JE…",…,"retry":true,"after":52}     after: what was held at the first try
//	← {"t":"ack","ref":2,"id":"01JE…","chat":"direct.alice.bob","seq":53,"time":"…"}
//
// A chat that the user comes into is held from there on, and one that it goes out
// of is held no more:
//
//	← {"t":"chat","chat":"group.team","change":"added","seq":60}
//	← {"t":"event","chat":"group.team","seq":60,"prev":55,…}   what was before is not missing
//	← {"t":"chat","chat":"group.team","change":"removed","seq":70}
//	→ {"t":"hello",…,"resume":{"direct.alice.bob":53}}
//
// Events come one by one, as they were said. What edits, deletes, reactions and
// pins have made of a message stands in the items of [Client.History].
//
// How far one has got is told as marks that only rise; each session is told them again,
// since the server makes no promise about one. So are the users who are watched:
//
//	→ {"t":"delivered","chat":"direct.alice.bob","seq":53}   OnEvent was given what is up to 53; at most each 200 ms
//	→ {"t":"read","chat":"direct.alice.bob","seq":53}        says that it was delivered, too
//	→ {"t":"watch","ref":3,"users":["bob"]}
//	← {"t":"presence","ref":3,"users":{"bob":{"status":"online"}}}
//	← {"t":"receipt","chat":"direct.alice.bob","marks":[{"user":"bob","read":53}]}
//	← {"t":"presence","users":{"bob":{"status":"away"}}}
//	  the connection breaks
//	→ {"t":"hello",…}
//	← {"t":"welcome",…}
//	→ {"t":"read","chat":"direct.alice.bob","seq":53}
//	→ {"t":"watch","ref":4,"users":["bob"]}
//
// A close tells when to come back:
//
//	4008 too slow            at once; resuming loses nothing
//	4012 draining            after the delay in its reason
//	4013 full, or a loss     after a delay that doubles, with jitter, up to a bound
//	4001 not authenticated   only with another token than the refused one
//	4002 token expired       with what Options.Token gives then
//	4003, 4004, 1009         never: the connection is over, see [Client.Err]
//
// An error with retryAfter is waited out, and the send said again.
package parley

// Package chats is the micro service chats: it changes groups, tells who is in
// them and how far they have got, and lists a user's chats.
//
// A change of a group is one event in the group's own timeline. The service folds
// the group up to the timeline's end, decides, and publishes on the condition that
// the end is still the same; if not, it folds what came and decides anew. So every
// such event in the log is valid, readers only apply, and any number of these
// services may run. It reads down this package: [Service.create] and its like,
// change, groups.fold, the rules, publish, tell.
package chats

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
	"parley/workers/service"
	"parley/workers/worker"
)

// Service answers requests about chats.
type Service struct {
	*service.Service
	cfg       Config
	log       *slog.Logger
	groups    *groups
	conflicts prometheus.Counter
}

// New returns a Service; its Run starts it.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Service{cfg: cfg, log: cfg.Logger.With("component", streams.ChatsService)}
	s.conflicts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_chats_conflicts_total", Help: "Changes of groups that were tried again since something else came first.",
	})
	err := worker.Register(cfg.Registerer, "chats", s.conflicts)
	if err != nil {
		return nil, err
	}
	if s.groups, err = newGroups(cfg); err != nil {
		return nil, err
	}
	ask := func(t schemas.Type, description string, answer func(context.Context, []byte) (any, *schemas.Error)) service.Endpoint {
		return service.Endpoint{Name: string(t), Subject: streams.AskSubject(t), Description: description, Answer: answer}
	}
	s.Service, err = service.New(service.Config{
		Name: streams.ChatsService, Description: "groups, their members, and users' lists of chats",
		Conn: cfg.Conn, Runtime: cfg.Runtime,
		Endpoints: []service.Endpoint{
			ask(schemas.TCreate, "make a group", s.create),
			ask(schemas.TAdd, "add members to a group", s.add),
			ask(schemas.TRemove, "remove members from a group", s.remove),
			ask(schemas.TLeave, "leave a group", s.leave),
			ask(schemas.TRole, "give a member another role", s.setRole),
			ask(schemas.TRename, "rename a group", s.rename),
			ask(schemas.TMembers, "who is in a chat", s.members),
			ask(schemas.TReceipts, "how far the members of a chat have got", s.receipts),
			ask(schemas.TChats, "a user's chats, by latest activity", s.chats),
			ask(schemas.TMute, "mute a chat, or not any more", s.mute),
			ask(schemas.TPin, "pin a chat, or not any more", s.pin),
			ask(schemas.TArchive, "archive a chat, or not any more", s.archive),
			{Name: "joined", Subject: streams.JoinedSubject, Description: "the groups that a user is in, for edges", Answer: s.joined},
			{Name: "standing", Subject: streams.StandingSubject, Description: "what users are in a group, for edges", Answer: s.standing},
		},
	})
	return s, err
}

// changed answers a change: the group is as asked for by the event at Seq.
type changed struct {
	Chat schemas.Chat `json:"chat"`
	Seq  uint64       `json:"seq"`
}

// done answers what has nothing else to say.
type done struct{}

// unavailable makes a refusal of what went wrong below the service, and logs it:
// that is never the asker's fault.
func (s *Service) unavailable(what string, err error) *schemas.Error {
	var refused *schemas.Error
	if errors.As(err, &refused) {
		return refused
	}
	s.log.Warn(what, "err", err)
	return &schemas.Error{Code: schemas.Unavailable, Message: "the store or the log does not answer: try again", RetryAfter: 1}
}

// tell sends a user's sessions word of a chat.
func (s *Service) tell(user schemas.User, notice schemas.Notice) {
	if err := worker.Notify(s.cfg.Conn, user, notice); err != nil {
		s.log.Warn("a user was not told of a chat", "user", user, "chat", notice.Chat, "err", err)
	}
}

func notMember(user schemas.User, chat schemas.Chat) *schemas.Error {
	return schemas.Errorf(schemas.NotMember, "%s is not a member of %s", user, chat)
}

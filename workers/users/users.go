// Package users is the micro service users: what users tell of themselves, what
// they let others see, and with whom they do not talk.
package users

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/service"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is where users are kept. Its methods may be called from several
// goroutines. What was written is seen by every later read.
type Store interface {
	// Profiles returns what is known of those of users of whom anything is; it may be
	// an empty profile.
	Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error)
	// SetProfile changes what set names; of two, the later at wins.
	SetProfile(ctx context.Context, user schemas.User, set schemas.SetProfile, at time.Time) error
	// SetStatus changes what a user chooses to be shown as; of two, the later at wins.
	SetStatus(ctx context.Context, user schemas.User, status schemas.Status, at time.Time) error
	// Blocks returns whom a user blocks and who blocks it, once each.
	Blocks(ctx context.Context, user schemas.User) ([]schemas.User, error)
	// SetBlock has user block another or not; of two, the later at wins.
	SetBlock(ctx context.Context, user, blocked schemas.User, on bool, at time.Time) error
}

// Config is what a [Service] needs. Zero means the default.
type Config struct {
	Conn  *nats.Conn // required
	Store Store      // required

	worker.Runtime
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	faults := worker.FaultsOf("users")
	faults.If(c.Conn == nil, "no connection")
	faults.If(c.Store == nil, "no store")
	return faults.Err()
}

// Service answers requests about users.
type Service struct {
	*service.Service
	cfg Config
	log *slog.Logger
}

// New returns a Service; its Run starts it.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Runtime = worker.Defaults(cfg.Runtime)
	s := &Service{cfg: cfg, log: cfg.Logger.With("component", streams.UsersService)}
	var err error
	s.Service, err = service.New(service.Config{
		Name: streams.UsersService, Description: "profiles, what users let others see, and blocks",
		Conn: cfg.Conn, Runtime: cfg.Runtime,
		Endpoints: []service.Endpoint{
			{Name: "profile", Subject: streams.AskSubject(schemas.TProfile), Description: "what users tell of themselves", Answer: s.profiles},
			{Name: "profile-set", Subject: streams.AskSubject(schemas.TSetProfile), Description: "change the own profile", Answer: s.setProfile},
			{Name: "status", Subject: streams.AskSubject(schemas.TStatus), Description: "choose what to be shown as", Answer: s.setStatus},
			{Name: "block", Subject: streams.AskSubject(schemas.TBlock), Description: "keep a user away, or not any more", Answer: s.block},
			{Name: "privacy", Subject: streams.PrivacySubject, Description: "with whom a user does not talk, and what it lets others see", Answer: s.privacy},
		},
	})
	return s, err
}

func (s *Service) unavailable(what string, err error) *schemas.Error {
	s.log.Warn(what, "err", err)
	return &schemas.Error{Code: schemas.Unavailable, Message: "the store does not answer: try again", RetryAfter: 1}
}

// profiles answers what users tell of themselves; what a user has chosen for itself
// it alone is told.
func (s *Service) profiles(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.Profiles](schemas.TProfile, request)
	if refused != nil {
		return nil, refused
	}
	known, err := s.cfg.Store.Profiles(ctx, ask.Users)
	if err != nil {
		return nil, s.unavailable("read profiles", err)
	}
	answer := struct {
		Profiles []schemas.Profile `json:"profiles"`
	}{make([]schemas.Profile, len(ask.Users))}
	for i, user := range ask.Users {
		p := known[user]
		shown := schemas.Profile{User: user, Name: p.Name, Avatar: p.Avatar, Lang: p.Lang}
		if user == by {
			told := !p.HidesReads
			shown.ReadReceipts, shown.Status = &told, cmp.Or(p.Status, schemas.Online)
		}
		answer.Profiles[i] = shown
	}
	return answer, nil
}

// done answers what has nothing else to say.
type done struct{}

func (s *Service) setProfile(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, set, refused := schemas.DecodeBy[schemas.SetProfile](schemas.TSetProfile, request)
	if refused != nil {
		return nil, refused
	}
	if err := s.cfg.Store.SetProfile(ctx, by, *set, s.cfg.Now()); err != nil {
		return nil, s.unavailable("write profile", err)
	}
	if set.ReadReceipts != nil {
		s.tellPrivacy(by)
	}
	return done{}, nil
}

func (s *Service) setStatus(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, set, refused := schemas.DecodeBy[schemas.SetStatus](schemas.TStatus, request)
	if refused != nil {
		return nil, refused
	}
	if err := s.cfg.Store.SetStatus(ctx, by, set.Status, s.cfg.Now()); err != nil {
		return nil, s.unavailable("write status", err)
	}
	s.tellPrivacy(by)
	return done{}, nil
}

// tellPrivacy has the edges that a user is on ask anew what it lets others see. One
// that the notice is lost for asks when the user connects the next time.
func (s *Service) tellPrivacy(user schemas.User) {
	frame := schemas.ChatFrame{T: schemas.TChat, Chat: schemas.DirectChat(user, user), Change: schemas.ChatPrivacy}
	s.tell(user, schemas.Notice{ChatFrame: frame, Hidden: true})
}

// block is in force on an edge when that has the notice, and where it is lost when
// one of the two connects the next time.
func (s *Service) block(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, block, refused := schemas.DecodeBy[schemas.Block](schemas.TBlock, request)
	switch {
	case refused != nil:
		return nil, refused
	case block.User == by:
		return nil, schemas.Errorf(schemas.Invalid, "one cannot block oneself")
	}
	if block.On {
		if refused := s.checkRoom(ctx, by, block.User); refused != nil {
			return nil, refused
		}
	}
	if err := s.cfg.Store.SetBlock(ctx, by, block.User, block.On, s.cfg.Now()); err != nil {
		return nil, s.unavailable("write block", err)
	}
	frame := schemas.ChatFrame{T: schemas.TChat, Chat: schemas.DirectChat(by, block.User), Change: schemas.ChatUnblocked}
	if block.On {
		frame.Change = schemas.ChatBlocked
	}
	s.tell(by, schemas.Notice{ChatFrame: frame})
	if !block.On { // the other may block too: read behind the notice, so that the last word is true
		others, err := s.cfg.Store.Blocks(ctx, by)
		if err != nil {
			return nil, s.unavailable("read blocks", err)
		}
		if slices.Contains(others, block.User) {
			frame.Change = schemas.ChatBlocked
		}
	}
	for _, user := range []schemas.User{by, block.User} {
		s.tell(user, schemas.Notice{ChatFrame: frame, Hidden: true})
	}
	return done{}, nil
}

// checkRoom refuses a block that would not be read any more: a store returns only so many.
func (s *Service) checkRoom(ctx context.Context, by, other schemas.User) *schemas.Error {
	others, err := s.cfg.Store.Blocks(ctx, by)
	switch {
	case err != nil:
		return s.unavailable("read blocks", err)
	case len(others) >= store.BlocksMax && !slices.Contains(others, other):
		return schemas.Errorf(schemas.Invalid, "%s does not talk with %d users already: at most %d are allowed", by, len(others), store.BlocksMax)
	}
	return nil
}

func (s *Service) tell(user schemas.User, notice schemas.Notice) {
	if err := worker.Notify(s.cfg.Conn, user, notice); err != nil {
		s.log.Warn("a user was not told of a change", "user", user, "change", notice.Change, "err", err)
	}
}

// privacy answers with whom a user does not talk, and what it lets others see. A
// user of whom nothing is known lets them see all.
func (s *Service) privacy(ctx context.Context, request []byte) (any, *schemas.Error) {
	var ask schemas.Privacy
	if err := json.Unmarshal(request, &ask); err != nil || ask.User.IsZero() {
		return nil, schemas.Errorf(schemas.Invalid, "the request is not {user}")
	}
	var others []schemas.User
	var known map[schemas.User]store.Profile
	reads, ctx := errgroup.WithContext(ctx)
	reads.Go(func() (err error) {
		others, err = s.cfg.Store.Blocks(ctx, ask.User)
		return err
	})
	reads.Go(func() (err error) {
		known, err = s.cfg.Store.Profiles(ctx, []schemas.User{ask.User})
		return err
	})
	if err := reads.Wait(); err != nil {
		return nil, s.unavailable("read what a user lets others see", err)
	}
	own := known[ask.User]
	return schemas.PrivacyAnswer{Blocks: append([]schemas.User{}, others...), HidesReads: own.HidesReads, Status: own.Status}, nil
}

package chats

import (
	"context"
	"errors"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

func (s *Service) mute(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.Mute](schemas.TMute, request)
	if refused != nil {
		return nil, refused
	}
	setting := store.Setting{Chat: ask.Chat}
	frame := schemas.ChatFrame{Chat: ask.Chat, Change: schemas.ChatUnmuted}
	if ask.On {
		if !ask.Until.IsZero() && !ask.Until.After(s.cfg.Now()) {
			return nil, schemas.Errorf(schemas.Invalid, "until %s is over", ask.Until.UTC().Format(time.RFC3339))
		}
		setting.Muted, setting.MutedUntil = true, ask.Until
		frame.Change, frame.Until = schemas.ChatMuted, ask.Until
	}
	return s.set(ctx, by, setting, store.MutedSetting, frame)
}

func (s *Service) pin(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.SetChat](schemas.TPin, request)
	if refused != nil {
		return nil, refused
	}
	frame := schemas.ChatFrame{Chat: ask.Chat, Change: either(ask.On, schemas.ChatPinned, schemas.ChatUnpinned)}
	return s.set(ctx, by, store.Setting{Chat: ask.Chat, Pinned: ask.On}, store.PinnedSetting, frame)
}

func (s *Service) archive(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.SetChat](schemas.TArchive, request)
	if refused != nil {
		return nil, refused
	}
	frame := schemas.ChatFrame{Chat: ask.Chat, Change: either(ask.On, schemas.ChatArchived, schemas.ChatUnarchived)}
	return s.set(ctx, by, store.Setting{Chat: ask.Chat, Archived: ask.On}, store.ArchivedSetting, frame)
}

func either(on bool, yes, no schemas.ChatChange) schemas.ChatChange {
	if on {
		return yes
	}
	return no
}

// set keeps what a member wants of a chat, and tells its sessions.
func (s *Service) set(ctx context.Context, by schemas.User, setting store.Setting, kind store.SettingKind, frame schemas.ChatFrame) (any, *schemas.Error) {
	if refused := s.checkMember(ctx, by, setting.Chat); refused != nil {
		return nil, refused
	}
	switch err := s.cfg.Store.Set(ctx, by, setting, kind, s.cfg.Now()); {
	case errors.Is(err, store.ErrBatch):
		return nil, schemas.Errorf(schemas.Invalid, "until %s cannot be kept: it is before the year 2262", setting.MutedUntil.UTC().Format(time.RFC3339))
	case err != nil:
		return nil, s.unavailable("write setting", err)
	}
	frame.T = schemas.TChat
	s.tell(by, schemas.Notice{ChatFrame: frame})
	return done{}, nil
}

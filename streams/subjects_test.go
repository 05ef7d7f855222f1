package streams_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
)

// text is what a client could send as a name: mostly nearly valid, so that
// enough passes the parsers, and with the bytes that mean something to NATS.
func text() *rapid.Generator[string] {
	token := rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	hostile := rapid.StringOf(rapid.SampledFrom([]rune("ab.*> \t\r\n\x00$_-é")))
	return rapid.OneOf(
		token,
		hostile,
		rapid.Custom(func(t *rapid.T) string { return token.Draw(t, "before") + hostile.Draw(t, "after") }),
		rapid.Custom(func(t *rapid.T) string { return "group." + token.Draw(t, "id") }),
		rapid.Custom(func(t *rapid.T) string { return "direct." + token.Draw(t, "a") + "." + token.Draw(t, "b") }),
		rapid.Custom(func(t *rapid.T) string { return "group." + hostile.Draw(t, "id") }),
		rapid.Custom(func(t *rapid.T) string { return "direct." + hostile.Draw(t, "users") }),
		rapid.String(),
	)
}

// The draws repeat until the parser takes the text: what it refuses reaches no constructor.
func drawUser(t *rapid.T, label string) schemas.User {
	return rapid.Custom(func(t *rapid.T) schemas.User {
		user, err := schemas.ParseUser(text().Draw(t, "text"))
		if err != nil {
			t.SkipNow()
		}
		return user
	}).Draw(t, label)
}

func drawID(t *rapid.T, label string) schemas.ID {
	return rapid.Custom(func(t *rapid.T) schemas.ID {
		id, err := schemas.ParseID(text().Draw(t, "text"))
		if err != nil {
			t.SkipNow()
		}
		return id
	}).Draw(t, label)
}

func drawChat(t *rapid.T, label string) schemas.Chat {
	return rapid.Custom(func(t *rapid.T) schemas.Chat {
		chat, err := schemas.ParseChat(text().Draw(t, "text"))
		if err != nil {
			t.SkipNow()
		}
		return chat
	}).Draw(t, label)
}

func drawLayout(t *rapid.T) streams.Layout {
	layout := streams.NewLayout(rapid.IntRange(1, streams.ShardsMax).Draw(t, "shards"))
	for i := range layout.Shards() {
		layout = layout.Remade(i, rapid.IntRange(1, 1000).Draw(t, "generation"))
	}
	return layout
}

// tokensOf is the number of tokens that chat has in a subject.
func tokensOf(chat schemas.Chat) int {
	if chat.Kind() == schemas.Direct {
		return 3
	}
	return 2
}

var plainToken = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// wantPlain wants exactly tokens tokens, none of them empty or a wildcard.
func wantPlain(t *rapid.T, subject string, tokens int) {
	t.Helper()
	parts := strings.Split(subject, ".")
	if len(parts) != tokens {
		t.Errorf("subject %q has %d tokens, want %d", subject, len(parts), tokens)
	}
	for _, part := range parts {
		if !plainToken.MatchString(part) {
			t.Errorf("subject %q has token %q", subject, part)
		}
	}
}

func TestNoConstructorBuildsAWildcardOrAnExtraToken(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		chat, user, id := drawChat(t, "chat"), drawUser(t, "user"), drawID(t, "id")
		shard := drawLayout(t).Shard(chat)
		n := tokensOf(chat)
		wantPlain(t, shard.Timeline(chat), 2+n+1)
		wantPlain(t, shard.Stream(), 1)
		wantPlain(t, streams.LiveTimeline(chat), 1+n+1)
		wantPlain(t, streams.LiveTyping(chat, user), 1+n+2)
		wantPlain(t, streams.Dead(streams.PersistConsumer, shard.Timeline(chat)), 2+2+n+1)
		wantPlain(t, shard.Mark(chat, streams.MarkDelivered, user), 2+n+2)
		wantPlain(t, streams.PrivateRead(user, chat), 3+n)
		wantPlain(t, streams.PresenceKey(user, id), 2)
		wantPlain(t, streams.PresenceOf(user), 2)
		wantPlain(t, streams.NodeService(id), 1)
		wantPlain(t, streams.NodeSubject(id, "drain"), 3)
	})
}

func TestPatternsOfAUserBringItsDirectChatsOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		user, chat := drawUser(t, "user"), drawChat(t, "chat")
		if rapid.Bool().Draw(t, "member") {
			chat = schemas.DirectChat(user, drawUser(t, "partner"))
		}
		patterns := streams.LiveOfUser(user)
		for _, pattern := range patterns {
			if !strings.HasPrefix(pattern, "live.direct.") || strings.Count(pattern, ">") != 1 || strings.Count(pattern, "*") > 1 {
				t.Errorf("%s listens on %q", user, pattern)
			}
		}
		for _, subject := range []string{streams.LiveTimeline(chat), streams.LiveTyping(chat, user)} {
			got := matches(patterns[0], subject) || matches(patterns[1], subject)
			if want := chat.HasDirectMember(user); got != want {
				t.Errorf("patterns of %s match %q: %v, want %v", user, subject, got, want)
			}
		}
	})
}

func TestStreamPatternsBringTheTimelinesOfTheirShardOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		layout, chat := drawLayout(t), drawChat(t, "chat")
		subject := layout.Shard(chat).Timeline(chat)
		for _, shard := range layout.All() {
			patterns := shard.TimelinePatterns()
			got := matches(patterns[0], subject) || matches(patterns[1], subject)
			if want := shard == layout.Shard(chat); got != want {
				t.Errorf("stream %s takes %q: %v, want %v", shard.Stream(), subject, got, want)
			}
		}
	})
}

func TestSubjectsAreReadBackAsTheyWereBuilt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		chat, user := drawChat(t, "chat"), drawUser(t, "user")
		shard := drawLayout(t).Shard(chat)
		if got, ok := streams.TimelineChat(shard.Timeline(chat)); !ok || got != chat {
			t.Errorf("read %v, %v from the timeline of %s", got, ok, chat)
		}
		if got, kind, from, ok := streams.ParseLive(streams.LiveTimeline(chat)); !ok || got != chat || kind != streams.LiveIsTimeline || !from.IsZero() {
			t.Errorf("read %v, %v, %v, %v from the live timeline of %s", got, kind, from, ok, chat)
		}
		if got, kind, from, ok := streams.ParseLive(streams.LiveTyping(chat, user)); !ok || got != chat || kind != streams.LiveIsTyping || from != user {
			t.Errorf("read %v, %v, %v, %v from %s typing in %s", got, kind, from, ok, user, chat)
		}
		for _, kind := range []streams.MarkKind{streams.MarkRead, streams.MarkDelivered} {
			subject := shard.Mark(chat, kind, user)
			if got, of, by, told, ok := streams.ParseMark(subject); !ok || got != chat || of != kind || by != user || !told {
				t.Errorf("read %v, %v, %v, %v, %v from %q", got, of, by, told, ok, subject)
			}
			live := strings.Replace(subject, "chat."+shard.Token, "live", 1)
			if got, of, by, ok := streams.ParseLive(live); !ok || got != chat || of != streams.LiveKind(kind) || by != user {
				t.Errorf("read %v, %v, %v, %v from %q", got, of, by, ok, live)
			}
		}
		private := streams.PrivateRead(user, chat)
		if got, kind, by, told, ok := streams.ParseMark(private); !ok || got != chat || kind != streams.MarkRead || by != user || told {
			t.Errorf("read %v, %v, %v, %v, %v from %q", got, kind, by, told, ok, private)
		}
		session := drawID(t, "session")
		if by, of, ok := streams.ParseSessionSubject(streams.SessionSubject(user, session)); !ok || by != user || of != session {
			t.Errorf("read %v, %v, %v from the key of %s", by, of, ok, user)
		}
	})
}

// Whatever subject comes, what is read from it builds that subject again.
func TestReadingASubjectInventsNothing(t *testing.T) {
	t.Parallel()
	parts := rapid.SampledFrom([]string{"live", "chat", "direct", "group", "a", "b", "timeline", "typing", "read", "delivered", "user", "0", "", "*", ">"})
	rapid.Check(t, func(t *rapid.T) {
		subject := strings.Join(rapid.SliceOfN(parts, 1, 8).Draw(t, "tokens"), ".")
		if chat, kind, user, ok := streams.ParseLive(subject); ok {
			built := streams.LiveTimeline(chat)
			if kind != streams.LiveIsTimeline {
				built = "live." + chat.String() + "." + string(kind) + "." + user.String()
			}
			if built != subject {
				t.Errorf("%q was read as %q", subject, built)
			}
		}
		if chat, kind, user, told, ok := streams.ParseMark(subject); ok {
			built := streams.PrivateRead(user, chat)
			if told {
				built = streams.Shard{Token: strings.Split(subject, ".")[1]}.Mark(chat, kind, user)
			}
			if built != subject {
				t.Errorf("%q was read as %q", subject, built)
			}
		}
		if chat, ok := streams.TimelineChat(subject); ok {
			token := strings.Split(subject, ".")[1]
			if built := (streams.Shard{Token: token}).Timeline(chat); built != subject {
				t.Errorf("%q was read as %q", subject, built)
			}
		}
	})
}

// matches tells whether a subscription on pattern gets subject.
func matches(pattern, subject string) bool {
	tokens := strings.Split(subject, ".")
	for i, p := range strings.Split(pattern, ".") {
		switch {
		case p == ">":
			return i < len(tokens)
		case i >= len(tokens), p != "*" && p != tokens[i]:
			return false
		case i == strings.Count(pattern, "."):
			return i == len(tokens)-1
		}
	}
	return false
}

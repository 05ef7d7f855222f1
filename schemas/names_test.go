package schemas

import (
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

var (
	tokenRegexp = regexp.MustCompile(userPattern)
	chatRegexp  = regexp.MustCompile(chatPattern)
)

// anyName draws names that are valid, nearly so, and not at all.
func anyName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(tokenPattern),
		rapid.StringMatching(`[A-Za-z0-9_.*> -]{0,70}`),
		rapid.StringMatching(`(direct|group|Direct|)\.[ab_.*>-]{0,5}(\.[ab*>]{0,3}){0,2}`),
		rapid.String(),
	)
}

func TestParseUserAndID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := anyName().Draw(t, "name")
		user, userErr := ParseUser(name)
		id, idErr := ParseID(name)
		if valid := tokenRegexp.MatchString(name); valid != (userErr == nil) || valid != (idErr == nil) {
			t.Fatalf("%q: user %v, id %v", name, userErr, idErr)
		}
		if userErr != nil {
			if !user.IsZero() || !id.IsZero() {
				t.Fatalf("%q: refused, and yet %v and %v", name, user, id)
			}
			return
		}
		if user.String() != name || id.String() != name || strings.ContainsAny(name, ".*> \t\r\n") {
			t.Fatalf("%q became %q and %q", name, user, id)
		}
		roundTrip(t, user)
		roundTrip(t, id)
	})
}

func TestParseChat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := anyName().Draw(t, "name")
		chat, err := ParseChat(name)
		if err != nil {
			a, b, direct := strings.Cut(strings.TrimPrefix(name, "direct."), ".")
			if chatRegexp.MatchString(name) && !(direct && b < a) {
				t.Fatalf("%q: %v", name, err)
			}
			if !chat.IsZero() {
				t.Fatalf("%q: refused, and yet %v", name, chat)
			}
			return
		}
		if chat.String() != name || !chatRegexp.MatchString(name) || strings.ContainsAny(name, "*> \t\r\n") {
			t.Fatalf("%q became %q", name, chat)
		}
		dots := map[ChatKind]int{Direct: 2, Group: 1}
		if strings.Count(name, ".") != dots[chat.Kind()] {
			t.Fatalf("%q is of kind %q", name, chat.Kind())
		}
		roundTrip(t, chat)
	})
}

func TestDirectChat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.OneOf(rapid.StringMatching(tokenPattern), rapid.StringMatching(`[aA_-]{1,2}`))
		a, _ := ParseUser(token.Draw(t, "a"))
		b, _ := ParseUser(token.Draw(t, "b"))
		c, _ := ParseUser(token.Draw(t, "c"))
		chat := DirectChat(a, b)
		if chat != DirectChat(b, a) {
			t.Fatalf("%s differs from %s", chat, DirectChat(b, a))
		}
		x, y, ok := chat.Users()
		if !ok || chat.Kind() != Direct || y.String() < x.String() || DirectChat(x, y) != chat {
			t.Fatalf("%s is of %s and %s", chat, x, y)
		}
		if !chat.HasDirectMember(a) || !chat.HasDirectMember(b) || chat.HasDirectMember(c) != (c == a || c == b) {
			t.Fatalf("%s has the wrong members", chat)
		}
		if parsed, err := ParseChat(chat.String()); err != nil || parsed != chat {
			t.Fatalf("%s parses as %s: %v", chat, parsed, err)
		}
		if swapped := "direct." + y.String() + "." + x.String(); x != y {
			if _, err := ParseChat(swapped); err == nil {
				t.Fatalf("%s is accepted", swapped)
			}
		}
	})
}

func TestGroupHasNoDirectMember(t *testing.T) {
	t.Parallel()
	group := mustChat(t, "group.alice")
	alice, err := ParseUser("alice")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := group.Users(); ok || group.HasDirectMember(alice) || group.Kind() != Group {
		t.Errorf("%s passes for a direct chat", group)
	}
	if (Chat{}).HasDirectMember(User{}) {
		t.Error("the zero chat has a member")
	}
}

func roundTrip[T comparable](t *rapid.T, value T) {
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(data, &back); err != nil || back != value {
		t.Fatalf("%v became %s and then %v: %v", value, data, back, err)
	}
}

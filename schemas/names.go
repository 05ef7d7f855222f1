package schemas

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// User names a person or a bot: 1 to 64 of A-Z a-z 0-9 _ and -.
// The zero User is invalid; only [ParseUser] makes another.
type User struct{ name string }

// ParseUser returns the user named s, or an error that says what is wrong with s.
func ParseUser(s string) (User, error) {
	if err := checkToken("user", s); err != nil {
		return User{}, err
	}
	return User{s}, nil
}

func (u User) String() string               { return u.name }
func (u User) IsZero() bool                 { return u.name == "" }
func (u User) MarshalText() ([]byte, error) { return []byte(u.name), nil }

// UnmarshalText parses as [ParseUser] does.
func (u *User) UnmarshalText(text []byte) (err error) {
	*u, err = ParseUser(string(text))
	return err
}

// ID names what a client or a node names itself: a message, a device, a session, a node.
// Its form is that of a [User].
type ID struct{ name string }

// ParseID returns the id s, or an error that says what is wrong with s.
func ParseID(s string) (ID, error) {
	if err := checkToken("id", s); err != nil {
		return ID{}, err
	}
	return ID{s}, nil
}

func (id ID) String() string               { return id.name }
func (id ID) IsZero() bool                 { return id.name == "" }
func (id ID) MarshalText() ([]byte, error) { return []byte(id.name), nil }

// UnmarshalText parses as [ParseID] does.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// Chat names a conversation: direct.<a>.<b> with a ≤ b in byte order, or
// group.<id>. Its text is exactly the tokens it has in subjects.
// The zero Chat is invalid; only [ParseChat] and [DirectChat] make another.
type Chat struct{ name string }

// ChatKind is the first token of a chat's name.
type ChatKind string

const (
	Direct ChatKind = "direct"
	Group  ChatKind = "group"
)

// DirectChat returns the chat of a and b; the order does not matter, and a may
// be b: notes to oneself.
func DirectChat(a, b User) Chat {
	if b.name < a.name {
		a, b = b, a
	}
	return Chat{string(Direct) + "." + a.name + "." + b.name}
}

// ParseChat returns the chat named s, or an error that says what is wrong with s.
func ParseChat(s string) (Chat, error) {
	kind, rest, _ := strings.Cut(s, ".")
	switch ChatKind(kind) {
	case Direct:
		a, b, ok := strings.Cut(rest, ".")
		if !ok {
			return Chat{}, fmt.Errorf("chat %q: a direct chat is direct.<a>.<b>", clip(s))
		}
		for _, user := range []string{a, b} {
			if err := checkToken("user", user); err != nil {
				return Chat{}, fmt.Errorf("chat %q: %w", clip(s), err)
			}
		}
		if b < a {
			return Chat{}, fmt.Errorf("chat %q: its users are in the wrong order: write direct.%s.%s", clip(s), b, a)
		}
	case Group:
		if err := checkToken("id", rest); err != nil {
			return Chat{}, fmt.Errorf("chat %q: %w", clip(s), err)
		}
	default:
		return Chat{}, fmt.Errorf("chat %q: a chat is direct.<a>.<b> or group.<id>", clip(s))
	}
	return Chat{s}, nil
}

func (c Chat) String() string               { return c.name }
func (c Chat) IsZero() bool                 { return c.name == "" }
func (c Chat) MarshalText() ([]byte, error) { return []byte(c.name), nil }

// UnmarshalText parses as [ParseChat] does.
func (c *Chat) UnmarshalText(text []byte) (err error) {
	*c, err = ParseChat(string(text))
	return err
}

// Kind returns [Direct] or [Group].
func (c Chat) Kind() ChatKind {
	kind, _, _ := strings.Cut(c.name, ".")
	return ChatKind(kind)
}

// Users returns the two users of a direct chat; ok is false for a group.
func (c Chat) Users() (a, b User, ok bool) {
	rest, ok := strings.CutPrefix(c.name, string(Direct)+".")
	if !ok {
		return User{}, User{}, false
	}
	x, y, _ := strings.Cut(rest, ".")
	return User{x}, User{y}, true
}

// HasDirectMember tells whether c is a direct chat of user.
func (c Chat) HasDirectMember(user User) bool {
	a, b, ok := c.Users()
	return ok && (a == user || b == user)
}

func checkToken(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s is empty: it has 1 to %d of A-Z a-z 0-9 _ -", what, TokenBytesMax)
	}
	if len(s) > TokenBytesMax {
		return fmt.Errorf("%s %q has %d bytes: at most %d are allowed", what, cut(s, 20), len(s), TokenBytesMax)
	}
	for i := range len(s) {
		if !tokenByte(s[i]) {
			r, _ := utf8.DecodeRuneInString(s[i:])
			return fmt.Errorf("%s %q has a %q: only A-Z a-z 0-9 _ - are allowed", what, s, r)
		}
	}
	return nil
}

func tokenByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '_' || b == '-'
}

// clip keeps what a sentence quotes short; every valid chat fits.
func clip(s string) string { return cut(s, 160) }

// cut returns at most bytesMax bytes of s, at a rune's end, and tells by … that there was more.
func cut(s string, bytesMax int) string {
	if len(s) <= bytesMax {
		return s
	}
	end := bytesMax - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

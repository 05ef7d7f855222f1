package schemas

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// protocolExample is a fenced block of docs/protocol.md; a comment there tells how they are marked.
type protocolExample struct {
	line int
	side string // client, server, close or http
	name string // of the session; "" where the frame is shown for its form alone; a user, or the status of an HTTP answer
	text string
	head struct {
		T    Type    `json:"t"`
		Ref  *uint64 `json:"ref"`
		Code Code    `json:"code"`
		Text string  `json:"message"`
	}
}

func readProtocol(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func protocolExamples(t *testing.T) []protocolExample {
	t.Helper()
	doc := readProtocol(t)
	var examples []protocolExample
	fence := regexp.MustCompile("(?ms)^```(?:json )?(client|server|close|http)(?: ([a-z0-9]+))?\n(.*?)\n```$")
	for _, at := range fence.FindAllStringSubmatchIndex(doc, -1) {
		ex := protocolExample{
			line: 1 + strings.Count(doc[:at[0]], "\n"),
			side: doc[at[2]:at[3]],
			text: doc[at[6]:at[7]],
		}
		if at[4] >= 0 {
			ex.name = doc[at[4]:at[5]]
		}
		if ex.side == "client" || ex.side == "server" {
			if err := json.Unmarshal([]byte(ex.text), &ex.head); err != nil {
				t.Fatalf("line %d: %v", ex.line, err)
			}
			if !strings.HasPrefix(ex.text, `{"t":"`) || strings.Contains(ex.text, "\n") {
				t.Errorf("line %d: a frame is one line that begins with t", ex.line)
			}
		}
		examples = append(examples, ex)
	}
	if fences := strings.Count(doc, "\n```"); fences != 2*len(examples) {
		t.Fatalf("%d fences make %d blocks that are understood", fences, len(examples))
	}
	return examples
}

func TestProtocolExamples(t *testing.T) {
	t.Parallel()
	examples := protocolExamples(t)
	shown := map[string]bool{}
	for i, ex := range examples {
		switch ex.side {
		case "client":
			shown["client-"+string(ex.head.T)] = true
			checkClientExample(t, ex, examples[i+1:])
		case "server":
			shown["server-"+string(ex.head.T)] = true
			if err := checkAgainst("server-"+string(ex.head.T), []byte(ex.text)); err != nil {
				t.Errorf("line %d: %v", ex.line, err)
			}
		case "close":
			if !slices.Contains(closeCodes, ex.text) {
				t.Errorf("line %d: %q is no close code", ex.line, ex.text)
			}
		}
	}
	for name := range schemaTypes() {
		if (strings.HasPrefix(name, "client-") || strings.HasPrefix(name, "server-")) && !shown[name] {
			t.Errorf("no example shows %s", name)
		}
	}
}

// checkClientExample decodes a client's frame. A refusal is what the document answers it with.
func checkClientExample(t *testing.T, ex protocolExample, later []protocolExample) {
	t.Helper()
	answers := 0
	var first *protocolExample
	for i := range later {
		if later[i].side != "server" || later[i].name != ex.name {
			continue
		}
		if first == nil {
			first = &later[i]
		}
		if ex.head.Ref != nil && later[i].head.Ref != nil && *later[i].head.Ref == *ex.head.Ref {
			answers++
		}
	}
	if ex.head.Ref != nil && answers != 1 {
		t.Errorf("line %d: ref %d has %d answers", ex.line, *ex.head.Ref, answers)
	}
	_, err := DecodeFrame([]byte(ex.text))
	if err == nil {
		if err := checkAgainst("client-"+string(ex.head.T), []byte(ex.text)); err != nil {
			t.Errorf("line %d: %v", ex.line, err)
		}
		return
	}
	if first == nil || first.head.Code != err.Code || first.head.Text != err.Message {
		t.Errorf("line %d: refused with %s %q, which is not what follows", ex.line, err.Code, err.Message)
	}
}

var closeCodes = []string{"1000", "1009", "4001", "4002", "4003", "4004", "4005", "4008", "4012", "4013"}

// TestProtocolTellsCodesAndBounds keeps the document's numbers those of the code.
func TestProtocolTellsCodesAndBounds(t *testing.T) {
	t.Parallel()
	doc := readProtocol(t)
	for _, code := range Codes() {
		if !strings.Contains(doc, "\n| `"+string(code)+"` |") {
			t.Errorf("error code %s has no row", code)
		}
	}
	for _, code := range []CloseCode{CloseNormal, CloseTooLarge, CloseUnauthenticated, CloseExpired, CloseRevoked,
		CloseProtocol, CloseSilent, CloseSlow, CloseDraining, CloseFull} {
		if !strings.Contains(doc, fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("close code %d has no row", code)
		}
	}
	for _, bound := range []string{
		thousands(FrameBytesMax) + " bytes",
		thousands(BodyBytesMax) + " bytes",
		fmt.Sprintf("%d levels", BodyDepthMax),
		fmt.Sprintf("1 to %d of", TokenBytesMax),
		thousands(JWTBytesMax) + " bytes",
		fmt.Sprintf("at most %d users", MentionsMax),
		fmt.Sprintf("at most %d bytes", SentenceBytesMax),
		fmt.Sprintf("at most %d chats", ResumeChatsMax),
		thousands(ResumeEventsMax) + " events",
		fmt.Sprintf("%d MiB were missed", ResumeBytesMax>>20),
		fmt.Sprintf("%d MiB over all chats", ResumeTotalBytesMax>>20),
		fmt.Sprintf("%d where absent, and %d where", PageEventsDefault, PageEventsMax),
		fmt.Sprintf("%d KiB of events", PageBytesMax>>10),
		fmt.Sprintf("within %d seconds", int(HelloWithin.Seconds())),
		fmt.Sprintf("last %d seconds", int(TypingEvery.Seconds())),
		fmt.Sprintf("Show it for %d seconds", int(TypingFor.Seconds())),
		fmt.Sprintf("at most one in %d ms is told on", MarksEvery.Milliseconds()),
		fmt.Sprintf("| up to %d, and direct chats |", DeliveredMembersMax),
		fmt.Sprintf("| %d to %d | `read`", DeliveredMembersMax+1, ReadMembersMax),
		fmt.Sprintf("`limit` is %d where absent,\nand %s where", ReceiptsDefault, thousands(ReceiptsMax)),
		fmt.Sprintf("`users` are from 1 to %d, and a session watches at most %d", PresenceUsersMax, PresenceUsersMax),
		fmt.Sprintf("no frame for %d minutes", int(AwayAfter.Minutes())),
		fmt.Sprintf("1 to %d characters in at most %d bytes", NameCharsMax, NameBytesMax),
		fmt.Sprintf("(1 to %d bytes without spaces", EmojiBytesMax),
		fmt.Sprintf("%d different ones", EmojisMax),
		fmt.Sprintf("the first %d, `count`", ReactionUsersMax),
		fmt.Sprintf("at most the last %d |", FormerMax),
		"from 1 to " + thousands(TTLMax),
		fmt.Sprintf("at most %s users beside the creator", thousands(UsersMax)),
		fmt.Sprintf("from 1 to %s users", thousands(UsersMax)),
		fmt.Sprintf("at most %s members", thousands(GroupMembersMax)),
		fmt.Sprintf("`users` are from 1 to %d", ProfilesMax),
		fmt.Sprintf("`limit` is %d where absent, and %d where", ChatsDefault, ChatsMax),
		fmt.Sprintf("`limit` is %d where absent, and %s where", MembersDefault, thousands(MembersMax)),
		fmt.Sprintf("about %s bytes", thousands(CutTextBytesMax)),
		fmt.Sprintf("good for %d minutes", int(CursorFor.Minutes())),
		"`" + Subprotocol + "`",
	} {
		if !strings.Contains(doc, bound) {
			t.Errorf("the document does not say %q", bound)
		}
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

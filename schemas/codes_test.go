package schemas

import (
	"strings"
	"testing"
)

func TestErrorfMakesOneShortPrintableLine(t *testing.T) {
	t.Parallel()
	for _, quoted := range []string{
		"plain",
		"two\r\nlines",
		"escape \x1b[31m, NUL \x00, DEL \x7f",
		"line separator \u2028, right to left \u202e, no width \u200b",
		"no UTF-8 \xff\xed\xa0\x80",
		strings.Repeat("é", SentenceBytesMax),
		"x" + strings.Repeat("é", SentenceBytesMax),
	} {
		checkSentence(t, Errorf(Invalid, "name %s", quoted))
	}
}

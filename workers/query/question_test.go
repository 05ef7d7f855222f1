package query

import (
	"testing"

	"parley/schemas"
	"parley/workers/store"
)

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"chat":"direct.alice.bob"}`, `{"chat":"group.team","before":7,"limit":3,"from":4}`,
		`{"chat":"group.team","after":7,"raw":true,"author":"alice","from":9}`, `{"chat":"direct.b.a"}`,
		`{"chat":"group.team","limit":-1}`, `{"chat":"group.team","before":1,"after":1}`, `{}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, empty, err := parse(data)
		if err != nil {
			return
		}
		switch {
		case q.chat.IsZero():
			t.Error("a question without a chat")
		case q.limit < 1 || q.limit > schemas.PageEventsMax:
			t.Errorf("limit %d", q.limit)
		case q.forward && (q.before > 0 || q.from > 0) || !q.forward && q.after > 0:
			t.Errorf("bounds of both directions: %+v", q)
		case !q.raw && !q.author.IsZero():
			t.Error("an author makes another question where there is nothing of it to show")
		case q.forward && q.passes(store.Head{}):
			t.Error("a forward question is for the newest page")
		case !empty && !q.shows(q.after+1) && !q.shows(max(q.before, 1)-1) && !q.shows(schemas.SeqMax):
			t.Errorf("nothing is in the range of %+v", q)
		}
	})
}

func TestFromIsABoundOfBothDirections(t *testing.T) {
	t.Parallel()
	for request, shown := range map[string][]uint64{
		`{"chat":"group.team","from":5}`:             {5, 6, 9},
		`{"chat":"group.team","from":5,"before":6}`:  {5},
		`{"chat":"group.team","from":5,"after":2}`:   {5, 6, 9},
		`{"chat":"group.team","from":5,"after":5}`:   {6, 9},
		`{"chat":"group.team","from":1,"after":5}`:   {6, 9},
		`{"chat":"group.team","from":5,"before":99}`: {5, 6, 9},
	} {
		q, empty, err := parse([]byte(request))
		if err != nil || empty {
			t.Fatalf("%s: empty %v, %v", request, empty, err)
		}
		var got []uint64
		for _, seq := range []uint64{1, 4, 5, 6, 9} {
			if q.shows(seq) {
				got = append(got, seq)
			}
		}
		if len(got) != len(shown) || got[0] != shown[0] {
			t.Errorf("%s shows %v, want %v", request, got, shown)
		}
	}
	for _, request := range []string{`{"chat":"group.team","from":5,"before":5}`, `{"chat":"group.team","from":9007199254740993}`, `{"chat":"group.team","from":9007199254740993,"after":1}`} {
		if _, empty, err := parse([]byte(request)); !empty || err != nil {
			t.Errorf("%s: empty %v, %v; want empty", request, empty, err)
		}
	}
}

package edge

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
	"parley/streams"
)

// A process that was stopped finds frames in its sockets that have waited as
// long. What they say may have been said again elsewhere, and is not taken.
func TestWhatWaitedInTheSocketIsNotTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	r.clock.advance(76 * time.Second)
	if err := ann.write(websocket.PongMessage, ""); err != nil {
		t.Fatal(err)
	}
	// The loop's sweep may have closed it by now: then it is not even said.
	_ = ann.write(websocket.TextMessage, sendFrame(1, "m1", "direct.ann.bea", "hi"))
	ann.closedWith(schemas.CloseSilent)
	r.edge().Stop(t) // all that was published is answered then
	log := streams.NewLog(r.env.JetStream, r.env.Layout)
	if seq, stored, err := log.Last(t.Context(), testChat(t, "direct.ann.bea")); err != nil || stored {
		t.Errorf("the log has it at %d (%v)", seq, err)
	}
}

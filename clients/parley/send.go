package parley

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
)

// Text returns the body of a plain text message.
func Text(text string) jsontext.Value {
	body, err := json.Marshal(schemas.TextBody{Kind: schemas.TextKind, Text: text})
	if err != nil { // text is not UTF-8
		body, _ = json.Marshal(schemas.TextBody{Kind: schemas.TextKind, Text: fmt.Sprintf("%q", text)})
	}
	return body
}

// Send says body in chat under id and waits until the log has it, over
// reconnects too. It returns a [*schemas.Error] where the server refuses. The
// same id again is the same message: after an error or the end of ctx, calling
// Send with it again is safe.
func (c *Client) Send(ctx context.Context, chat schemas.Chat, id schemas.ID, body jsontext.Value) (schemas.Ack, error) {
	return c.Say(ctx, schemas.Send{Chat: chat, ID: id, Body: body})
}

// Say is Send for all that a send may have: a message that answers another one,
// belongs to a thread, mentions users or disappears, and each other type.
func (c *Client) Say(ctx context.Context, send schemas.Send) (schemas.Ack, error) {
	sending, err := c.StartSend(ctx, send)
	if err != nil {
		return schemas.Ack{}, err
	}
	return sending.Wait(ctx)
}

// Edit gives an own message, the one at target, another body. It waits as Send
// does, and has an id of its own; so have all that follow.
func (c *Client) Edit(ctx context.Context, chat schemas.Chat, id schemas.ID, target uint64, body jsontext.Value) (schemas.Ack, error) {
	return c.Say(ctx, schemas.Send{Chat: chat, ID: id, Type: schemas.Edit, Target: target, Body: body})
}

// Delete takes a message back for everybody.
func (c *Client) Delete(ctx context.Context, chat schemas.Chat, id schemas.ID, target uint64) (schemas.Ack, error) {
	return c.Say(ctx, schemas.Send{Chat: chat, ID: id, Type: schemas.Delete, Target: target})
}

// React puts an emoji under a message, or with on false takes it away.
func (c *Client) React(ctx context.Context, chat schemas.Chat, id schemas.ID, target uint64, emoji string, on bool) (schemas.Ack, error) {
	return c.Say(ctx, schemas.Send{Chat: chat, ID: id, Type: schemas.React, Target: target, Emoji: emoji, Remove: !on})
}

// PinMessage pins a message for everybody in the chat, or with on false unpins it.
func (c *Client) PinMessage(ctx context.Context, chat schemas.Chat, id schemas.ID, target uint64, on bool) (schemas.Ack, error) {
	return c.Say(ctx, schemas.Send{Chat: chat, ID: id, Type: schemas.Pin, Target: target, Remove: !on})
}

// Sending is a send that was said, or will be on the next connection.
type Sending struct {
	client  *Client
	request *request
}

// StartSend says send without waiting for its ack: sends that one goroutine
// starts one after the other get to the log in that order. It waits only while
// 4,096 requests are in flight. Retry and After are filled in, and so is Type
// where it is absent: a message.
func (c *Client) StartSend(ctx context.Context, send schemas.Send) (*Sending, error) {
	if len(send.Body) > schemas.BodyBytesMax {
		return nil, schemas.Errorf(schemas.TooLarge, "body has %d bytes: at most %d are allowed", len(send.Body), schemas.BodyBytesMax)
	}
	if send.Type == "" {
		send.Type = schemas.Message
	}
	if !send.Retry {
		send.After = c.chats.highest(send.Chat)
	}
	r := &request{send: &sendFrame{T: schemas.TSend, Send: send}}
	if err := c.start(ctx, r); err != nil {
		return nil, err
	}
	return &Sending{c, r}, nil
}

// Wait returns the ack. With Reconnect it says the send again after a refusal
// with retryAfter. One goroutine calls it, once.
func (s *Sending) Wait(ctx context.Context) (schemas.Ack, error) {
	for {
		var ack schemas.Ack
		err := s.client.await(ctx, s.request, &ack)
		var refusal *schemas.Error
		if !errors.As(err, &refusal) || refusal.RetryAfter <= 0 || !s.client.opts.Reconnect {
			return ack, err
		}
		if s.client.sleep(ctx, seconds(refusal.RetryAfter)) != nil {
			return ack, err
		}
		again := s.request.send.Send
		again.Retry = true // the refused try may be in the log all the same
		s.request = &request{send: &sendFrame{T: schemas.TSend, Send: again}}
		if err := s.client.start(ctx, s.request); err != nil {
			return ack, err
		}
	}
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 60) * float64(time.Second))
}

package parley

import (
	"context"

	"parley/schemas"
)

// Chats returns a page of the user's chats, those with the latest activity first;
// the page's Cursor asks for the next. Chats that began while the client was not
// connected are known from here alone.
func (c *Client) Chats(ctx context.Context, what schemas.Chats) (schemas.ChatsPage, error) {
	return ask[schemas.ChatsPage](ctx, c, schemas.TChats, what)
}

// Mute has a chat's messages not pushed to the user, for good or until a time.
func (c *Client) Mute(ctx context.Context, mute schemas.Mute) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TMute, mute)
	return err
}

// Pin keeps a chat at the top of the user's list. For a message see [Client.PinMessage].
func (c *Client) Pin(ctx context.Context, chat schemas.Chat, on bool) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TPin, schemas.SetChat{Chat: chat, On: on})
	return err
}

// Archive puts a chat away in the user's list.
func (c *Client) Archive(ctx context.Context, chat schemas.Chat, on bool) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TArchive, schemas.SetChat{Chat: chat, On: on})
	return err
}

// Block keeps another user and the client's from talking to each other.
func (c *Client) Block(ctx context.Context, user schemas.User, on bool) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TBlock, schemas.Block{User: user, On: on})
	return err
}

// Profiles returns what users tell of themselves, at most 200 at a time, in their order.
func (c *Client) Profiles(ctx context.Context, users ...schemas.User) ([]schemas.Profile, error) {
	page, err := ask[schemas.ProfilesPage](ctx, c, schemas.TProfile, schemas.Profiles{Users: users})
	return page.Profiles, err
}

// SetProfile changes what the client's user tells of itself; what is absent stays.
func (c *Client) SetProfile(ctx context.Context, set schemas.SetProfile) error {
	_, err := ask[schemas.Done](ctx, c, schemas.TSetProfile, set)
	return err
}

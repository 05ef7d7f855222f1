package parley

import (
	"context"

	"parley/schemas"
)

// Create makes the group group.<create.ID>, whose owner is the client's user. The
// same again by the same user gives the same group.
func (c *Client) Create(ctx context.Context, create schemas.Create) (schemas.GroupCreated, error) {
	return ask[schemas.GroupCreated](ctx, c, schemas.TCreate, create)
}

// Add takes users into a group; who is in it already stays what it is.
func (c *Client) Add(ctx context.Context, group schemas.Chat, users ...schemas.User) (schemas.Done, error) {
	return ask[schemas.Done](ctx, c, schemas.TAdd, schemas.ChangeMembers{Chat: group, Users: users})
}

// Remove takes users out of a group.
func (c *Client) Remove(ctx context.Context, group schemas.Chat, users ...schemas.User) (schemas.Done, error) {
	return ask[schemas.Done](ctx, c, schemas.TRemove, schemas.ChangeMembers{Chat: group, Users: users})
}

// Leave takes the client's user out of a group.
func (c *Client) Leave(ctx context.Context, group schemas.Chat) (schemas.Done, error) {
	return ask[schemas.Done](ctx, c, schemas.TLeave, schemas.Leave{Chat: group})
}

// SetRole gives a member another role; [schemas.Owner] hands the group over.
func (c *Client) SetRole(ctx context.Context, group schemas.Chat, user schemas.User, role schemas.Role) (schemas.Done, error) {
	return ask[schemas.Done](ctx, c, schemas.TRole, schemas.SetRole{Chat: group, User: user, Role: role})
}

// Rename gives a group another name.
func (c *Client) Rename(ctx context.Context, group schemas.Chat, name string) (schemas.Done, error) {
	return ask[schemas.Done](ctx, c, schemas.TRename, schemas.Rename{Chat: group, Name: name})
}

// Members returns a page of a chat's members; the page's Cursor asks for the next.
func (c *Client) Members(ctx context.Context, what schemas.Members) (schemas.MembersPage, error) {
	return ask[schemas.MembersPage](ctx, c, schemas.TMembers, what)
}

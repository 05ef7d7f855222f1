// What later events make of a message. A page of history has it done already, as
// {edited, deleted, reactions, pinned} beside the event; live events are applied
// here, by the server's own rules, so that a chat looks alike before and after
// it is read anew:
//
//  - Only a message of the same chat that came before has anything done to it, and
//    nothing once it has disappeared.
//  - An edit counts where it is its author's, unless the message was deleted; of
//    several the last one.
//  - The first delete takes the body, the mentions and all reactions away, for good.
//  - A user has each emoji once. An emoji keeps the place of the first who used it.
//  - Of pins and unpins the last one counts.
//
// To apply an event again, or one that a page has in it, changes nothing in the
// end; only where more users reacted than a page names may a count be one off,
// until the message is read again.

/** How many users a page names under one emoji. */
export const REACTION_USERS_MAX = 50;

/** When an item disappears, in ms of the server's clock; Infinity for one that stays. */
export function expiry({ time, event }) {
  return event.ttl > 0 ? Date.parse(time) + event.ttl * 1000 : Infinity;
}

/** Does to item, a message, what change says; returns whether it looks different now. */
export function fold(item, change) {
  const isTarget = item.event.type === 'message' && change.event.target === item.seq && item.seq < change.seq;
  if (!isTarget || Date.parse(change.time) >= expiry(item)) return false;
  switch (change.event.type) {
    case 'edit':
      return edit(item, change);
    case 'delete':
      return remove(item);
    case 'reaction':
      return react(item, change.event);
    case 'pin':
      return pin(item, change.event);
    default:
      return false;
  }
}

function edit(item, { seq, event }) {
  if (item.deleted || event.from !== item.event.from || seq <= (item.edited ?? 0)) return false;
  item.edited = seq;
  item.event = { ...item.event, body: event.body };
  return true;
}

function remove(item) {
  if (item.deleted) return false;
  item.deleted = true;
  item.event = { ...item.event, body: {} };
  delete item.event.mentions;
  delete item.reactions;
  return true;
}

function react(item, { from, emoji, remove: isTaken }) {
  if (item.deleted) return false;
  const reactions = item.reactions ?? [];
  const old = reactions.find((reaction) => reaction.emoji === emoji);
  const users = old?.users ?? [];
  const isThere = users.includes(from);
  // Whoever is counted without a name may be this one: taken away it is one of them.
  const isUnnamed = old && old.count > users.length;
  if (isTaken ? !isThere && !isUnnamed : isThere) return false;
  const count = (old?.count ?? 0) + (isTaken ? -1 : 1);
  const named = isTaken ? users.filter((user) => user !== from) : isUnnamed ? users : [...users, from].slice(0, REACTION_USERS_MAX);
  const now = { emoji, count, users: named };
  item.reactions = old ? reactions.map((reaction) => (reaction === old ? now : reaction)) : [...reactions, now];
  item.reactions = item.reactions.filter((reaction) => reaction.count > 0);
  return true;
}

function pin(item, { remove: isTaken }) {
  if (!item.pinned === !!isTaken) return false;
  item.pinned = !isTaken;
  return true;
}

// What events say, in words for people.

/** What a body says: this page shows text. */
export function words(body) {
  switch (body?.kind) {
    case 'text':
      return body.text;
    case 'image':
      return body.text ? `[image] ${body.text}` : '[image]';
    case 'file':
      return `[file ${body.name}]${body.text ? ` ${body.text}` : ''}`;
    case 'opaque':
      return '[encrypted]';
    default:
      return '[a message that this page cannot show]';
  }
}

/** What a message says by now. */
export function itemWords(item) {
  return item.deleted ? 'This message was deleted' : words(item.event.body);
}

/** What a member or group event says to me; undefined for other events. */
export function notice(event, me) {
  const { type, change, name } = event;
  const who = event.from === me ? 'You' : event.from;
  const whom = names(event.users ?? [], me);
  switch (`${type} ${change}`) {
    case 'group created':
      return `${who} created the group “${name}”`;
    case 'group renamed':
      return `${who} renamed the group to “${name}”`;
    case 'member added':
      return `${who} added ${whom}`;
    case 'member removed':
      return `${who} removed ${whom}`;
    case 'member left':
      return `${who} left${event.owner ? `; ${event.owner === me ? 'you are' : `${event.owner} is`} the owner now` : ''}`;
    case 'member role':
      return `${who} made ${whom} ${{ owner: 'the owner', admin: 'an admin', member: 'a member' }[event.role] ?? event.role}`;
    default:
      return type === 'group' || type === 'member' ? `${who} changed the group` : undefined;
  }
}

/** One line about a chat's last event. */
export function preview(item, me, isGroup) {
  const { event } = item;
  const isMine = event.from === me;
  const who = isMine ? 'You' : event.from;
  switch (event.type) {
    case 'message':
      return `${isMine || isGroup ? `${who}: ` : ''}${item.deleted ? 'message deleted' : words(event.body)}`;
    case 'edit':
      return `${who} edited a message`;
    case 'delete':
      return `${who} deleted a message`;
    case 'reaction':
      return event.remove ? `${who} took a reaction back` : `${who} reacted ${event.emoji}`;
    case 'pin':
      return `${who} ${event.remove ? 'unpinned' : 'pinned'} a message`;
    default:
      return notice(event, me) ?? '';
  }
}

function names(users, me) {
  const shown = users.slice(0, 5).map((user) => (user === me ? 'you' : user));
  if (users.length > shown.length) shown.push(`${users.length - shown.length} more`);
  return shown.length > 1 ? `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}` : shown[0];
}

// What stands above the messages of a chat: its name, and who is in it, there or typing.

import { isGroup, partner } from './names.js';
import { presenceWords } from './presence.js';
import { typingWords } from './typing.js';

/**
 * Draws it for chat. title: its name; members: how many a group has, where that is
 * known; presence: of users; now: in ms of the server's clock.
 */
export function drawHeading($, chat, { me, title, members, presence, now }) {
  $('title').textContent = title;
  $('log').setAttribute('aria-label', `Messages ${isGroup(chat) ? 'in' : 'with'} ${title}`);
  const known = isGroup(chat) ? undefined : presence.of(partner(chat, me));
  const count = members ? `${members} ${members === 1 ? 'member' : 'members'}` : '';
  $('about').textContent = known ? presenceWords(known, now) : count;
  $('about').dataset.status = known?.status ?? '';
}

export function drawTyping($, users) {
  const words = typingWords(users);
  if ($('typing').textContent !== words) $('typing').textContent = words; // it is read aloud when it changes
}

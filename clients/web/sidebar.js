// The list of chats as elements.

import { beginning, element } from './bubble.js';
import { lastShown } from './chatlist.js';
import { address, isGroup, partner } from './names.js';
import { presenceWords } from './presence.js';
import { preview } from './words.js';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/** Draws the chats of list, a ChatList, into $('chats') and $('archived'). shown: the chat in view; now: in ms of the server's clock; title(chat): its name; presence: of users. */
export function drawChats($, list, { shown, now, title, presence }) {
  const focused = document.activeElement?.closest('#chats a, #archived a')?.getAttribute('href');
  const chats = list.chats;
  if (shown && !list.get(shown)) chats.unshift({ chat: shown }); // nothing was said there yet
  const row = (entry) => element('li', {}, link(entry, list, { isShown: entry.chat === shown, now, title: title(entry.chat), dot: dot(entry.chat) }));
  const dot = (chat) => {
    const known = !isGroup(chat) && presence.of(partner(chat, list.me));
    return known ? [presenceDot(known, now)] : [];
  };
  $('chats').replaceChildren(...chats.filter((entry) => !entry.archived).map(row));
  const archived = chats.filter((entry) => entry.archived);
  $('archived').replaceChildren(...archived.map(row));
  $('archive').hidden = archived.length === 0;
  if (archived.some(({ chat }) => chat === shown)) $('archive').open = true;
  if (focused) document.querySelector(`#chats a[href="${focused}"], #archived a[href="${focused}"]`)?.focus();
}

function link(entry, list, { isShown, now, title, dot }) {
  const it = element('a', { href: address(list.me, entry.chat) });
  if (isShown) it.setAttribute('aria-current', 'page');
  const name = element('span', { className: 'name', textContent: title });
  const last = lastShown(entry, now);
  const said = element('span', { className: 'last', dir: 'auto', textContent: last ? beginning(preview(last, list.me, isGroup(entry.chat))) : '' });
  it.append(element('span', { className: 'line' }, ...dot, name, ...marks(entry, now), when(last)), element('span', { className: 'line' }, said, ...badge(list.unread(entry.chat))));
  return it;
}

/** A dot in the colour of a presence, with its words for who points at it or listens. */
function presenceDot(presence, now) {
  const words = presenceWords(presence, now);
  const it = element('span', { className: 'presence', title: words }, element('span', { className: 'unseen', textContent: words }));
  it.dataset.status = presence.status;
  return it;
}

function marks({ pinned, muted, mutedUntil }, now) {
  const isMuted = muted && !(Date.parse(mutedUntil) < now);
  return [pinned && 'pinned', isMuted && 'muted'].filter(Boolean).map((mark) => element('span', { className: 'mark', textContent: mark }));
}

function when(last) {
  if (!last) return '';
  const time = new Date(last.time);
  const isToday = time.toDateString() === new Date().toDateString();
  return element('time', { dateTime: time.toISOString(), textContent: (isToday ? clock : date).format(time) });
}

function badge(count) {
  if (count === 0) return [];
  return [element('span', { className: 'badge', textContent: count }, element('span', { className: 'unseen', textContent: ' unread' }))];
}

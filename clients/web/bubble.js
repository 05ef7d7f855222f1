// One message as an element, with what one can do to it. Text goes in as text
// only, so nothing that somebody wrote can become markup.

import { ticks } from './ticks.js';
import { itemWords, words } from './words.js';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const SHOWN_MAX = 5000; // UTF-16 units of a text shown at first: laying out a whole 100 KB takes half a second
const QUOTED_MAX = 120;
const EMOJIS = ['👍', '❤️', '😂', '🎉', '😮', '😢'];

export function element(name, properties, ...children) {
  const it = Object.assign(document.createElement(name), properties);
  it.append(...children);
  return it;
}

export function button(label, onclick, className = '') {
  return element('button', { type: 'button', textContent: label, onclick, className });
}

/**
 * The element of a message of the log. room is what it needs to know of its chat:
 * {me, isGroup, canModerate, at(seq), act(verb, item, value?), show(seq), status(item), readers(item)}.
 */
export function bubble(item, room) {
  const { event } = item;
  const isMine = event.from === room.me;
  const it = shell({ isMine, from: event.from, isGroup: room.isGroup });
  if (event.replyTo) it.append(quote(event.replyTo, room));
  it.append(...body(itemWords(item), item.deleted || event.body?.kind !== 'text'), stamp(item));
  if (item.deleted) return it;
  if (isMine) it.querySelector('.stamp').append(' ', ticks(room.status(item), room.isGroup));
  if (item.reactions?.length) it.append(reactions(item, room));
  const more = button('⋯', () => toggle(it, more, item, room), 'more');
  more.setAttribute('aria-label', isMine ? 'What to do with your message' : `What to do with the message of ${event.from}`);
  more.setAttribute('aria-expanded', 'false');
  it.append(more);
  return it;
}

/** The element of a message that is not in the log yet; note tells why. */
export function pendingBubble(entry, me, note, act) {
  const it = shell({ isMine: true, from: me });
  it.classList.add('pending');
  it.classList.toggle('failed', entry.state === 'failed');
  it.append(...body(words(entry.what.body), entry.what.body?.kind !== 'text'), element('span', { className: 'note', textContent: note }));
  if (entry.state === 'failed') {
    it.append(button('Try again', () => act('again', entry.id)), button('Discard', () => act('discard', entry.id)));
  }
  return it;
}

/** Closes what toggle opened in an element. */
export function closeActions(it) {
  it.querySelector('.actions')?.remove();
  it.querySelector('.more')?.setAttribute('aria-expanded', 'false');
}

function shell({ isMine, from, isGroup }) {
  const who = element('span', { className: isGroup && !isMine ? 'who' : 'unseen', textContent: isMine ? 'You: ' : isGroup ? from : `${from}: ` });
  return element('li', { className: isMine ? 'message mine' : 'message theirs' }, who);
}

function body(whole, isOther) {
  const text = element('p', { className: isOther ? 'text other' : 'text', textContent: beginning(whole, SHOWN_MAX), dir: 'auto' });
  if (whole.length <= SHOWN_MAX) return [text];
  const all = button('Show all of it', () => {
    text.textContent = whole;
    all.remove();
  }, 'all');
  return [text, all];
}

/** The part of text that is shown at first; a character of two units stays whole. */
export function beginning(text, max = QUOTED_MAX) {
  return text.length > max ? `${text.slice(0, max).replace(/[\uD800-\uDBFF]$/, '')}…` : text;
}

function stamp({ time, edited, pinned, deleted, event }) {
  const when = new Date(time);
  const notes = [pinned && !deleted && 'pinned', edited && !deleted && 'edited', event.ttl && 'disappears'].filter(Boolean);
  const shown = element('time', { dateTime: when.toISOString(), textContent: clock.format(when), title: full.format(when) });
  return element('p', { className: 'stamp' }, notes.map((note) => `${note} · `).join(''), shown);
}

/** The message that this one answers: a button that leads there. */
function quote(seq, room) {
  const answered = room.at(seq);
  const isMessage = answered?.event.type === 'message';
  const said = isMessage ? beginning(itemWords(answered)) : 'An earlier message';
  const it = button('', () => room.show(seq), 'quote');
  const who = answered?.event.from === room.me ? 'You' : answered?.event.from;
  it.append(element('span', { className: 'unseen', textContent: 'Answers ' }));
  if (isMessage) it.append(element('strong', { textContent: who }), ' ');
  it.append(element('span', { className: 'quoted', textContent: said, dir: 'auto' }));
  return it;
}

function reactions(item, room) {
  const chips = item.reactions.map(({ emoji, count, users }) => {
    const isMine = users.includes(room.me);
    const chip = button(`${emoji} ${count}`, () => room.act('react', item, { emoji, remove: isMine }));
    chip.setAttribute('aria-pressed', isMine);
    chip.title = count > users.length ? `${users.join(', ')} and ${count - users.length} more` : users.join(', ');
    chip.setAttribute('aria-label', `${emoji}: ${chip.title}`);
    return element('li', {}, chip);
  });
  return element('ul', { className: 'reactions', ariaLabel: 'Reactions' }, ...chips);
}

// ── What one can do to it ──

function toggle(it, more, item, room) {
  const isOpen = more.getAttribute('aria-expanded') === 'true';
  room.opened(it);
  if (isOpen) return;
  more.setAttribute('aria-expanded', 'true');
  const actions = element('div', { className: 'actions', role: 'group', ariaLabel: 'Actions' }, emojiRow(item, room), verbRow(item, room));
  actions.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    closeActions(it);
    more.focus();
  });
  it.append(actions);
  actions.querySelector('button').focus();
  actions.scrollIntoView({ block: 'nearest' });
}

function emojiRow(item, room) {
  const react = (emoji) => {
    const remove = !!item.reactions?.some((reaction) => reaction.emoji === emoji && reaction.users.includes(room.me));
    room.act('react', item, { emoji, remove });
  };
  const row = element('div', { className: 'verbs' });
  for (const emoji of EMOJIS) {
    const choice = button(emoji, () => react(emoji), 'emoji');
    choice.setAttribute('aria-label', `React with ${emoji}`);
    row.append(choice);
  }
  const free = element('input', { name: 'emoji', maxLength: 64, placeholder: 'other', ariaLabel: 'Another emoji', autocomplete: 'off' });
  const form = element('form', { className: 'free' }, free, element('button', { textContent: 'React' }));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (free.value.trim()) react(free.value.trim());
  };
  row.append(form);
  return row;
}

function verbRow(item, room) {
  const isMine = item.event.from === room.me;
  const row = element('div', { className: 'verbs' }, button('Reply', () => room.act('reply', item)));
  if (isMine && item.event.body?.kind === 'text') row.append(button('Edit', () => room.act('edit', item)));
  if (!room.isGroup || room.canModerate()) row.append(button(item.pinned ? 'Unpin' : 'Pin', () => room.act('pin', item, { remove: !!item.pinned })));
  if (isMine || (room.isGroup && room.canModerate())) {
    const remove = button('Delete', () => {
      if (remove.textContent !== 'Delete') return room.act('delete', item);
      remove.textContent = 'Delete for everybody?';
    });
    row.append(remove);
  }
  if (isMine && room.status(item).of > 0) row.append(button('Who has read it', () => room.readers(item)));
  return row;
}

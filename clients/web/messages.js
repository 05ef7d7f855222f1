// The list of one chat as elements: messages, small notices of who came and
// went, and a line per day.

import { bubble, closeActions, element, pendingBubble } from './bubble.js';
import { setTicks } from './ticks.js';
import { notice } from './words.js';

const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const NEAR_PX = 80; // so close to the end, a reader is at the end

export class MessageList {
  #log; // the element that scrolls
  #list; // holds what the log has
  #pending; // holds what is not in the log yet
  #drawn = new Map(); // id → {item, note}: what #pending holds, in its order
  #elements = new Map(); // seq → element of #list
  #room;
  #act;

  /**
   * room is what a message needs to know of its chat: see bubble. act(verb, id) is
   * called for 'again' and 'discard' of what is not in the log yet.
   */
  constructor({ log, list, pending, room, act }) {
    this.#log = log;
    this.#list = list;
    this.#pending = pending;
    this.#room = { ...room, show: (seq) => this.show(seq), opened: (it) => this.#closeOthers(it) };
    this.#act = act;
    pending.replaceChildren();
  }

  /** Whether the reader sees the newest message. */
  get isAtEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_PX;
  }

  toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  reset(items) {
    this.#elements.clear();
    this.#list.replaceChildren(this.#fragment(items));
    this.toEnd();
  }

  /** Returns false where the reader was further up, and was left there. */
  append(items) {
    const { isAtEnd } = this;
    const last = this.#list.lastElementChild;
    this.#list.append(this.#fragment(items, last?.dataset.day));
    if (isAtEnd) this.toEnd();
    return isAtEnd;
  }

  /** What the reader sees stays where it is. */
  prepend(items) {
    const fromEnd = this.#log.scrollHeight - this.#log.scrollTop;
    const first = this.#list.firstElementChild;
    const fragment = this.#fragment(items);
    // The first line of a day stands before the first message of that day.
    if (first && fragment.lastElementChild?.dataset.day === first.dataset.day) first.remove();
    this.#list.prepend(fragment);
    this.#log.scrollTop = this.#log.scrollHeight - fromEnd;
  }

  /** Draws messages anew that look different now. */
  change(items) {
    const { isAtEnd } = this;
    for (const item of items) {
      const old = this.#elements.get(item.seq);
      if (!old) continue;
      const hadFocus = old.contains(document.activeElement);
      const drawn = this.#element(item, old.dataset.day);
      old.replaceWith(drawn);
      if (hadFocus) (drawn.querySelector('.more') ?? this.#log).focus();
    }
    if (isAtEnd) this.toEnd();
  }

  /** How far messages have got is different. */
  drawTicks() {
    for (const it of this.#list.querySelectorAll('.ticks')) {
      const item = this.#room.at(Number(it.closest('li').dataset.seq));
      if (item) setTicks(it, this.#room.status(item), this.#room.isGroup);
    }
  }

  /** Takes away what has disappeared, and the line of a day that nothing is left of. */
  remove(items) {
    const { isAtEnd } = this;
    for (const { seq } of items) {
      const it = this.#elements.get(seq);
      if (!it) continue;
      const before = it.previousElementSibling;
      const isLastOfDay = it.nextElementSibling?.dataset.day !== it.dataset.day;
      if (before?.classList.contains('day') && isLastOfDay) before.remove();
      if (it.contains(document.activeElement)) this.#log.focus();
      it.remove();
      this.#elements.delete(seq);
    }
    if (isAtEnd) this.toEnd();
  }

  /** Leads the reader to a message, where it is held. */
  show(seq) {
    const it = this.#elements.get(seq);
    if (!it) return;
    it.scrollIntoView({ block: 'center' });
    it.classList.remove('found');
    requestAnimationFrame(() => it.classList.add('found'));
    it.querySelector('button')?.focus({ preventScroll: true });
  }

  /** Draws the outbox of the chat, touching only what differs: it changes at each step of each send. */
  showPending(entries, isOnline) {
    const { isAtEnd } = this;
    const before = this.#drawn;
    this.#drawn = new Map();
    for (const entry of entries) {
      if (entry.what.type !== 'message') continue;
      const note = pendingNote(entry, isOnline);
      const old = before.get(entry.id);
      before.delete(entry.id);
      const drawn = old?.note === note ? old : { note, item: pendingBubble(entry, this.#room.me, note, this.#act) };
      this.#drawn.set(entry.id, drawn);
      if (!old) this.#pending.append(drawn.item);
      else if (drawn !== old) old.item.replaceWith(drawn.item);
    }
    for (const { item } of before.values()) item.remove();
    if (isAtEnd) this.toEnd();
  }

  /** Closes what was opened in a message. */
  closeActions() {
    this.#closeOthers();
  }

  #closeOthers() {
    for (const it of this.#list.querySelectorAll('li:has(> .actions)')) closeActions(it);
  }

  #fragment(items, lastDay) {
    const fragment = document.createDocumentFragment();
    for (const item of items) {
      const itsDay = day.format(new Date(item.time));
      const it = this.#element(item, itsDay);
      if (!it) continue;
      if (itsDay !== lastDay) {
        const line = element('li', { className: 'day', textContent: itsDay });
        line.dataset.day = itsDay;
        fragment.append(line);
      }
      lastDay = itsDay;
      fragment.append(it);
    }
    return fragment;
  }

  /** The element of an event; undefined for one that only changes others. */
  #element(item, itsDay) {
    const said = notice(item.event, this.#room.me);
    if (!said && item.event.type !== 'message') return undefined;
    const it = said ? element('li', { className: 'notice', textContent: said }) : bubble(item, this.#room);
    it.dataset.seq = item.seq;
    it.dataset.day = itsDay;
    this.#elements.set(item.seq, it);
    return it;
  }
}

function pendingNote({ state, error }, isOnline) {
  if (state === 'failed') return `Not sent: ${error}`;
  if (state === 'acked') return 'Sent';
  return isOnline ? 'Sending…' : 'Waits for the connection';
}

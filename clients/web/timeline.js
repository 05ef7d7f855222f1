// One chat as this client holds it: an unbroken run of the chat's events,
// oldest first, with what later ones made of each message. It decides what is
// new, what is a duplicate and what is a gap; parley.js does the asking.

import { expiry, fold } from './fold.js';

// At EVENTS_MAX the oldest are let go, down to EVENTS_KEPT; they can be read again.
const EVENTS_MAX = 5000;
const EVENTS_KEPT = 4000;

export class Timeline {
  constructor(chat) {
    this.chat = chat;
    this.events = []; // {seq, prev, time, event}, by rising seq, and what fold.js puts beside it
    this.highest = null; // the highest seq that came; null while nothing is known
    this.more = true; // there may be older events than the first one held
    this.wanted = false; // a view shows it: its newest page belongs here
    this.loaded = false; // its newest page is here
    this.loading = false; // a page of older events is on its way
    this.repair = null; // a hole is being filled; see Repairs
    this.epoch = 0; // counts clear(): an answer to an earlier question is stale
    this.ids = new Set(); // "from/id" of the events held
    this.items = new Map(); // seq → the event held
  }

  /** The seq of the oldest event held, or undefined. */
  get lowest() {
    return this.events[0]?.seq;
  }

  /** The log knows no bound that a page would not reach: this client does. */
  get full() {
    return this.events.length >= EVENTS_MAX;
  }

  /** The event at seq, or undefined where it is not held. */
  at(seq) {
    return this.items.get(seq);
  }

  /**
   * Tells whether events are missing before item. Its prev is the last seq
   * before it that the log still has: lower than ours, or 0, says that events
   * expired, which is no gap. Where nothing is held nothing is checked.
   */
  misses(item) {
    return this.highest !== null && item.prev > this.highest;
  }

  /** The chat begins for this user with the event at seq: nothing before it is missing. */
  beginAt(seq) {
    this.highest ??= seq - 1;
  }

  /**
   * Takes an event at the end. Returns false for one that is dropped: its seq
   * is not higher than the highest, or the same send is held already.
   */
  append(item) {
    if (this.highest !== null && item.seq <= this.highest) return false;
    this.highest = item.seq; // of a duplicate too, or the next event would look like a gap
    if (!this.#note(item)) return false;
    this.events.push(item);
    return true;
  }

  /**
   * Takes a page of older events; returns those that were not held. more tells
   * whether still older ones exist. The page knows of all that came up to asked,
   * the highest seq when it was asked for; what came after is done to it here.
   */
  prepend(items, more, asked) {
    const lowest = this.lowest ?? Infinity;
    const added = items.filter((item) => item.seq < lowest && this.#note(item));
    for (const change of this.events) if (change.seq > (asked ?? 0)) this.apply(change);
    this.events = added.concat(this.events);
    this.highest = Math.max(this.highest ?? 0, items.at(-1)?.seq ?? 0);
    this.more = more;
    return added;
  }

  /** Does what an event says to the message it is about; returns the message where it looks different now. */
  apply(change) {
    const item = this.items.get(change.event.target);
    if (!item || !fold(item, change)) return undefined;
    if (change.event.type === 'delete') this.#emptyEdits(item.seq);
    return item;
  }

  /** Lets go of what has disappeared by now, in ms of the server's clock; returns it. */
  expire(now) {
    const gone = this.events.filter((item) => expiry(item) <= now);
    if (gone.length === 0) return gone;
    this.events = this.events.filter((item) => expiry(item) > now);
    for (const { seq } of gone) this.items.delete(seq); // its id stays: it is not to come again
    return gone;
  }

  /** When the next event disappears, in ms of the server's clock, or Infinity. */
  get nextExpiry() {
    return this.events.reduce((next, item) => Math.min(next, expiry(item)), Infinity);
  }

  /** Lets the oldest events go when there are too many; returns whether it did. */
  trim() {
    if (this.events.length <= EVENTS_MAX) return false;
    this.events = this.events.slice(-EVENTS_KEPT);
    this.ids = new Set(this.events.map(key));
    this.items = new Map(this.events.map((item) => [item.seq, item]));
    this.more = true;
    return true;
  }

  /** Forgets everything: what is held is too old to be mended. */
  clear() {
    this.events = [];
    this.ids.clear();
    this.items.clear();
    this.highest = null;
    this.more = true;
    this.loaded = false;
    this.epoch++;
  }

  /** What was taken back is not kept in its edits either. */
  #emptyEdits(target) {
    for (const item of this.events) {
      if (item.event.type === 'edit' && item.event.target === target) item.event = { ...item.event, body: {} };
    }
  }

  #note(item) {
    if (this.ids.has(key(item))) return false;
    this.ids.add(key(item));
    this.items.set(item.seq, item);
    return true;
  }
}

function key({ event }) {
  return `${event.from}/${event.id}`;
}

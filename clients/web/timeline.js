// One chat as this client holds it: an unbroken run of the chat's events,
// oldest first. It decides what is new, what is a duplicate and what is a gap;
// parley.js does the asking.

// At EVENTS_MAX the oldest are let go, down to EVENTS_KEPT; they can be read again.
const EVENTS_MAX = 5000;
const EVENTS_KEPT = 4000;

export class Timeline {
  constructor(chat) {
    this.chat = chat;
    this.events = []; // {seq, prev, time, event}, by rising seq
    this.highest = null; // the highest seq that came; null while nothing is known
    this.more = true; // there may be older events than the first one held
    this.wanted = false; // a view shows it: its newest page belongs here
    this.loaded = false; // its newest page is here
    this.loading = false; // a page of older events is on its way
    this.repair = null; // a hole is being filled; see Parley
    this.epoch = 0; // counts clear(): an answer to an earlier question is stale
    this.ids = new Set(); // "from/id" of the events held
  }

  /** The seq of the oldest event held, or undefined. */
  get lowest() {
    return this.events[0]?.seq;
  }

  /** The log knows no bound that a page would not reach: this client does. */
  get full() {
    return this.events.length >= EVENTS_MAX;
  }

  /**
   * Tells whether events are missing before item. Its prev is the last seq
   * before it that the log still has: lower than ours, or 0, says that events
   * expired, which is no gap. Where nothing is held nothing is checked.
   */
  misses(item) {
    return this.highest !== null && item.prev > this.highest;
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

  /** Takes a page of older events; returns those that were not held. more tells whether still older ones exist. */
  prepend(items, more) {
    const lowest = this.lowest ?? Infinity;
    const added = items.filter((item) => item.seq < lowest && this.#note(item));
    this.events = added.concat(this.events);
    this.highest = Math.max(this.highest ?? 0, items.at(-1)?.seq ?? 0);
    this.more = more;
    return added;
  }

  /** Lets the oldest events go when there are too many; returns whether it did. */
  trim() {
    if (this.events.length <= EVENTS_MAX) return false;
    this.events = this.events.slice(-EVENTS_KEPT);
    this.ids = new Set(this.events.map(key));
    this.more = true;
    return true;
  }

  /** Forgets everything: what is held is too old to be mended. */
  clear() {
    this.events = [];
    this.ids.clear();
    this.highest = null;
    this.more = true;
    this.loaded = false;
    this.epoch++;
  }

  #note(item) {
    if (this.ids.has(key(item))) return false;
    this.ids.add(key(item));
    return true;
  }
}

function key({ event }) {
  return `${event.from}/${event.id}`;
}

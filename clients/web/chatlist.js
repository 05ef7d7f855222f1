// The list of a user's chats: what the server's `chats` says, kept up to date
// by what comes live. The server's answer may lag by a second, and events may
// come while it is on its way; so neither replaces the other: of two last events
// the higher counts, and so do of two counts.
//
// How many messages are unread is counted as the server counts it: each message of
// a chat has a number, n, and unread are those above the number of the read mark. A
// mark is told as a seq, whose number only the server knows where it is not the last.

import { expiry } from './fold.js';

const PAGE_CHATS = 200; // the most one answer holds
const PAGES_MAX = 10; // past that, old chats appear only when something comes in them
const RELOAD_MS = 1000; // the least time between two answers
const LAG_MS = 2000; // after which the server's list has what was said before a session began
const AGAIN_MS = 10_000; // after an answer that was refused
const UNNAMED_TRIES = 10; // how often the name of a new group is asked for

export class ChatList extends EventTarget {
  #ask;
  #chats = new Map(); // chat → entry
  #marks;
  #gone = new Set(); // chats that one was taken out of since the last question
  #loadedAt = -RELOAD_MS;
  #timer;
  #unnamedTries = 0;
  #hasMissed = false; // the next answer may not have all that was said before the session

  /**
   * me: the user. ask(frame): resolves with the answer. marks: the user's, see
   * Marks. A `change` event tells that something is different.
   */
  constructor(me, ask, marks) {
    super();
    this.me = me;
    this.#ask = ask;
    this.#marks = marks;
  }

  /** {chat, name, members, role, last, read, muted, mutedUntil, pinned, archived}, or undefined. */
  get(chat) {
    return this.#chats.get(chat);
  }

  /** All chats, pinned ones first, then by their last activity. */
  get chats() {
    return [...this.#chats.values()].sort((a, b) => !!b.pinned - !!a.pinned || at(b) - at(a) || (a.chat < b.chat ? -1 : 1));
  }

  /** When the next of the last events disappears, in ms as now is, or Infinity. */
  nextExpiry(now) {
    const all = [...this.#chats.values()].map(({ last }) => (last ? expiry(last) : Infinity));
    return all.reduce((next, at) => (at > now ? Math.min(next, at) : next), Infinity);
  }

  unread(chat) {
    const entry = this.#chats.get(chat);
    return entry ? Math.max(entry.n - entry.readN, 0) : 0;
  }

  /** Asks the server for the list, soon. */
  reload(ms = this.#loadedAt + RELOAD_MS - performance.now()) {
    this.#timer ??= setTimeout(() => this.#load(), ms);
  }

  /** A session begins, or something may have been missed: what is not listed yet comes with a second answer. */
  missed() {
    this.#hasMissed = true;
    this.reload();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = -1; // nothing more is asked for
  }

  /** Events came at the end of a chat. */
  came(chat, events) {
    const entry = this.#entry(chat);
    for (const { seq, prev, time, event } of events) {
      if (seq <= (entry.last?.seq ?? 0)) continue;
      entry.last = { seq, prev, time, event };
      if (event.type === 'message') entry.n++;
      if (event.type === 'message' && event.from === this.me) readAll(entry);
      if (event.type === 'group') entry.name = event.name;
      if (event.type === 'group' || event.type === 'member') this.#memberEvent(entry, event);
    }
    if (!entry.isListed) this.reload(); // how much came before, only the server knows
    this.#tell();
  }

  /** The server told that something of a chat changed for the user. */
  changed({ chat, change, until }) {
    if (change === 'removed') {
      this.#chats.delete(chat);
      this.#gone.add(chat);
      return this.#tell();
    }
    const entry = this.#entry(chat);
    switch (change) {
      case 'added':
        this.#unnamedTries = 0;
        return this.reload();
      case 'muted':
      case 'unmuted':
        entry.muted = change === 'muted';
        entry.mutedUntil = until;
        break;
      case 'pinned':
      case 'unpinned':
        entry.pinned = change === 'pinned';
        break;
      case 'archived':
      case 'unarchived':
        entry.archived = change === 'archived';
        break;
      default:
        return undefined;
    }
    this.#tell();
  }

  /** The user has read chat up to seq, here or elsewhere. */
  read(chat, seq) {
    const entry = this.#chats.get(chat);
    if (!entry || seq <= entry.read) return;
    if (seq >= (entry.last?.seq ?? 0)) readAll(entry);
    else this.reload(); // how many came after it, only the server knows
    entry.read = seq;
    this.#tell();
  }

  async #load() {
    this.#gone.clear();
    const before = [...this.#chats.values()];
    const listed = new Set();
    let cursor;
    try {
      for (let pages = 0; pages < PAGES_MAX; pages++) {
        const page = await this.#ask({ t: 'chats', limit: PAGE_CHATS, cursor });
        for (const item of page.chats) {
          if (!this.#gone.has(item.chat)) this.#take(item);
          listed.add(item.chat);
        }
        cursor = page.cursor;
        if (!cursor) break;
      }
      if (!cursor) for (const { chat, isListed } of before) if (isListed && !listed.has(chat)) this.#chats.delete(chat);
      this.#loadedAt = performance.now();
      if (this.#timer === -1) return;
      this.#timer = undefined;
      this.#again();
      if (this.#hasMissed) this.reload(LAG_MS);
      this.#hasMissed = false;
    } catch (error) {
      if (this.#timer === -1) return;
      this.#timer = undefined;
      // The next connection asks again by itself. Until then what comes live is listed.
      if (error.code !== 'disconnected') this.reload(AGAIN_MS);
    }
    this.#tell();
  }

  /** What was just begun may not be stored yet: its name comes with a later answer. */
  #again() {
    const isUnnamed = [...this.#chats.values()].some((entry) => !entry.isListed);
    if (!isUnnamed) this.#unnamedTries = 0;
    else if (this.#unnamedTries++ < UNNAMED_TRIES) this.reload();
  }

  #take(item) {
    const entry = this.#entry(item.chat);
    entry.isListed = true;
    entry.n = Math.max(entry.n, item.last.n ?? 0);
    entry.readN = Math.max(entry.readN, (item.last.n ?? 0) - item.unread);
    // What is listed came here; what was read here the server may not know yet.
    if (item.last.seq > (item.delivered ?? 0)) this.#marks.delivered(item.chat, item.last.seq);
    entry.read = Math.max(entry.read, item.read, this.#marks.readOf(item.chat));
    if (entry.read >= item.last.seq) entry.readN = Math.max(entry.readN, item.last.n ?? 0);
    for (const setting of ['muted', 'mutedUntil', 'pinned', 'archived']) entry[setting] = item[setting];
    if (item.last.seq < (entry.last?.seq ?? 0)) {
      entry.name ??= item.name;
      entry.role ??= item.role;
      return;
    }
    entry.last = item.last;
    for (const told of ['name', 'members', 'role']) entry[told] = item[told];
  }

  #entry(chat) {
    let entry = this.#chats.get(chat);
    if (!entry) {
      entry = { chat, n: 0, read: 0, readN: 0, isListed: false, last: undefined };
      this.#chats.set(chat, entry);
    }
    return entry;
  }

  #memberEvent(entry, event) {
    entry.members = event.count;
    if (event.change === 'created') entry.role = event.from === this.me ? 'owner' : 'member';
    if (event.owner === this.me) entry.role = 'owner';
    if (event.change === 'role' && event.role === 'owner' && event.from === this.me) entry.role = 'admin';
    if (!event.users?.includes(this.me)) return;
    if (event.change === 'added') entry.role = 'member';
    if (event.change === 'role') entry.role = event.role;
  }

  #tell() {
    this.dispatchEvent(new CustomEvent('change'));
  }
}

function readAll(entry) {
  entry.readN = entry.n;
  entry.read = Math.max(entry.read, entry.last?.seq ?? 0);
}

/** What a list shows of the last event; undefined where it has disappeared. */
export function lastShown({ last }, now) {
  return last && expiry(last) > now ? last : undefined;
}

function at({ last }) {
  return last ? Date.parse(last.time) : Infinity; // just begun
}

// What this client was told to say: messages, and changes of messages, until they are seen in the log.
//
// The rules:
//  - An entry has its own id from the start. The same id again is the same
//    send, so trying again can never say a thing twice.
//  - A second try carries retry and after: the last seq of the chat that was
//    known at the first try. The server looks from there for the first one,
//    which takes it a moment: what it refused to take for the rate was no try.
//  - One send of a chat is on its way at a time: a refusal or a lost
//    connection cannot reorder what a person wrote.
//  - An entry leaves when its event comes back, not when it is acknowledged:
//    only the event has its place and time.

import { ulid } from './ulid.js';
import { ParleyError } from './connection.js';

const ENTRIES_MAX = 500; // one more is refused
const ECHO_MS = 5000; // an acknowledged send whose event has not come by then is looked for
const REST_MS_MAX = 30_000;

export class Outbox {
  #link;
  #entries = new Map(); // id → {id, chat, what, at, after, state, seq?, error?}, in the order they were written
  #busy = new Set(); // chats with a send on its way, or resting after a refusal

  /**
   * link is how the outbox reaches its Parley: {isOnline(), request(frame),
   * highest(chat), mend(chat), changed(chat), problem(chat, error)}. saved is what toJSON() gave before a reload.
   */
  constructor(link, saved = []) {
    this.#link = link;
    for (const entry of saved) if (entry.what) this.#entries.set(entry.id, { ...entry, state: entry.state === 'failed' ? 'failed' : 'waiting' });
  }

  /** What JSON.stringify stores; the next page may begin with it. */
  toJSON() {
    return [...this.#entries.values()];
  }

  of(chat) {
    return [...this.#entries.values()].filter((entry) => entry.chat === chat);
  }

  /** Adds a send: what has its type and all that belongs to that. */
  add(chat, what) {
    if (this.#entries.size >= ENTRIES_MAX) {
      throw new ParleyError('overloaded', `${ENTRIES_MAX} messages are waiting to be sent. Wait until some are through.`);
    }
    // after is set at the first try: null says that there was none.
    const entry = { id: ulid(), chat, what, at: new Date().toISOString(), after: null, state: 'waiting' };
    this.#entries.set(entry.id, entry);
    this.#link.changed(chat);
    this.#pump(chat);
    return entry.id;
  }

  /** Tries a failed entry again; the server may have it after all, so it is a retry. */
  again(id) {
    const entry = this.#entries.get(id);
    if (entry?.state !== 'failed') return;
    entry.state = 'waiting';
    delete entry.error;
    this.#link.changed(entry.chat);
    this.#pump(entry.chat);
  }

  /** Forgets a failed entry. */
  discard(id) {
    if (this.#entries.get(id)?.state === 'failed') this.#remove(id);
  }

  /** The connection is up, and what was missed has come: send what is still here. */
  resume() {
    for (const chat of new Set([...this.#entries.values()].map((entry) => entry.chat))) this.#pump(chat);
  }

  /** An own event came: the log has it, whatever was answered. */
  confirm(id) {
    if (this.#entries.has(id)) this.#remove(id);
  }

  /** The chat was read up to highest: what was acknowledged at or before it is there, or was deleted. */
  settle(chat, highest) {
    for (const entry of this.of(chat)) if (entry.seq <= highest) this.#remove(entry.id);
  }

  async #pump(chat) {
    if (this.#busy.has(chat) || !this.#link.isOnline()) return;
    const entry = this.of(chat).find((entry) => entry.state === 'waiting');
    if (!entry) return;
    this.#busy.add(chat);
    const isFirstTry = entry.after === null;
    let restMs = 0;
    try {
      this.#acked(entry, await this.#link.request(this.#frame(entry)));
    } catch (error) {
      if (isFirstTry && error.code === 'rate_limited') entry.after = null;
      restMs = this.#refused(entry, error);
    }
    this.#link.changed(chat);
    if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
    this.#busy.delete(chat);
    this.#pump(chat);
  }

  #frame(entry) {
    const { id, chat, what } = entry;
    const isRetry = entry.after !== null;
    entry.after ??= this.#link.highest(chat) ?? 0;
    entry.state = 'sending';
    this.#link.changed(chat);
    const frame = { t: 'send', id, chat, ...what };
    return isRetry ? { ...frame, retry: true, after: entry.after } : frame;
  }

  #acked(entry, { seq }) {
    if (seq <= (this.#link.highest(entry.chat) ?? 0)) return this.confirm(entry.id);
    entry.state = 'acked';
    entry.seq = seq;
    setTimeout(() => {
      if (this.#entries.has(entry.id) && entry.state === 'acked') this.#link.mend(entry.chat);
    }, ECHO_MS);
  }

  /** Returns how long the chat rests, in ms. */
  #refused(entry, error) {
    if (error.code === 'disconnected') {
      entry.state = 'waiting';
      return 0;
    }
    if (error.retryAfter > 0) {
      entry.state = 'waiting';
      return Math.min(error.retryAfter * 1000, REST_MS_MAX);
    }
    // A message stays, for its text; a change of one is only told of.
    if (entry.what.type !== 'message') {
      this.confirm(entry.id);
      this.#link.problem(entry.chat, error);
      return 0;
    }
    entry.state = 'failed';
    entry.error = error.message;
    return 0;
  }

  #remove(id) {
    const { chat } = this.#entries.get(id);
    this.#entries.delete(id);
    this.#link.changed(chat);
  }
}

// How far the user has got in each chat, as this client tells it: `delivered` is
// what came here, `read` what was in view. A mark is a seq, says so of all before
// it, and only rises.
//
//  - Of many events at once only the highest is told.
//  - What was read was delivered: then only the one is told.
//  - The server makes no promise about one mark, so all are told again after each
//    welcome, resync and reload.

const MARKS_MS = 200; // the server tells the others no more often
const CHATS_MAX = 200; // whose marks are told again; beyond it the one that was still the longest is forgotten

export class Marks {
  #link;
  #marks = new Map(); // chat → {delivered, read, told: {delivered, read}}, the last moved at the end
  #timer;

  /** link is how they reach their Parley: {isOnline(), send(frame)}. saved is what toJSON() gave before a reload. */
  constructor(link, saved = {}) {
    this.#link = link;
    for (const [chat, { delivered, read }] of Object.entries(saved)) this.#raise(chat, delivered, read);
  }

  /** What JSON.stringify stores; the next page may begin with it. */
  toJSON() {
    return Object.fromEntries([...this.#marks].map(([chat, { delivered, read }]) => [chat, { delivered, read }]));
  }

  /** The seq up to which this client has said that chat was read. */
  readOf(chat) {
    return this.#marks.get(chat)?.read ?? 0;
  }

  delivered(chat, seq) {
    this.#raise(chat, seq, 0);
  }

  read(chat, seq) {
    this.#raise(chat, 0, seq);
  }

  /** Tells all of them again. */
  again() {
    for (const mark of this.#marks.values()) mark.told = { delivered: 0, read: 0 };
    this.flush();
  }

  /** The chat is not the user's any more, or is another one by now. */
  forget(chat) {
    this.#marks.delete(chat);
  }

  /** Tells now what is to be told. Without a connection nothing is: the next one is told all. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#link.isOnline()) return;
    for (const [chat, mark] of this.#marks) {
      const { delivered, read, told } = mark;
      if (read > told.read) this.#link.send({ t: 'read', chat, seq: read });
      if (delivered > told.delivered && delivered > read) this.#link.send({ t: 'delivered', chat, seq: delivered });
      mark.told = { delivered, read };
    }
  }

  #raise(chat, delivered, read) {
    const old = this.#marks.get(chat) ?? { delivered: 0, read: 0, told: { delivered: 0, read: 0 } };
    if (!(delivered > old.delivered || read > old.read)) return;
    this.#marks.delete(chat);
    this.#marks.set(chat, { ...old, delivered: Math.max(old.delivered, delivered), read: Math.max(old.read, read) });
    if (this.#marks.size > CHATS_MAX) {
      this.flush(); // before anything is forgotten it is told
      this.#marks.delete(this.#marks.keys().next().value);
    }
    this.#timer ??= setTimeout(() => this.flush(), MARKS_MS);
  }
}

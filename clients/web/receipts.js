// How far the members of a chat have got: asked for when a chat is opened, and
// kept up to date by what comes live. Marks only rise, so it does not matter which
// of the two comes first.

const MEMBERS_MAX = 256; // of a larger group nothing comes live
const CHATS_MAX = 20; // known at once; beyond it the one that was opened first is forgotten

export class Receipts extends EventTarget {
  #ask;
  #chats = new Map(); // chat → {members: Map of user → {user, delivered, read}, list: its values, isKnown}

  /** ask(frame): resolves with the answer. A `change` event {chat} tells that something is different. */
  constructor(ask) {
    super();
    this.#ask = ask;
  }

  /** What is known of chat, as [{user, delivered, read}]; nothing of a group that is too large. */
  of(chat) {
    const known = this.#chats.get(chat);
    if (!known?.isKnown) return [];
    known.list ??= [...known.members.values()];
    return known.list;
  }

  /** Has chat known, now or soon. */
  async open(chat) {
    if (this.#chats.has(chat)) return;
    const known = { members: new Map(), isKnown: false };
    this.#chats.set(chat, known);
    if (this.#chats.size > CHATS_MAX) this.#chats.delete(this.#chats.keys().next().value);
    try {
      const page = await this.#ask({ t: 'receipts', chat, limit: MEMBERS_MAX });
      if (!page.cursor) for (const receipt of page.receipts) raise(known, receipt);
      known.isKnown = !page.cursor;
    } catch {
      // Without it messages show that they were sent, until the chat is opened again.
      if (this.#chats.get(chat) === known) this.#chats.delete(chat);
    }
    this.#tell(chat);
  }

  /** What came live may have been missed: all is asked for anew when it is opened. */
  forget() {
    this.#chats.clear();
  }

  /** The server told marks of a chat. */
  told({ chat, marks }) {
    const known = this.#chats.get(chat);
    if (!known) return;
    for (const mark of marks) raise(known, mark);
    this.#tell(chat);
  }

  /** Events came at the end of a chat: who comes into a group has read what was before. */
  came(chat, events) {
    const known = this.#chats.get(chat);
    const changes = events.filter(({ event }) => event.type === 'member');
    if (!known || changes.length === 0) return;
    for (const { seq, event } of changes) {
      if (event.change === 'added') for (const user of event.users) raise(known, { user, delivered: seq, read: seq });
      if (event.change === 'removed' || event.change === 'left') for (const user of event.users) known.members.delete(user);
    }
    known.list = undefined;
    this.#tell(chat);
  }

  #tell(chat) {
    this.dispatchEvent(new CustomEvent('change', { detail: { chat } }));
  }
}

function raise(known, { user, delivered = 0, read = 0 }) {
  const old = known.members.get(user) ?? { delivered: 0, read: 0 };
  known.members.set(user, { user, delivered: Math.max(old.delivered, delivered, read), read: Math.max(old.read, read) });
  known.list = undefined;
}

/** How far the message at seq has got: to delivered, and read by, so many of `of` others. */
export function statusOf(seq, author, receipts) {
  const status = { delivered: 0, read: 0, of: 0 };
  for (const { user, delivered, read } of receipts) {
    if (user === author) continue;
    status.of++;
    if (read >= seq) status.read++;
    if (delivered >= seq || read >= seq) status.delivered++;
  }
  return status;
}

// Who is typing, in each chat: for a while after it was told, or until a message
// of that user comes.

const SHOWN_MS = 6000; // the server tells it anew each 3 s while it goes on
const TYPISTS_MAX = 100; // shown at once; one more is not

/** A `change` event {chat} tells that somebody began or ended. */
export class Typists extends EventTarget {
  #chats = new Map(); // chat → Map of user → timer

  /** Those who type in chat, in the order in which they began. */
  of(chat) {
    return [...(this.#chats.get(chat)?.keys() ?? [])];
  }

  /** The server told that user types in chat. */
  told(chat, user) {
    const timers = this.#chats.get(chat) ?? new Map();
    const isNew = !timers.has(user);
    if (isNew && this.#count >= TYPISTS_MAX) return;
    this.#chats.set(chat, timers);
    clearTimeout(timers.get(user));
    timers.set(user, setTimeout(() => this.ended(chat, user), SHOWN_MS));
    if (isNew) this.#tell(chat);
  }

  ended(chat, user) {
    const timers = this.#chats.get(chat);
    if (!timers?.has(user)) return;
    clearTimeout(timers.get(user));
    timers.delete(user);
    if (timers.size === 0) this.#chats.delete(chat);
    this.#tell(chat);
  }

  stop() {
    for (const timers of this.#chats.values()) for (const timer of timers.values()) clearTimeout(timer);
    this.#chats.clear();
  }

  get #count() {
    return [...this.#chats.values()].reduce((sum, timers) => sum + timers.size, 0);
  }

  #tell(chat) {
    this.dispatchEvent(new CustomEvent('change', { detail: { chat } }));
  }
}

/** As `bob is typing…`; nothing where nobody is. */
export function typingWords(users) {
  switch (users.length) {
    case 0:
      return '';
    case 1:
      return `${users[0]} is typing…`;
    case 2:
      return `${users[0]} and ${users[1]} are typing…`;
    default:
      return `${users.length} people are typing…`;
  }
}

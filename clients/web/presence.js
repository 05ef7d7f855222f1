// Whether users can be reached. The server tells changes of those that are watched;
// this watches whom the page shows, and no others.

const USERS_MAX = 500; // that a session may watch
const AGAIN_MS = 10_000; // after a question that was refused
const MINUTE_MS = 60_000;

const ago = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });

export class Presence extends EventTarget {
  #ask;
  #wanted = new Set();
  #watched = new Set(); // as the server has it
  #known = new Map(); // user → {status, lastSeen?}
  #isAsking = false;
  #timer;

  /** ask(frame): resolves with the answer. A `change` event tells that something is different. */
  constructor(ask) {
    super();
    this.#ask = ask;
  }

  /** {status, lastSeen?} of a user, or undefined. */
  of(user) {
    return this.#known.get(user);
  }

  /** Watches these users, as many as one may, those first that come first, and nobody else. */
  want(users) {
    this.#wanted = new Set([...users].slice(0, USERS_MAX));
    this.#sync();
  }

  /** The server told of users, in answer or by itself. */
  told({ users }) {
    for (const [user, presence] of Object.entries(users)) if (this.#wanted.has(user)) this.#known.set(user, presence);
    this.dispatchEvent(new CustomEvent('change'));
  }

  /** A session begins, or changes may have been missed: all are watched anew. */
  again() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#watched = new Set();
    this.#sync();
  }

  /** The connection is lost: nothing is known of anybody. */
  lost() {
    this.#watched = new Set();
    this.#known.clear();
    this.dispatchEvent(new CustomEvent('change'));
  }

  stop() {
    this.#wanted.clear();
    clearTimeout(this.#timer);
  }

  /** Asks one question at a time until the server watches who is wanted. */
  async #sync() {
    if (this.#isAsking || this.#timer !== undefined) return;
    this.#isAsking = true;
    for (let frame = this.#next(); frame; frame = this.#next()) {
      const watched = this.#watched; // of this session: the next one has a set of its own
      note(watched, frame, frame.t === 'watch');
      try {
        const answer = await this.#ask(frame);
        if (frame.t === 'watch' && watched === this.#watched) this.told(answer);
      } catch (error) {
        if (watched !== this.#watched) continue;
        note(watched, frame, frame.t !== 'watch');
        // The next session begins by itself.
        if (error.code !== 'disconnected') this.#timer = setTimeout(() => this.#retry(), AGAIN_MS);
        break;
      }
    }
    this.#isAsking = false;
  }

  #retry() {
    this.#timer = undefined;
    this.#sync();
  }

  /** What is to be asked, if anything. Whom nobody wants goes first, so that there is room. */
  #next() {
    const gone = [...this.#watched].filter((user) => !this.#wanted.has(user));
    for (const user of gone) this.#known.delete(user);
    if (gone.length > 0) return { t: 'unwatch', users: gone };
    const missing = [...this.#wanted].filter((user) => !this.#watched.has(user));
    return missing.length > 0 ? { t: 'watch', users: missing } : undefined;
  }
}

function note(watched, { users }, isWatched) {
  for (const user of users) isWatched ? watched.add(user) : watched.delete(user);
}

/** As `online`, `away`, `last seen 5 minutes ago`; now: in ms of the server's clock. */
export function presenceWords({ status, lastSeen }, now) {
  if (status !== 'offline') return status;
  if (!lastSeen) return 'offline';
  const minutes = Math.floor((now - Date.parse(lastSeen)) / MINUTE_MS);
  if (minutes < 1) return 'last seen just now';
  if (minutes < 60) return `last seen ${ago.format(-minutes, 'minute')}`;
  if (minutes < 24 * 60) return `last seen ${ago.format(-Math.floor(minutes / 60), 'hour')}`;
  if (minutes < 7 * 24 * 60) return `last seen ${ago.format(-Math.floor(minutes / 60 / 24), 'day')}`;
  return `last seen on ${date.format(new Date(lastSeen))}`;
}

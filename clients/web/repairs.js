// Keeps each timeline without holes: reads what is missing while live events of
// that chat wait, and applies to messages what events say.

const PAGE_EVENTS = 50;
const REPAIR_EVENTS = 200; // the most one page holds
const REPAIR_PAGES_MAX = 5; // further behind, the newest page replaces what is held
const REPAIR_WAITING_MAX = 1000; // live events kept back during a repair; more are read by another one

export class Repairs {
  #link;

  /**
   * link is how it reaches its Parley: {history(question), took(timeline, kind, events),
   * changed(timeline, items), gone(timeline), problem(chat, error), older(chat)}.
   */
  constructor(link) {
    this.#link = link;
  }

  /** An event came live. */
  arrive(timeline, item) {
    const { repair } = timeline;
    if (!repair) {
      if (timeline.misses(item)) this.mend(timeline, { first: item });
      else this.#append(timeline, [item]);
    } else if (repair.waiting.length < REPAIR_WAITING_MAX) {
      repair.waiting.push(item);
    } else {
      repair.overflowed = true;
    }
  }

  /**
   * Reads what is missing after the highest seq held, while live events wait.
   * It asks once: after that, the event that showed the gap is taken whatever
   * came back, since what is missing may be gone for good. anew: all that is held
   * is too old.
   */
  async mend(timeline, { first, anew = false } = {}) {
    const repair = { waiting: first ? [first] : [], overflowed: false };
    timeline.repair = repair;
    try {
      if (anew || !(await this.#catchUp(timeline, repair))) await this.#readAnew(timeline, repair);
    } catch (error) {
      if (error.code === 'not_member') return this.#link.gone(timeline);
      if (error.code !== 'disconnected') {
        // What is to be read anew must not stay: events of the new log could all look old.
        if (anew) this.clear(timeline);
        this.#link.problem(timeline.chat, error);
      }
    }
    if (timeline.repair !== repair) return; // the connection was lost, or another repair began
    timeline.repair = null;
    const [head, ...rest] = repair.waiting;
    if (head) this.#append(timeline, [head]);
    for (const item of rest) this.arrive(timeline, item);
    if (timeline.repair) return;
    if (repair.overflowed) this.mend(timeline);
    else if (timeline.wanted && !timeline.loaded && !anew) this.#link.older(timeline.chat);
  }

  /** Reads the page before what is held, the newest where nothing is. */
  async readOlder(timeline) {
    const { epoch, highest } = timeline;
    timeline.loading = true;
    try {
      // Without `before` it is the newest page. Live events that come meanwhile are
      // in the page too, or after it: the page holds all that came before the request.
      const page = await this.#link.history({ chat: timeline.chat, before: timeline.lowest, limit: PAGE_EVENTS });
      if (timeline.epoch !== epoch) return;
      timeline.loaded = true;
      this.#link.took(timeline, 'prepend', timeline.prepend(page.events, page.more, highest));
    } catch (error) {
      if (error.code !== 'disconnected') this.#link.problem(timeline.chat, error);
    } finally {
      timeline.loading = false;
    }
  }

  clear(timeline) {
    timeline.clear();
    this.#link.took(timeline, 'reset', []);
  }

  /** Returns false where the chat is further ahead than a client should page through. */
  async #catchUp(timeline, repair) {
    for (let pages = 0; pages < REPAIR_PAGES_MAX; pages++) {
      const page = await this.#link.history({ chat: timeline.chat, after: timeline.highest ?? 0, limit: REPAIR_EVENTS });
      if (timeline.repair !== repair) return true;
      this.#append(timeline, page.events);
      if (!page.more) return true;
    }
    return false;
  }

  /** Puts the newest page in the place of all that is held. */
  async #readAnew(timeline, repair) {
    const page = await this.#link.history({ chat: timeline.chat, limit: PAGE_EVENTS });
    if (timeline.repair !== repair) return;
    timeline.clear();
    timeline.loaded = true;
    this.#link.took(timeline, 'reset', timeline.prepend(page.events, page.more));
  }

  #append(timeline, items) {
    const added = items.filter((item) => timeline.append(item));
    const changed = new Set(added.map((item) => timeline.apply(item)));
    changed.delete(undefined);
    if (timeline.trim()) return this.#link.took(timeline, 'reset', timeline.events, added);
    this.#link.took(timeline, 'append', added);
    if (changed.size > 0) this.#link.changed(timeline, [...changed]);
  }
}

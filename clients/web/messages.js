// The list of messages of one chat, as elements. Text goes in as text only,
// so nothing that somebody wrote can become markup.

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const SHOWN_MAX = 5000; // UTF-16 units of a text shown at first: laying out a whole 100 KB takes half a second
const NEAR_PX = 80; // so close to the end, a reader is at the end

/** What a body says, in words: this page shows text. */
export function words(body) {
  switch (body?.kind) {
    case 'text':
      return body.text;
    case 'image':
      return body.text ? `[image] ${body.text}` : '[image]';
    case 'file':
      return `[file ${body.name}]${body.text ? ` ${body.text}` : ''}`;
    case 'opaque':
      return '[encrypted]';
    default:
      return '[a message that this page cannot show]';
  }
}

export class MessageList {
  #log; // the element that scrolls
  #list; // holds what the log has: messages, and a line per day
  #pending; // holds what is not in the log yet
  #drawn = new Map(); // id → {item, note}: what #pending holds, in its order
  #me;
  #act; // act(verb, id) is called for 'again' and 'discard'

  constructor({ log, list, pending, me, act }) {
    this.#log = log;
    this.#list = list;
    this.#pending = pending;
    this.#me = me;
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

  /** Draws the outbox of the chat, touching only what differs: it changes at each step of each send. */
  showPending(entries, isOnline) {
    const { isAtEnd } = this;
    const before = this.#drawn;
    this.#drawn = new Map();
    for (const entry of entries) {
      const note = pendingNote(entry, isOnline);
      const old = before.get(entry.id);
      before.delete(entry.id);
      const drawn = old?.note === note ? old : { note, item: this.#pendingItem(entry, note) };
      this.#drawn.set(entry.id, drawn);
      if (!old) this.#pending.append(drawn.item);
      else if (drawn !== old) old.item.replaceWith(drawn.item);
    }
    for (const { item } of before.values()) item.remove();
    if (isAtEnd) this.toEnd();
  }

  #fragment(items, lastDay) {
    const fragment = document.createDocumentFragment();
    for (const { seq, time, event } of items) {
      if (event.type !== 'message') continue;
      const when = new Date(time);
      const itsDay = day.format(when);
      if (itsDay !== lastDay) fragment.append(element('li', { className: 'day', textContent: itsDay }, itsDay));
      lastDay = itsDay;
      const item = this.#bubble(event.from === this.#me, event.from, event.body, when);
      item.dataset.seq = seq;
      item.dataset.day = itsDay;
      fragment.append(item);
    }
    return fragment;
  }

  #bubble(isMine, from, body, when) {
    const item = element('li', { className: isMine ? 'message mine' : 'message theirs' });
    const whole = words(body);
    const text = element('p', { className: body?.kind === 'text' ? 'text' : 'text other', textContent: beginning(whole), dir: 'auto' });
    const time = element('time', { dateTime: when.toISOString(), textContent: clock.format(when), title: full.format(when) });
    item.append(element('span', { className: 'unseen', textContent: `${isMine ? 'You' : from}: ` }), text);
    if (whole.length > SHOWN_MAX) {
      const button = element('button', { type: 'button', textContent: 'Show all of it' });
      button.onclick = () => {
        text.textContent = whole;
        button.remove();
      };
      item.append(button);
    }
    item.append(time);
    return item;
  }

  #pendingItem(entry, text) {
    const item = this.#bubble(true, this.#me, entry.body, new Date(entry.at));
    item.classList.add('pending');
    item.classList.toggle('failed', entry.state === 'failed');
    item.append(element('span', { className: 'note', textContent: text }));
    if (entry.state === 'failed') {
      for (const [verb, label] of [['again', 'Try again'], ['discard', 'Discard']]) {
        const button = element('button', { type: 'button', textContent: label });
        button.onclick = () => this.#act(verb, entry.id);
        item.append(button);
      }
    }
    return item;
  }
}

/** The part of text that is shown at first; a character of two units stays whole. */
function beginning(text) {
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX).replace(/[\uD800-\uDBFF]$/, '')}…` : text;
}

function pendingNote({ state, error }, isOnline) {
  if (state === 'failed') return `Not sent: ${error}`;
  if (state === 'acked') return 'Sent';
  return isOnline ? 'Sending…' : 'Waits for the connection';
}

function element(name, properties, itsDay) {
  const it = Object.assign(document.createElement(name), properties);
  if (itsDay) it.dataset.day = itsDay;
  return it;
}

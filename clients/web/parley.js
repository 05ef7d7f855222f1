// A model client of Parley's protocol, version 1.
//
//   const parley = new Parley({ url: 'wss://chat.example/v1/ws', token: async () => ({ token }) });
//   parley.addEventListener('timeline', ({ detail }) => draw(detail.chat, detail.kind, detail.events));
//   parley.start();
//   parley.open('direct.alice.bob');
//   parley.send('direct.alice.bob', { kind: 'text', text: 'hi' });
//
// What a client has to do, and where it is done:
//
//  1. Say hello with a token, and with the highest seq of each chat held;
//     what was missed comes as ordinary events, then `resumed`.        #hello
//  2. Drop events that are not new; fill a gap from history.           timeline.js, #repair
//  3. Send again what was not acknowledged, with the same id.          outbox.js
//  4. Renew the token before it expires.                               #renewLater
//  5. Come back after a lost connection, with growing delays, or when
//     the server says.                                                 reconnectDelay
//  6. Ignore frames and members it does not know: more will come.      #receive
//
// Events (CustomEvent, see detail):
//   state     {state, message?}       idle connecting resuming online waiting stopped
//   timeline  {chat, kind, events}    kind: append, prepend, or reset: draw timeline(chat) anew
//   outbox    {chat}                  an entry of the outbox came, went or changed
//   typing    {chat, user}
//   problem   {chat?, error}          a ParleyError that no caller is waiting for

import { Connection, ParleyError } from './connection.js';
import { Outbox } from './outbox.js';
import { Timeline } from './timeline.js';

export { ParleyError } from './connection.js';

const CHATS_MAX = 200; // held, and so resumed; beyond it the least recently used is forgotten
const PAGE_EVENTS = 50;
const REPAIR_EVENTS = 200; // the most one page holds
const REPAIR_PAGES_MAX = 5; // further behind, the newest page replaces what is held
const REPAIR_WAITING_MAX = 1000; // live events kept back during a repair; more are read by another one
const HISTORY_TRIES = 3;
const TYPING_MS = 3000; // the server passes on no more than one in that time
const RENEW_AGAIN_MS = 5000;
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
const STEADY_MS = 10_000; // a connection that lived so long was a good one
const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 30_000;

/** The chat of two users. Their order is that of bytes; names are ASCII, so that of JavaScript too. */
export function directChat(a, b) {
  return `direct.${a < b ? `${a}.${b}` : `${b}.${a}`}`;
}

/**
 * How long to wait, in ms, before the next connection: after {code, reason},
 * with failures the number of short-lived connections in a row before this one.
 * null: do not come back.
 */
export function reconnectDelay({ code, reason }, failures, random = Math.random) {
  const backoff = Math.min(BACKOFF_MS * 2 ** failures, BACKOFF_MS_MAX) * (0.5 + random() / 2);
  switch (code) {
    case 4003: // session revoked
      return null;
    case 4002: // token expired: the next hello has a new one
    case 4008: // too slow: resuming loses nothing
      return failures === 0 ? 0 : backoff;
    case 4012: // node draining: it spreads its clients by telling each its delay
      return drainDelay(reason) ?? backoff;
    case 4013: // node full: a balancer needs a moment to see it
      return Math.max(backoff, 1000);
    default:
      return backoff;
  }
}

function drainDelay(reason) {
  try {
    const { delay } = JSON.parse(reason);
    return delay >= 0 ? Math.min(delay, 60_000) : null;
  } catch {
    return null;
  }
}

export class Parley extends EventTarget {
  #url;
  #token;
  #device;
  #state = 'idle';
  #connection = null;
  #welcome = null; // of this connection
  #welcomedAt = 0; // by performance.now(): the device's clock may be wrong
  #refusal = ''; // why the server is about to close
  #endPause = () => {};
  #renewTimer;
  #timelines = new Map(); // chat → Timeline, the most recently used last
  #typedAt = new Map(); // chat → when the last typing frame went out; no more than timelines
  #outbox;

  /**
   * url: of the WebSocket. token({fresh}): resolves with {token}; fresh says
   * that the last one will not do. device: names this installation, optional.
   * saved: what JSON.stringify made of `outbox` before a reload, optional.
   */
  constructor({ url, token, device, saved }) {
    super();
    this.#url = url;
    this.#token = token;
    this.#device = device;
    this.#outbox = new Outbox(
      {
        isOnline: () => this.#state === 'online',
        request: (frame) => this.#request(frame),
        highest: (chat) => this.#timelines.get(chat)?.highest,
        mend: (chat) => this.#mend(chat),
        changed: (chat) => this.#tell('outbox', { chat }),
      },
      saved,
    );
  }

  get state() {
    return this.#state;
  }

  /** The name the server knows us by; undefined before the first welcome. */
  get user() {
    return this.#welcome?.user;
  }

  get outbox() {
    return this.#outbox;
  }

  /** The Timeline of chat: read it, leave changing it to Parley. */
  timeline(chat) {
    let timeline = this.#timelines.get(chat);
    this.#timelines.delete(chat);
    timeline ??= new Timeline(chat);
    this.#timelines.set(chat, timeline);
    if (this.#timelines.size > CHATS_MAX) {
      const oldest = this.#timelines.keys().next().value;
      this.#timelines.delete(oldest);
      this.#typedAt.delete(oldest);
    }
    return timeline;
  }

  /** Connects, and stays connected until stop() or until the session is revoked. */
  async start() {
    if (this.#state !== 'idle') return;
    let failures = 0;
    let end = { code: 0 };
    while (this.#state !== 'stopped') {
      this.#become('connecting');
      end = await this.#connectOnce(end.code === 4001 || end.code === 4002);
      if (this.#state === 'stopped') return;
      if (end.livedMs > STEADY_MS) failures = 0;
      const delay = reconnectDelay(end, failures++);
      if (delay === null) return this.#become('stopped', 'This session was ended from elsewhere.');
      this.#become('waiting', this.#refusal || end.reason);
      await this.#pause(delay, end.code);
    }
  }

  stop() {
    this.#become('stopped');
    this.#endPause();
    this.#connection?.end(1000);
  }

  /** The network is back, or the person is: wait no longer, unless the server asked to. */
  wake() {
    if (this.#state === 'waiting') this.#endPause('woken');
  }

  /** Shows interest in chat: its newest page is read, now and whenever it has to be read anew. */
  open(chat) {
    const timeline = this.timeline(chat);
    timeline.wanted = true;
    if (!timeline.loaded) this.older(chat);
  }

  /** Reads the page before what is held of chat; a 'timeline' event brings it. */
  async older(chat) {
    const timeline = this.timeline(chat);
    const { epoch } = timeline;
    if (!timeline.more || timeline.full || timeline.loading || timeline.repair || this.#state !== 'online') return;
    timeline.loading = true;
    try {
      // Without `before` it is the newest page. Live events that come meanwhile are
      // in the page too, or after it: the page holds all that came before the request.
      const page = await this.#history({ chat, before: timeline.lowest, limit: PAGE_EVENTS });
      if (timeline.epoch !== epoch) return;
      timeline.loaded = true;
      this.#took(timeline, 'prepend', timeline.prepend(page.events, page.more));
    } catch (error) {
      if (error.code !== 'disconnected') this.#tell('problem', { chat, error });
    } finally {
      timeline.loading = false;
    }
  }

  /** Sends body to chat, now or when there is a connection; returns its id. Throws a ParleyError where it cannot. */
  send(chat, body) {
    const bytes = new TextEncoder().encode(JSON.stringify(body)).length;
    const bytesMax = this.#welcome?.bodyBytesMax ?? 102_400;
    if (bytes > bytesMax) {
      throw new ParleyError('too_large', `This message has ${bytes} bytes. The most is ${bytesMax}.`);
    }
    return this.#outbox.add(chat, body);
  }

  /** Call it at each key: only so many frames go out as will be passed on. */
  typing(chat) {
    const now = performance.now();
    if (this.#state !== 'online' || now - (this.#typedAt.get(chat) ?? -Infinity) < TYPING_MS) return;
    this.#typedAt.set(chat, now);
    this.#connection.send({ t: 'typing', chat });
  }

  // ── The life of a connection ──

  /** One connection, from its token to its end: {code, reason, livedMs}. */
  async #connectOnce(fresh) {
    let token;
    try {
      ({ token } = await this.#token({ fresh }));
    } catch (error) {
      this.#refusal = '';
      return { code: 0, reason: error.message, livedMs: 0 };
    }
    if (this.#state === 'stopped') return {};
    this.#refusal = '';
    this.#welcomedAt = Infinity;
    this.#connection = new Connection(this.#url, (connection) => this.#hello(connection, token), (frame) => this.#receive(frame));
    const end = await this.#connection.ended;
    this.#connection = null;
    clearTimeout(this.#renewTimer);
    for (const timeline of this.#timelines.values()) timeline.repair = null; // the resume mends it
    return { ...end, livedMs: performance.now() - this.#welcomedAt };
  }

  /** resume is sent though it is empty: then `resumed` says that nothing more is to come. */
  #hello(connection, token) {
    const held = [...this.#timelines.values()].filter((timeline) => timeline.highest !== null);
    const resume = Object.fromEntries(held.map((timeline) => [timeline.chat, timeline.highest]));
    connection.send({ t: 'hello', token, device: this.#device, resume });
  }

  #receive(frame) {
    switch (frame.t) {
      case 'welcome':
        return this.#welcomed(frame);
      case 'event':
        return this.#arrive(this.timeline(frame.chat), frame);
      case 'resumed':
        return this.#resumed(frame);
      case 'resync':
        // The edge may have missed something, and only we know what we hold.
        return this.#mendAll();
      case 'typing':
        return this.#tell('typing', { chat: frame.chat, user: frame.user });
      case 'error':
        this.#refusal = frame.message;
        return this.#tell('problem', { error: new ParleyError(frame.code, frame.message, frame.retryAfter) });
    }
  }

  #welcomed(welcome) {
    this.#welcome = welcome;
    this.#welcomedAt = performance.now();
    this.#connection.keepAlive(welcome.heartbeat);
    this.#renewLater(welcome.expires);
    this.#become('resuming');
  }

  /** All that was missed has come, save the chats under reset: those got nothing. */
  #resumed({ reset }) {
    this.#become('online');
    for (const { chat, reason } of reset ?? []) {
      const timeline = this.timeline(chat);
      if (reason === 'not_member') {
        timeline.wanted = false;
        this.#clear(timeline);
      } else {
        // gap: too much was missed · ahead: the log is another one
        this.#repair(timeline, { anew: true });
      }
    }
    // A copy: using a timeline moves it to the end of the map.
    for (const timeline of [...this.#timelines.values()]) {
      if (timeline.wanted && !timeline.loaded) this.older(timeline.chat);
    }
    this.#outbox.resume();
  }

  /** The server's clock decides when a token expires, so its time is counted from the welcome. */
  #renewLater(expires) {
    const serverNow = Date.parse(this.#welcome.now) + (performance.now() - this.#welcomedAt);
    const left = Date.parse(expires) - serverNow;
    const wait = Math.max(left * 0.8, left - 60_000); // a minute before the end, or a fifth
    const connection = this.#connection;
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => {
      if (wait > TIMEOUT_MS_MAX) this.#renewLater(expires);
      else this.#renew(connection, expires);
    }, Math.min(wait, TIMEOUT_MS_MAX));
  }

  async #renew(connection, expires) {
    try {
      const { token } = await this.#token({ fresh: true });
      ({ expires } = await connection.request({ t: 'renew', token }));
      if (connection === this.#connection) this.#renewLater(expires);
    } catch {
      // Ends with the connection: without a new token it is closed with 4002.
      if (connection !== this.#connection) return;
      this.#renewTimer = setTimeout(() => this.#renew(connection, expires), RENEW_AGAIN_MS);
    }
  }

  /** Waits; wake() shortens it where no server has asked for the delay. */
  #pause(ms, code) {
    const isAsked = code === 4012 || code === 4013;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endPause = (why) => {
        if (why === 'woken' && isAsked) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // ── Events, gaps and repairs ──

  /** An event came live. */
  #arrive(timeline, item) {
    const { repair } = timeline;
    if (!repair) {
      if (timeline.misses(item)) this.#repair(timeline, { first: item });
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
   * came back, since what is missing may be gone for good.
   */
  async #repair(timeline, { first, anew = false }) {
    const repair = { waiting: first ? [first] : [], overflowed: false };
    timeline.repair = repair;
    try {
      if (anew || !(await this.#catchUp(timeline, repair))) await this.#readAnew(timeline, repair);
    } catch (error) {
      if (error.code !== 'disconnected') {
        // What is to be read anew must not stay: events of the new log could all look old.
        if (anew) this.#clear(timeline);
        this.#tell('problem', { chat: timeline.chat, error });
      }
    }
    if (timeline.repair !== repair) return; // the connection was lost, or another repair began
    timeline.repair = null;
    const [head, ...rest] = repair.waiting;
    if (head) this.#append(timeline, [head]);
    for (const item of rest) this.#arrive(timeline, item);
    if (timeline.repair) return;
    if (repair.overflowed) this.#repair(timeline, {});
    else if (timeline.wanted && !timeline.loaded && !anew) this.older(timeline.chat);
  }

  /** Returns false where the chat is further ahead than a client should page through. */
  async #catchUp(timeline, repair) {
    for (let pages = 0; pages < REPAIR_PAGES_MAX; pages++) {
      const page = await this.#history({ chat: timeline.chat, after: timeline.highest ?? 0, limit: REPAIR_EVENTS });
      if (timeline.repair !== repair) return true;
      this.#append(timeline, page.events);
      if (!page.more) return true;
    }
    return false;
  }

  /** Puts the newest page in the place of all that is held. */
  async #readAnew(timeline, repair) {
    const page = await this.#history({ chat: timeline.chat, limit: PAGE_EVENTS });
    if (timeline.repair !== repair) return;
    timeline.clear();
    timeline.loaded = true;
    this.#took(timeline, 'reset', timeline.prepend(page.events, page.more));
  }

  #mend(chat) {
    const timeline = this.#timelines.get(chat);
    const isUp = this.#state === 'online' || this.#state === 'resuming';
    if (isUp && timeline && timeline.highest !== null && !timeline.repair) this.#repair(timeline, {});
  }

  #mendAll() {
    for (const chat of [...this.#timelines.keys()]) this.#mend(chat);
  }

  #append(timeline, items) {
    const added = items.filter((item) => timeline.append(item));
    if (timeline.trim()) this.#took(timeline, 'reset', timeline.events);
    else this.#took(timeline, 'append', added);
  }

  #took(timeline, kind, events) {
    for (const { event } of events) if (event.from === this.user) this.#outbox.confirm(event.id);
    this.#outbox.settle(timeline.chat, timeline.highest);
    if (events.length > 0 || kind !== 'append') this.#tell('timeline', { chat: timeline.chat, kind, events });
  }

  #clear(timeline) {
    timeline.clear();
    this.#tell('timeline', { chat: timeline.chat, kind: 'reset', events: [] });
  }

  // ── Asking ──

  #request(frame) {
    return this.#connection?.request(frame) ?? Promise.reject(new ParleyError('disconnected', 'There is no connection.'));
  }

  /** Asks for a page, again where the server says that this can help. */
  async #history(question) {
    const connection = this.#connection;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#request({ t: 'history', ...question });
      } catch (error) {
        if (!(error.retryAfter > 0) || tries === HISTORY_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
        // The next connection resumes and asks for itself.
        if (connection !== this.#connection) throw new ParleyError('disconnected', 'The connection was lost.');
      }
    }
  }

  // ── Telling ──

  #become(state, message) {
    if (this.#state === 'stopped' || (state === this.#state && !message)) return;
    this.#state = state;
    this.#tell('state', { state, message });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

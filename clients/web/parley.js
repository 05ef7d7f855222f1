// A model client of Parley's protocol, version 1.
//
//   const parley = new Parley({ url: 'wss://chat.example/v1/ws', token: async () => ({ token }) });
//   parley.addEventListener('timeline', ({ detail }) => draw(detail.chat, detail.kind, detail.events));
//   parley.start();
//   parley.open('direct.alice.bob');
//   parley.send('direct.alice.bob', { body: { kind: 'text', text: 'hi' } });
//   const { chats } = await parley.ask({ t: 'chats' });
//
// What a client has to do, and where it is done:
//
//  1. Say hello with a token, and with the highest seq of each chat held;
//     what was missed comes as ordinary events, then `resumed`.        #hello
//  2. Drop events that are not new; fill a gap from history.           timeline.js, repairs.js
//  3. Do to messages what edits, deletes, reactions and pins say, and
//     let go of what disappears.                                       fold.js, #expire
//  4. Send again what was not acknowledged, with the same id.          outbox.js
//  5. Hold the chats that one is added to, and no other.               #chatChanged
//  6. Tell what has come and what was read, again in each session.     marks.js
//  7. Renew the token before it expires.                               renewal.js
//  8. Come back after a lost connection, with growing delays, or when
//     the server says.                                                 reconnect.js
//  9. Ignore frames and members it does not know: more will come.      #receive
//
// Events (CustomEvent, see detail):
//   state     {state, message?}       idle connecting resuming online waiting stopped
//   timeline  {chat, kind, events}    kind: append, prepend, change, gone, or reset: draw timeline(chat) anew
//   came      {chat, events}          what is new at the end of a chat, shown or not
//   chat      {chat, change, …}       something of a chat changed for its user, as the server tells it
//   missed    {}                      what was asked for may be old, and nothing is watched: ask again
//   outbox    {chat}                  an entry of the outbox came, went or changed
//   typing    {chat, user}            for some seconds
//   receipt   {chat, marks}           how far others have got, or the user elsewhere
//   presence  {users}                 of those that were watched by ask
//   problem   {chat?, error}          a ParleyError that no caller is waiting for

import { Connection, ParleyError } from './connection.js';
import { Marks } from './marks.js';
import { Outbox } from './outbox.js';
import { reconnectDelay } from './reconnect.js';
import { Renewal } from './renewal.js';
import { Repairs } from './repairs.js';
import { Timeline } from './timeline.js';

export { ParleyError } from './connection.js';

const CHATS_MAX = 200; // held, and so resumed; beyond it the least recently used is forgotten
const ASK_TRIES = 3;
const TYPING_MS = 3000; // the server passes on no more than one in that time
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
const STEADY_MS = 10_000; // a connection that lived so long was a good one

export class Parley extends EventTarget {
  #url;
  #token;
  #device;
  #state = 'idle';
  #connection = null;
  #welcome = null; // of this connection
  #welcomedAt = 0; // by performance.now(): the device's clock may be wrong
  #clock = Date.now() - performance.now(); // added to performance.now() it is the server's clock
  #expiryTimer;
  #refusal = ''; // why the server is about to close
  #endPause = () => {};
  #timelines = new Map(); // chat → Timeline, the most recently used last
  #typedAt = new Map(); // chat → when the last typing frame went out; no more than timelines
  #outbox;
  #marks;
  #repairs;
  #renewal;

  /**
   * url: of the WebSocket. token({fresh}): resolves with {token}; fresh says
   * that the last one will not do. device: names this installation, optional.
   * saved, savedMarks: what JSON.stringify made of `outbox` and `marks` before a reload, optional.
   */
  constructor({ url, token, device, saved, savedMarks }) {
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
        problem: (chat, error) => this.#tell('problem', { chat, error }),
      },
      saved,
    );
    this.#marks = new Marks({ isOnline: () => this.#state === 'online', send: (frame) => this.#connection?.send(frame) }, savedMarks);
    this.#renewal = new Renewal({ now: () => this.now(), token });
    this.#repairs = new Repairs({
      history: (question) => this.ask({ t: 'history', ...question }),
      took: (timeline, kind, events, added) => this.#took(timeline, kind, events, added),
      changed: ({ chat }, items) => this.#tell('timeline', { chat, kind: 'change', events: items }),
      gone: ({ chat }) => this.#chatChanged({ chat, change: 'removed' }),
      problem: (chat, error) => this.#tell('problem', { chat, error }),
      older: (chat) => this.older(chat),
    });
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

  /** The Marks of the user: `read` is for who shows a chat to call, what came is told without it. */
  get marks() {
    return this.#marks;
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
    clearTimeout(this.#expiryTimer);
    this.#endPause();
    this.#connection?.end(1000);
  }

  /** The page goes away. A browser that keeps it has it connect again by itself when it is back. */
  hangUp() {
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
  older(chat) {
    const timeline = this.timeline(chat);
    if (!timeline.more || timeline.full || timeline.loading || timeline.repair || this.#state !== 'online') return;
    this.#repairs.readOlder(timeline);
  }

  /**
   * Says what in chat, now or when there is a connection: {body, replyTo?, ttl?},
   * or with another type {type, target, …}. Returns its id. Throws a ParleyError
   * where it cannot.
   */
  send(chat, what) {
    const bytes = new TextEncoder().encode(JSON.stringify(what.body ?? {})).length;
    const bytesMax = this.#welcome?.bodyBytesMax ?? 102_400;
    if (bytes > bytesMax) {
      throw new ParleyError('too_large', `This message has ${bytes} bytes. The most is ${bytesMax}.`);
    }
    return this.#outbox.add(chat, { type: 'message', ...what });
  }

  /** Asks anything else; resolves with the answer, rejects with a ParleyError. Where the server says that this can help, it asks again. */
  async ask(frame) {
    const connection = this.#connection;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#request(frame);
      } catch (error) {
        if (!(error.retryAfter > 0) || tries === ASK_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
        // The next connection resumes and asks for itself.
        if (connection !== this.#connection) throw new ParleyError('disconnected', 'The connection was lost.');
      }
    }
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
    this.#renewal.stop();
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
        return this.#repairs.arrive(this.timeline(frame.chat), frame);
      case 'chat':
        return this.#chatChanged(frame);
      case 'resumed':
        return this.#resumed(frame);
      case 'resync':
        // The edge may have missed something, and only we know what we hold.
        this.#mendAll();
        return this.#missed();
      case 'typing':
        return this.#tell('typing', { chat: frame.chat, user: frame.user });
      case 'receipt':
        return this.#tell('receipt', { chat: frame.chat, marks: frame.marks });
      case 'presence':
        return this.#tell('presence', { users: frame.users });
      case 'error':
        if (this.#state === 'online') return undefined; // of a mark or of typing: nobody waits for it
        this.#refusal = frame.message;
        return this.#tell('problem', { error: new ParleyError(frame.code, frame.message, frame.retryAfter) });
    }
  }

  #welcomed(welcome) {
    this.#welcome = welcome;
    this.#welcomedAt = performance.now();
    this.#clock = Date.parse(welcome.now) - this.#welcomedAt;
    this.#connection.keepAlive(welcome.heartbeat);
    this.#renewal.begin(this.#connection, welcome.expires);
    this.#become('resuming');
  }

  /** All that was missed has come, save the chats under reset: those got nothing. */
  #resumed({ reset }) {
    this.#become('online');
    for (const { chat, reason } of reset ?? []) {
      const timeline = this.timeline(chat);
      // gap: too much was missed · ahead: the log is another one
      if (reason === 'ahead') this.#marks.forget(chat);
      if (reason === 'not_member') this.#chatChanged({ chat, change: 'removed' });
      else this.#repairs.mend(timeline, { anew: true });
    }
    // A copy: using a timeline moves it to the end of the map.
    for (const timeline of [...this.#timelines.values()]) {
      if (timeline.wanted && !timeline.loaded) this.older(timeline.chat);
    }
    this.#outbox.resume();
    this.#missed();
  }

  #missed() {
    this.#marks.again();
    this.#tell('missed', {});
  }

  /** A chat that one is added to is held, and so resumed, from there on; one that one is taken out of is not. */
  #chatChanged(frame) {
    if (frame.change === 'added') this.timeline(frame.chat).beginAt(frame.seq);
    if (frame.change === 'removed') {
      const timeline = this.#timelines.get(frame.chat);
      this.#timelines.delete(frame.chat);
      if (timeline) this.#repairs.clear(timeline);
      this.#marks.forget(frame.chat);
    }
    this.#tell('chat', frame);
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

  // ── Events ──

  #mend(chat) {
    const timeline = this.#timelines.get(chat);
    const isUp = this.#state === 'online' || this.#state === 'resuming';
    if (isUp && timeline && timeline.highest !== null && !timeline.repair) this.#repairs.mend(timeline);
  }

  #mendAll() {
    for (const chat of [...this.#timelines.keys()]) this.#mend(chat);
  }

  #took(timeline, kind, events, added = kind === 'append' ? events : []) {
    const { chat } = timeline;
    for (const { event } of events) if (event.from === this.user) this.#outbox.confirm(event.id);
    this.#outbox.settle(chat, timeline.highest);
    this.#delivered(chat, events.at(-1));
    if (events.length > 0 || kind !== 'append') this.#tell('timeline', { chat, kind, events });
    if (added.length > 0) this.#tell('came', { chat, events: added });
    if (events.some(({ event }) => event.ttl > 0)) this.#expire();
  }

  /** A message of the user's own has moved the marks already. */
  #delivered(chat, newest) {
    const isOwn = newest?.event.type === 'message' && newest.event.from === this.user;
    if (newest && !isOwn) this.#marks.delivered(chat, newest.seq);
  }

  /** Lets go of what has disappeared, now and whenever the next does. */
  #expire() {
    clearTimeout(this.#expiryTimer);
    if (this.#state === 'stopped') return;
    let next = Infinity;
    for (const timeline of [...this.#timelines.values()]) {
      const gone = timeline.expire(this.now());
      if (gone.length > 0) this.#tell('timeline', { chat: timeline.chat, kind: 'gone', events: gone });
      next = Math.min(next, timeline.nextExpiry);
    }
    if (next === Infinity) return;
    this.#expiryTimer = setTimeout(() => this.#expire(), Math.min(Math.max(next - this.now(), 0) + 1, TIMEOUT_MS_MAX));
  }

  /** The server's clock, in ms. */
  now() {
    return this.#clock + performance.now();
  }

  // ── Asking ──

  #request(frame) {
    return this.#connection?.request(frame) ?? Promise.reject(new ParleyError('disconnected', 'There is no connection.'));
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

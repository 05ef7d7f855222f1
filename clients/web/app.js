// The page. Who one is and with whom one chats stands in the address, as
// #alice/bob: so each window is somebody of its own, a reload changes nothing,
// and the browser's back button works.

import { MessageList, words } from './messages.js';
import { Parley, directChat } from './parley.js';

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const NAME_RULE = 'A name has 1 to 64 of the letters A–Z, digits, _ and -.';
const PARTNERS_MAX = 200; // the least recent is forgotten
const TYPING_SHOWN_MS = 5000; // a little more than the time between two typing frames
const SAVE_MS = 200; // between what is written to the outbox and its copy for a reload
const OLDER_PX = 300; // so close to the top, the page before is read

const $ = (id) => document.getElementById(id);

/** One user in this window: a Parley, whom they chat with, and which chat is shown. */
class Session {
  constructor(user) {
    this.user = user;
    this.partner = null; // whose chat is shown
    this.view = null; // its MessageList
    this.partners = load(`parley.partners.${user}`) ?? []; // the most recent first
    this.unread = new Map(); // partner → messages that came unseen
    this.drafts = new Map(); // partner → what is written and not sent
    this.isAtEnd = true; // the newest message was in view when the person last scrolled
    this.typingTimer = undefined;
    this.saveTimer = undefined;
    this.parley = new Parley({ url: socketURL(), token: () => introduce(user), saved: load(`parley.outbox.${user}`) });
    this.parley.addEventListener('state', ({ detail }) => this.showState(detail));
    this.parley.addEventListener('timeline', ({ detail }) => this.timelineChanged(detail));
    this.parley.addEventListener('outbox', ({ detail }) => this.outboxChanged(detail));
    this.parley.addEventListener('typing', ({ detail }) => this.showTyping(detail));
    this.parley.addEventListener('problem', ({ detail }) => this.showProblem(detail.error.message));
    $('me').textContent = user;
    this.drawPartners();
    this.parley.start();
  }

  get chat() {
    return this.partner && directChat(this.user, this.partner);
  }

  // ── Whom one chats with ──

  show(partner) {
    if (this.partner) this.drafts.set(this.partner, $('text').value);
    this.partner = partner;
    $('chat').hidden = !partner;
    $('nobody').hidden = !!partner;
    $('app').classList.toggle('in-chat', !!partner);
    this.stopTyping();
    this.showProblem('');
    if (partner) this.showChat(partner);
    this.drawPartners();
  }

  showChat(partner) {
    const isSelf = partner === this.user;
    $('title').textContent = isSelf ? `${partner} (notes to yourself)` : partner;
    $('back').href = `#${this.user}`;
    $('log').setAttribute('aria-label', `Messages with ${partner}`);
    $('text').value = this.drafts.get(partner) ?? '';
    $('newest').hidden = true;
    this.unread.delete(partner);
    this.meet(partner);
    this.view = new MessageList({
      log: $('log'),
      list: $('messages'),
      pending: $('pending'),
      me: this.user,
      act: (verb, id) => this.parley.outbox[verb](id),
    });
    this.view.reset(this.parley.timeline(this.chat).events);
    this.outboxChanged({ chat: this.chat });
    this.isAtEnd = true;
    this.view.toEnd();
    this.drawTop();
    this.parley.open(this.chat);
    if (!matchMedia('(pointer: coarse)').matches) $('text').focus();
  }

  meet(partner) {
    this.partners = [partner, ...this.partners.filter((other) => other !== partner)].slice(0, PARTNERS_MAX);
    save(`parley.partners.${this.user}`, this.partners);
  }

  drawPartners() {
    const items = this.partners.map((partner) => {
      const link = Object.assign(document.createElement('a'), { href: `#${this.user}/${partner}`, textContent: partner });
      if (partner === this.partner) link.setAttribute('aria-current', 'page');
      const count = this.unread.get(partner);
      if (count) {
        const badge = Object.assign(document.createElement('span'), { className: 'badge', textContent: count });
        badge.append(Object.assign(document.createElement('span'), { className: 'unseen', textContent: ' unread' }));
        link.append(badge);
      }
      const item = document.createElement('li');
      item.append(link);
      return item;
    });
    $('partners').replaceChildren(...items);
    const total = [...this.unread.values()].reduce((sum, count) => sum + count, 0);
    document.title = `${total ? `(${total}) ` : ''}${this.partner ?? this.user} · Parley`;
  }

  // ── What Parley tells ──

  timelineChanged({ chat, kind, events }) {
    if (kind === 'append') this.notice(chat, events);
    if (chat !== this.chat) return;
    if (kind === 'reset') this.view.reset(this.parley.timeline(chat).events);
    if (kind === 'prepend') this.view.prepend(events);
    if (kind === 'append') {
      const isMine = events.at(-1).event.from === this.user;
      if (!this.view.append(events) && !isMine) $('newest').hidden = false;
      if (isMine) this.view.toEnd();
    }
    this.drawTop();
  }

  /** Tells of what others wrote: to screen readers, in the list, in the title. */
  notice(chat, events) {
    const theirs = events.filter(({ event }) => event.from !== this.user && event.type === 'message');
    if (theirs.length === 0) return;
    const { event } = theirs.at(-1);
    if (chat === this.chat) this.stopTyping();
    $('spoken').textContent = `${event.from}: ${words(event.body).slice(0, 300)}`;
    if (chat === this.chat && !document.hidden) return;
    this.unread.set(event.from, (this.unread.get(event.from) ?? 0) + theirs.length);
    if (chat !== this.chat) this.meet(event.from);
    this.drawPartners();
  }

  outboxChanged({ chat }) {
    this.saveTimer ??= setTimeout(() => this.saveOutbox(), SAVE_MS);
    if (chat === this.chat) this.view.showPending(this.parley.outbox.of(chat), this.parley.state === 'online');
  }

  /** The outbox changes at each step of each send, and may be large: so it is not saved at each. */
  saveOutbox() {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    save(`parley.outbox.${this.user}`, this.parley.outbox);
  }

  showState({ state, message }) {
    const sentences = {
      connecting: 'Connecting…',
      resuming: 'Catching up…',
      online: 'Connected',
      waiting: `Not connected${message ? `: ${message}` : ''}. Trying again…`,
      stopped: message ?? 'Stopped',
    };
    $('state').textContent = sentences[state];
    $('state').dataset.state = state;
    $('trouble').textContent = state === 'online' ? '' : sentences[state]; // where the list is not in view
    if (state === 'online') this.showProblem('');
    if (this.partner) {
      this.outboxChanged({ chat: this.chat });
      this.drawTop();
    }
  }

  showTyping({ chat, user }) {
    if (chat !== this.chat || user === this.user) return;
    $('typing').textContent = `${user} is typing…`;
    clearTimeout(this.typingTimer);
    this.typingTimer = setTimeout(() => this.stopTyping(), TYPING_SHOWN_MS);
  }

  stopTyping() {
    clearTimeout(this.typingTimer);
    $('typing').textContent = '';
  }

  showProblem(sentence) {
    $('problem').textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
    $('problem').hidden = !sentence;
  }

  // ── What the person does ──

  send() {
    const text = $('text').value;
    if (!this.partner || text.trim() === '') return;
    try {
      this.parley.send(this.chat, { kind: 'text', text });
    } catch (error) {
      return this.showProblem(error.message); // the text stays, to be shortened
    }
    $('text').value = '';
    this.showProblem('');
    this.view.toEnd();
  }

  scrolled() {
    if (!this.partner) return;
    this.isAtEnd = this.view.isAtEnd;
    if (this.isAtEnd) $('newest').hidden = true;
    if ($('log').scrollTop < OLDER_PX) this.parley.older(this.chat);
  }

  /** A keyboard came up, or the window was turned: who saw the newest message goes on seeing it. */
  resized() {
    if (this.partner && this.isAtEnd) this.view.toEnd();
  }

  /** What stands above the first message: that there are more, or that this is where it begins. */
  drawTop() {
    const timeline = this.parley.timeline(this.chat);
    const isOnline = this.parley.state === 'online';
    $('older').hidden = !(timeline.more && !timeline.full && isOnline);
    $('beginning').hidden = timeline.more && !timeline.full;
    $('beginning').textContent = timeline.full
      ? 'This page holds no more messages.'
      : `This is the beginning of your chat with ${this.partner === this.user ? 'yourself' : this.partner}.`;
    // A page that does not fill the log leaves nothing to scroll.
    if (timeline.loaded && $('log').scrollHeight <= $('log').clientHeight) this.parley.older(this.chat);
  }

  /** Ends it; what still comes of it is drawn nowhere. */
  stop() {
    this.partner = null;
    this.parley.stop();
    this.saveOutbox();
    this.stopTyping();
  }
}

let session = null;

function route() {
  const [user, partner] = location.hash.slice(1).split('/');
  const isKnown = NAME.test(user);
  $('enter').hidden = isKnown;
  $('app').hidden = !isKnown;
  if (session?.user !== user) {
    session?.stop();
    session = isKnown ? new Session(user) : null;
  }
  if (session) return session.show(NAME.test(partner ?? '') ? partner : null);
  document.title = 'Parley';
  $('name').focus();
}

/** Reads a name from input, or says what is wrong with it. */
function nameFrom(input) {
  const name = input.value.trim();
  input.setCustomValidity(NAME.test(name) ? '' : NAME_RULE);
  return input.reportValidity() ? name : null;
}

function socketURL() {
  const url = new URL('/v1/ws', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.hash = '';
  return url.href;
}

/**
 * The token for the next connection. The cookie has a proxy send all devices of
 * a user to one edge; it proves nothing. All windows share it, so it is set
 * anew just before each connection: at worst that goes to another edge.
 */
async function introduce(user) {
  const answer = await devToken(user);
  const secure = location.protocol === 'https:' ? '; Secure' : '';
  document.cookie = `parley_user=${user}; Path=/v1/ws; SameSite=Strict${secure}`;
  return answer;
}

/** A development server gives anybody a token for any name. */
async function devToken(user) {
  let response;
  try {
    response = await fetch('/dev/token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ user }),
      signal: AbortSignal.timeout(10_000),
    });
  } catch {
    throw new Error('the server does not answer');
  }
  const answer = await response.json().catch(() => ({ message: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

// sessionStorage belongs to one window. It may be full or forbidden: then a reload forgets.
function save(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {}
}

function load(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? undefined;
  } catch {
    return undefined;
  }
}

for (const id of ['name', 'partner']) $(id).addEventListener('input', () => $(id).setCustomValidity(''));
$('enter-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameFrom($('name'));
  if (name) location.hash = name;
});
$('find').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameFrom($('partner'));
  if (!name) return;
  $('partner').value = '';
  location.hash = `${session.user}/${name}`;
});
$('compose').addEventListener('submit', (event) => {
  event.preventDefault();
  session.send();
  $('text').focus();
});
$('text').addEventListener('keydown', (event) => {
  // While a word is being composed, Enter belongs to the input method; on a phone it begins a line.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
  event.preventDefault();
  session.send();
});
$('text').addEventListener('input', () => {
  if ($('text').value) session.parley.typing(session.chat);
});
$('log').addEventListener('scroll', () => session?.scrolled(), { passive: true });
$('older').addEventListener('click', () => session.parley.older(session.chat));
$('newest').addEventListener('click', () => session.view.toEnd());
new ResizeObserver(() => session?.resized()).observe($('log'));
addEventListener('hashchange', route);
addEventListener('pagehide', () => session?.saveOutbox());
addEventListener('online', () => session?.parley.wake());
document.addEventListener('visibilitychange', () => {
  if (document.hidden || !session) return;
  session.parley.wake();
  if (session.unread.delete(session.partner)) session.drawPartners();
});
route();

// One user in this window: a Parley, the list of chats, and the chat that is shown.

import { administers, Details, NewGroup } from './details.js';
import { beginning } from './bubble.js';
import { ChatList } from './chatlist.js';
import { Composer } from './composer.js';
import { drawHeading, drawTyping } from './heading.js';
import { MessageList } from './messages.js';
import { address, isGroup, partner } from './names.js';
import { Parley } from './parley.js';
import { Presence } from './presence.js';
import { Readers } from './readers.js';
import { Receipts, statusOf } from './receipts.js';
import { Settings } from './settings.js';
import { drawChats } from './sidebar.js';
import { load, save } from './storage.js';
import { introduce, socketURL } from './token.js';
import { Typists } from './typing.js';
import { itemWords, notice, words } from './words.js';

const SAVE_MS = 200; // between what is written to the outbox and its copy for a reload
const MINUTE_MS = 60_000; // after which `last seen 5 minutes ago` is another
const OLDER_PX = 300; // so close to the top, the page before is read

const $ = (id) => document.getElementById(id);

export class Session {
  constructor(user) {
    this.user = user;
    this.chat = null; // which is shown
    this.view = null; // its MessageList
    this.awaited = null; // a group that was made here, to be shown when it is there
    this.isAtEnd = true; // the newest message was in view when the person last scrolled
    this.saveTimer = undefined;
    this.lastTimer = undefined; // when the list looks different by itself
    this.isToDraw = false;
    this.parley = new Parley({ url: socketURL(), token: () => introduce(user), saved: load(`parley.outbox.${user}`), savedMarks: load(`parley.marks.${user}`) });
    const ask = (frame) => this.parley.ask(frame);
    this.list = new ChatList(user, ask, this.parley.marks);
    this.receipts = new Receipts(ask);
    this.presence = new Presence(ask);
    this.typists = new Typists();
    this.composer = new Composer($);
    const host = { me: user, list: this.list, ask, title: (chat) => this.title(chat), created: (chat) => this.created(chat) };
    this.details = new Details($, host);
    this.newGroup = new NewGroup($, host);
    this.readers = new Readers($, { me: user, receipts: () => this.receipts.of(this.chat) });
    this.settings = new Settings($, { me: user, ask, receiptsChanged: () => this.#askReceipts() });
    this.#listen();
    $('me').textContent = user;
    this.listChanged();
    this.parley.start();
  }

  #listen() {
    const on = (type, what) => this.parley.addEventListener(type, ({ detail }) => what(detail));
    on('state', (state) => this.showState(state));
    on('timeline', (change) => this.timelineChanged(change));
    on('came', (news) => this.came(news));
    on('chat', (frame) => this.chatChanged(frame));
    on('missed', () => this.missed());
    on('outbox', ({ chat }) => this.outboxChanged(chat));
    on('typing', ({ chat, user }) => user !== this.user && this.typists.told(chat, user));
    on('receipt', (frame) => this.receiptTold(frame));
    on('presence', (frame) => this.presence.told(frame));
    on('problem', ({ error }) => this.showProblem(error.message));
    this.list.addEventListener('change', () => this.listChanged());
    this.presence.addEventListener('change', () => this.listChanged());
    this.receipts.addEventListener('change', ({ detail }) => detail.chat === this.chat && this.drawReceipts());
    this.typists.addEventListener('change', ({ detail }) => detail.chat === this.chat && this.drawTyping());
  }

  /** What people call a chat. */
  title(chat) {
    if (isGroup(chat)) return this.list.get(chat)?.name ?? chat.slice('group.'.length);
    const other = partner(chat, this.user);
    return other === this.user ? `${other} (notes to yourself)` : other;
  }

  // ── Which chat is shown ──

  show(chat = null) {
    this.composer.show(chat);
    this.chat = chat;
    $('chat').hidden = !chat;
    $('nobody').hidden = !!chat;
    $('app').classList.toggle('in-chat', !!chat);
    this.details.close();
    this.readers.close();
    this.drawTyping();
    this.showProblem('');
    if (chat) this.#showChat(chat);
    this.listChanged();
  }

  #showChat(chat) {
    $('told').textContent = '';
    $('back').href = `#${this.user}`;
    $('newest').hidden = true;
    this.view = new MessageList({
      log: $('log'),
      list: $('messages'),
      pending: $('pending'),
      room: {
        me: this.user,
        isGroup: isGroup(chat),
        canModerate: () => administers(this.list.get(chat)?.role),
        at: (seq) => this.parley.timeline(chat).at(seq),
        act: (verb, item, value) => this.act(verb, item, value),
        status: (item) => statusOf(item.seq, this.user, this.receipts.of(chat)),
        readers: (item) => {
          this.view.closeActions();
          this.readers.open(item);
        },
      },
      act: (verb, id) => this.parley.outbox[verb](id),
    });
    this.view.reset(this.parley.timeline(chat).events);
    this.outboxChanged(chat);
    this.isAtEnd = true;
    this.drawPinned();
    this.view.toEnd();
    this.drawTop();
    this.parley.open(chat);
    this.receipts.open(chat);
    if (!matchMedia('(pointer: coarse)').matches) $('text').focus();
  }

  /** A group was made here: it is shown when its first event can be asked for. */
  created(chat) {
    this.awaited = chat;
    if (this.list.get(chat)) this.#showAwaited();
  }

  #showAwaited() {
    location.hash = address(this.user, this.awaited);
    this.awaited = null;
  }

  // ── What Parley tells ──

  timelineChanged({ chat, kind, events }) {
    if (chat !== this.chat) return;
    const timeline = this.parley.timeline(chat);
    const answers = () => timeline.events.filter(({ event }) => events.some(({ seq }) => seq === event.replyTo));
    if (kind === 'reset') this.view.reset(timeline.events);
    if (kind === 'prepend') this.view.prepend(events);
    if (kind === 'change') this.view.change([...events, ...answers()]);
    if (kind === 'gone') {
      this.view.remove(events);
      this.view.change(answers());
    }
    if (kind === 'append') {
      const isMine = events.at(-1).event.from === this.user && events.at(-1).event.type === 'message';
      const isSeen = this.view.append(events);
      if (!isSeen && !isMine && events.some(({ event }) => event.type === 'message')) $('newest').hidden = false;
      if (isMine) this.view.toEnd();
    }
    this.drawTop();
    this.drawPinned();
    this.listChanged(); // what is in view was read
  }

  came({ chat, events }) {
    this.list.came(chat, events);
    this.receipts.came(chat, events);
    for (const { event } of events) if (event.type === 'message') this.typists.ended(chat, event.from);
    this.#tellOf(chat, events);
    if (events.some(({ event }) => notice(event, this.user))) this.details.refresh(chat, true);
  }

  /** Tells screen readers of what others wrote. */
  #tellOf(chat, events) {
    const theirs = events.filter(({ event }) => event.from !== this.user && event.type === 'message');
    if (theirs.length === 0) return;
    const { event } = theirs.at(-1);
    if (!this.list.get(chat)?.muted) $('spoken').textContent = `${event.from}: ${beginning(words(event.body), 300)}`;
  }

  chatChanged(frame) {
    const { chat, change } = frame;
    const title = this.title(chat);
    this.list.changed(frame);
    if (change === 'added' && chat === this.awaited) this.#showAwaited();
    if (change === 'added' && chat === this.chat) this.parley.open(chat);
    if (change !== 'removed' || chat !== this.chat) return;
    location.hash = this.user;
    $('told').textContent = `You are no longer in ${title}.`;
  }

  /** What was asked for may be old. */
  missed() {
    this.list.missed();
    this.presence.again();
    this.#askReceipts();
  }

  #askReceipts() {
    this.receipts.forget();
    if (this.chat) this.receipts.open(this.chat);
  }

  /** Of the user itself it tells what was read elsewhere. */
  receiptTold(frame) {
    this.receipts.told(frame);
    for (const { user, read } of frame.marks) if (user === this.user && read) this.list.read(frame.chat, read);
  }

  /** What is in view was read, unless nobody can see it. */
  #see() {
    if (!this.chat || document.hidden) return;
    const { events, highest, loaded } = this.parley.timeline(this.chat);
    const entry = this.list.get(this.chat);
    const listed = (loaded && entry?.last?.seq) || 0; // which may have disappeared by now
    const seq = Math.max(listed, events.length > 0 ? highest : 0);
    if (seq <= (entry?.read ?? 0)) return;
    this.parley.marks.read(this.chat, seq);
    this.list.read(this.chat, seq);
  }

  /** Many changes at once are drawn once. */
  listChanged() {
    if (this.isToDraw) return;
    this.isToDraw = true;
    queueMicrotask(() => {
      this.isToDraw = false;
      if (!this.isStopped) this.#drawList();
    });
  }

  #drawList() {
    this.#see();
    this.#watch();
    const now = this.parley.now();
    drawChats($, this.list, { shown: this.chat, now, title: (chat) => this.title(chat), presence: this.presence });
    clearTimeout(this.lastTimer);
    this.lastTimer = setTimeout(() => this.listChanged(), Math.min(this.list.nextExpiry(now) - now + 1, MINUTE_MS));
    const total = this.list.chats.reduce((sum, { chat, muted }) => sum + (muted ? 0 : this.list.unread(chat)), 0);
    document.title = `${total ? `(${total}) ` : ''}${this.chat ? this.title(this.chat) : this.user} · Parley`;
    if (!this.chat) return;
    const { members } = this.list.get(this.chat) ?? {};
    drawHeading($, this.chat, { me: this.user, title: this.title(this.chat), members, presence: this.presence, now });
    this.details.refresh(this.chat, false);
    this.drawTop();
  }

  /** Watches the others of direct chats: first of the one that is shown, then in the order of the list. */
  #watch() {
    const chats = [...this.list.chats].sort((a, b) => !!a.archived - !!b.archived).map(({ chat }) => chat);
    const direct = [this.chat, ...chats].filter((chat) => chat && !isGroup(chat));
    this.presence.want(direct.map((chat) => partner(chat, this.user)).filter((user) => user !== this.user));
  }

  drawReceipts() {
    this.view.drawTicks();
    this.readers.refresh();
  }

  drawTyping() {
    drawTyping($, this.typists.of(this.chat));
  }

  outboxChanged(chat) {
    this.saveTimer ??= setTimeout(() => this.save(), SAVE_MS);
    if (chat === this.chat) this.view.showPending(this.parley.outbox.of(chat), this.parley.state === 'online');
  }

  /** Keeps what a reload needs. The outbox changes at each step of each send, and may be large: so it is not saved at each. */
  save() {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    save(`parley.outbox.${this.user}`, this.parley.outbox);
    save(`parley.marks.${this.user}`, this.parley.marks);
  }

  /** The page goes away, perhaps for good: nobody is to be seen as there whose page a browser only keeps. */
  leave() {
    this.parley.marks.flush();
    this.save();
    this.parley.hangUp();
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
    if (state === 'waiting' || state === 'stopped') this.presence.lost();
    if (this.chat) {
      this.outboxChanged(this.chat);
      this.drawTop();
    }
  }

  showProblem(sentence) {
    $('problem').textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
    $('problem').hidden = !sentence;
  }

  // ── What the person does ──

  send() {
    const { what } = this.composer;
    if (!this.chat || !what || !this.#say(what)) return; // the text stays, to be shortened
    this.composer.done();
    if (what.type !== 'edit') this.view.toEnd();
  }

  /** Does something to a message. */
  act(verb, item, value) {
    this.view.closeActions();
    if (verb === 'reply' || verb === 'edit') return this.composer[verb](item);
    const type = verb === 'react' ? 'reaction' : verb;
    this.#say({ type, target: item.seq, ...value, remove: value?.remove || undefined });
  }

  #say(what) {
    try {
      this.parley.send(this.chat, what);
    } catch (error) {
      this.showProblem(error.message);
      return false;
    }
    this.showProblem('');
    return true;
  }

  scrolled() {
    if (!this.chat) return;
    this.isAtEnd = this.view.isAtEnd;
    if (this.isAtEnd) $('newest').hidden = true;
    if ($('log').scrollTop < OLDER_PX) this.parley.older(this.chat);
  }

  /** A keyboard came up, or the window was turned: who saw the newest message goes on seeing it. */
  resized() {
    if (this.chat && this.isAtEnd) this.view.toEnd();
  }

  /** What stands above the first message: that there are more, or that this is where it begins. */
  drawTop() {
    const timeline = this.parley.timeline(this.chat);
    const isOnline = this.parley.state === 'online';
    $('older').hidden = !(timeline.more && !timeline.full && isOnline);
    $('beginning').hidden = timeline.more && !timeline.full;
    $('beginning').textContent = timeline.full ? 'This page holds no more messages.' : this.#beginning();
    // A page that does not fill the log leaves nothing to scroll.
    if (timeline.loaded && $('log').scrollHeight <= $('log').clientHeight) this.parley.older(this.chat);
  }

  #beginning() {
    if (isGroup(this.chat)) return `This is the beginning of what you may read in ${this.title(this.chat)}.`;
    const other = partner(this.chat, this.user);
    return `This is the beginning of your chat with ${other === this.user ? 'yourself' : other}.`;
  }

  /** The newest pinned message among those that are here. */
  drawPinned() {
    const item = this.parley.timeline(this.chat).events.findLast(({ pinned, deleted }) => pinned && !deleted);
    $('pinned').hidden = !item;
    $('pinned').textContent = item ? `Pinned · ${item.event.from}: ${beginning(itemWords(item))}` : '';
    $('pinned').onclick = item ? () => this.view.show(item.seq) : null;
  }

  /** Ends it; what still comes of it is drawn nowhere. */
  stop() {
    this.isStopped = true;
    clearTimeout(this.lastTimer);
    this.chat = null;
    for (const dialog of [this.details, this.newGroup, this.readers, this.settings]) dialog.close();
    for (const part of [this.list, this.presence, this.typists]) part.stop();
    this.leave();
    this.parley.stop();
    this.drawTyping();
  }
}

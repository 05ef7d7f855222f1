// One user in this window: a Parley, the list of chats, and the chat that is shown.

import { administers, Details, NewGroup } from './details.js';
import { beginning } from './bubble.js';
import { ChatList } from './chatlist.js';
import { Composer } from './composer.js';
import { MessageList } from './messages.js';
import { address, isGroup, partner } from './names.js';
import { Parley } from './parley.js';
import { drawChats } from './sidebar.js';
import { load, save } from './storage.js';
import { introduce, socketURL } from './token.js';
import { itemWords, notice, words } from './words.js';

const TYPING_SHOWN_MS = 5000; // a little more than the time between two typing frames
const SAVE_MS = 200; // between what is written to the outbox and its copy for a reload
const DAY_MS = 86_400_000; // what disappears later is not waited for
const OLDER_PX = 300; // so close to the top, the page before is read

const $ = (id) => document.getElementById(id);

export class Session {
  constructor(user) {
    this.user = user;
    this.chat = null; // which is shown
    this.view = null; // its MessageList
    this.awaited = null; // a group that was made here, to be shown when it is there
    this.isAtEnd = true; // the newest message was in view when the person last scrolled
    this.typingTimer = undefined;
    this.saveTimer = undefined;
    this.lastTimer = undefined; // when the last message of a chat disappears from the list
    this.isToDraw = false;
    this.parley = new Parley({ url: socketURL(), token: () => introduce(user), saved: load(`parley.outbox.${user}`) });
    this.list = new ChatList(user, (frame) => this.parley.ask(frame), load(`parley.seen.${user}`));
    this.composer = new Composer($);
    const host = { me: user, list: this.list, ask: (frame) => this.parley.ask(frame), title: (chat) => this.title(chat), created: (chat) => this.created(chat) };
    this.details = new Details($, host);
    this.newGroup = new NewGroup($, host);
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
    on('missed', () => this.list.reload());
    on('outbox', ({ chat }) => this.outboxChanged(chat));
    on('typing', (typing) => this.showTyping(typing));
    on('problem', ({ error }) => this.showProblem(error.message));
    this.list.addEventListener('change', () => this.listChanged());
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
    this.stopTyping();
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
  }

  came({ chat, events }) {
    this.list.came(chat, events);
    this.#tellOf(chat, events);
    if (events.some(({ event }) => notice(event, this.user))) this.details.refresh(chat, true);
  }

  /** Tells screen readers of what others wrote. */
  #tellOf(chat, events) {
    const theirs = events.filter(({ event }) => event.from !== this.user && event.type === 'message');
    if (theirs.length === 0) return;
    const { event } = theirs.at(-1);
    if (chat === this.chat) this.stopTyping();
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
    if (this.chat && !document.hidden) this.list.see(this.chat);
    const now = this.parley.now();
    drawChats($, this.list, { shown: this.chat, now, title: (chat) => this.title(chat) });
    clearTimeout(this.lastTimer);
    const next = this.list.nextExpiry(now);
    if (next < now + DAY_MS) this.lastTimer = setTimeout(() => this.listChanged(), next - now + 1);
    const total = this.list.chats.reduce((sum, { chat, muted }) => sum + (muted ? 0 : this.list.unread(chat)), 0);
    document.title = `${total ? `(${total}) ` : ''}${this.chat ? this.title(this.chat) : this.user} · Parley`;
    save(`parley.seen.${this.user}`, this.list.seen);
    if (!this.chat) return;
    const { members } = this.list.get(this.chat) ?? {};
    $('title').textContent = this.title(this.chat);
    $('log').setAttribute('aria-label', `Messages ${isGroup(this.chat) ? 'in' : 'with'} ${this.title(this.chat)}`);
    $('about').textContent = members ? `${members} ${members === 1 ? 'member' : 'members'}` : '';
    this.details.refresh(this.chat, false);
    this.drawTop();
  }

  outboxChanged(chat) {
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
    if (this.chat) {
      this.outboxChanged(this.chat);
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
    this.details.close();
    this.newGroup.close();
    this.list.stop();
    this.parley.stop();
    this.saveOutbox();
    this.stopTyping();
  }
}

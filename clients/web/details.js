// The dialogs: of a chat's details and members, and of a new group.

import { button, element } from './bubble.js';
import { isGroup, namesFrom } from './names.js';
import { ulid } from './ulid.js';

const MEMBERS_PAGE = 100;

/** What is set of a chat in one's list: [member of the entry, label]. */
const SETTINGS = [
  ['pinned', 'pin', 'Pin to the top'],
  ['muted', 'mute', 'Mute'],
  ['archived', 'archive', 'Archive'],
];

/** The details of one chat. */
export class Details {
  #$;
  #dialog;
  #host;
  #chat = null;
  #cursor;

  /** host: {me, list, ask(frame), title(chat)}. */
  constructor($, host) {
    this.#$ = $;
    this.#dialog = $('details');
    this.#host = host;
    this.#dialog.querySelector('.cancel').onclick = () => this.#dialog.close();
    this.#dialog.onclose = () => (this.#chat = null);
    $('more-members').onclick = () => this.#readMembers(this.#cursor);
    $('rename').onsubmit = (event) => this.#submit(event, () => ({ t: 'rename', chat: this.#chat, name: $('rename-name').value.trim() }));
    $('add').onsubmit = (event) => this.#submit(event, () => this.#addFrame());
    $('leave').onclick = () => this.#leave();
  }

  open(chat) {
    this.#chat = chat;
    this.#tell('');
    this.#$('members').replaceChildren();
    this.#$('more-members').hidden = true;
    this.#$('members-of').hidden = !isGroup(chat);
    this.#$('leave').textContent = 'Leave the group';
    this.#$('rename-name').value = this.#host.title(chat);
    this.refresh(chat, true);
    this.#dialog.showModal();
  }

  /** Something of chat is different: its place in the list, or its members too. */
  refresh(chat, areMembersToo) {
    if (chat !== this.#chat) return;
    this.#$('details-title').textContent = this.#host.title(chat);
    this.#drawSettings();
    if (!isGroup(chat)) return;
    const entry = this.#host.list.get(chat);
    const mayChange = administers(entry?.role);
    this.#$('rename').hidden = this.#$('add').hidden = !mayChange;
    this.#$('members-title').textContent = entry?.members ? `${entry.members} ${entry.members === 1 ? 'member' : 'members'}` : 'Members';
    if (areMembersToo) this.#readMembers();
  }

  close() {
    this.#dialog.close();
  }

  #drawSettings() {
    const entry = this.#host.list.get(this.#chat) ?? {};
    const focused = this.#$('settings').contains(document.activeElement) && document.activeElement.textContent;
    const choices = SETTINGS.map(([member, t, label]) => {
      const choice = button(label, () => this.#do({ t, chat: this.#chat, on: !entry[member] }));
      choice.setAttribute('aria-pressed', !!entry[member]);
      choice.disabled = !entry.last; // there is nothing in the list to be set
      return choice;
    });
    this.#$('settings').replaceChildren(...choices);
    choices.find((choice) => choice.textContent === focused)?.focus();
  }

  async #readMembers(cursor) {
    const chat = this.#chat;
    let page;
    try {
      page = await this.#host.ask({ t: 'members', chat, limit: MEMBERS_PAGE, cursor });
    } catch (error) {
      if (chat === this.#chat) this.#tell(error.message);
      return;
    }
    if (chat !== this.#chat) return;
    this.#cursor = page.cursor;
    this.#$('more-members').hidden = !page.cursor;
    const rows = page.members.map((member) => this.#member(member));
    if (cursor) this.#$('members').append(...rows);
    else this.#$('members').replaceChildren(...rows);
  }

  #member({ user, role }) {
    const chat = this.#chat;
    const { me } = this.#host;
    const mine = this.#host.list.get(chat)?.role;
    const row = element('li', {}, element('span', { className: 'name', textContent: user === me ? `${user} (you)` : user }));
    if (role !== 'member') row.append(element('span', { className: 'hint', textContent: role }));
    if (user === me) return row;
    if (mine === 'owner') {
      const other = role === 'admin' ? 'member' : 'admin';
      const change = button(other === 'admin' ? 'Make admin' : 'No admin', () => this.#do({ t: 'role', chat, user, role: other }));
      change.setAttribute('aria-label', `${change.textContent}: ${user}`);
      row.append(change);
    }
    if (mine === 'owner' || (mine === 'admin' && role === 'member')) {
      const remove = button('Remove', () => this.#do({ t: 'remove', chat, users: [user] }));
      remove.setAttribute('aria-label', `Remove ${user}`);
      row.append(remove);
    }
    return row;
  }

  #addFrame() {
    const users = namesFrom(this.#$('add-users'));
    if (!users) return undefined;
    this.#$('add-users').value = '';
    return { t: 'add', chat: this.#chat, users };
  }

  #submit(event, frame) {
    event.preventDefault();
    const asked = frame();
    if (asked) this.#do(asked);
  }

  async #leave() {
    if (this.#$('leave').textContent === 'Leave the group') {
      this.#$('leave').textContent = 'Really leave?';
    } else if (await this.#do({ t: 'leave', chat: this.#chat })) {
      this.#dialog.close();
    }
  }

  /** Asks, and tells what is refused; returns whether it was done. What it changes comes live. */
  async #do(frame) {
    this.#tell('');
    try {
      await this.#host.ask(frame);
      return true;
    } catch (error) {
      this.#tell(error.message);
      return false;
    }
  }

  #tell(sentence) {
    this.#dialog.querySelector('.problem').textContent = sentence;
  }
}

/** Whether a role may change a group and its messages. */
export function administers(role) {
  return role === 'owner' || role === 'admin';
}

/** The dialog of a new group. */
export class NewGroup {
  #$;
  #dialog;
  #host;
  #id;

  /** host: {ask(frame), created(chat)}. */
  constructor($, host) {
    this.#$ = $;
    this.#dialog = $('group');
    this.#host = host;
    this.#dialog.querySelector('.cancel').onclick = () => this.#dialog.close();
    $('group-members').oninput = () => $('group-members').setCustomValidity('');
    $('group-form').onsubmit = (event) => {
      event.preventDefault();
      this.#create();
    };
  }

  open() {
    this.#id = ulid(); // the same at every try: it is one group
    this.#$('group-form').reset();
    this.#dialog.querySelector('.problem').textContent = '';
    this.#dialog.showModal();
  }

  close() {
    this.#dialog.close();
  }

  async #create() {
    const members = namesFrom(this.#$('group-members'));
    if (!members) return;
    const history = this.#$('group-history').checked ? 'all' : 'joined';
    try {
      const { chat } = await this.#host.ask({ t: 'create', id: this.#id, name: this.#$('group-name').value.trim(), members, history });
      this.#dialog.close();
      this.#host.created(chat);
    } catch (error) {
      this.#dialog.querySelector('.problem').textContent = error.message;
    }
  }
}

// The dialog that tells how far one own message has got: who has read it, who has
// it, and who has not.

import { beginning, element } from './bubble.js';
import { itemWords } from './words.js';

export class Readers {
  #$;
  #dialog;
  #host;
  #item = null; // the message

  /** host: {me, receipts(): those of the chat that is shown}. */
  constructor($, host) {
    this.#$ = $;
    this.#dialog = $('readers');
    this.#host = host;
    this.#dialog.querySelector('.cancel').onclick = () => this.close();
    this.#dialog.onclose = () => (this.#item = null);
  }

  open(item) {
    this.#item = item;
    this.#$('readers-of').textContent = beginning(itemWords(item));
    this.refresh();
    this.#dialog.showModal();
  }

  /** Something is different. */
  refresh() {
    if (!this.#item) return;
    const { seq } = this.#item;
    const groups = { Read: [], Delivered: [], 'Not yet': [] };
    for (const { user, delivered, read } of this.#host.receipts()) {
      if (user !== this.#host.me) groups[read >= seq ? 'Read' : delivered >= seq ? 'Delivered' : 'Not yet'].push(user);
    }
    const sections = Object.entries(groups).filter(([, users]) => users.length > 0);
    this.#$('readers-list').replaceChildren(...sections.flatMap(([title, users]) => section(title, users)));
  }

  close() {
    this.#dialog.close();
  }
}

function section(title, users) {
  const rows = users.sort().map((user) => element('li', { textContent: user }));
  return [element('h3', { textContent: title }), element('ul', { className: 'names', ariaLabel: title }, ...rows)];
}

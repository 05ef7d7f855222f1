// The field in which one writes: a new message, an answer, or another body for
// an own message.

import { beginning } from './bubble.js';
import { itemWords } from './words.js';

export class Composer {
  #$;
  #drafts = new Map(); // chat → what is written and not sent
  #chat = null;
  #intent = null; // {verb: 'reply' or 'edit', item}

  constructor($) {
    this.#$ = $;
  }

  /** Shows what is written in chat, and keeps what is written in the one before. */
  show(chat) {
    if (this.#chat && this.#intent?.verb !== 'edit') this.#drafts.set(this.#chat, this.#$('text').value);
    this.#chat = chat;
    this.#setIntent(null);
    this.#$('text').value = this.#drafts.get(chat) ?? '';
  }

  reply(item) {
    if (this.#intent?.verb === 'edit') this.cancel();
    this.#setIntent({ verb: 'reply', item });
    this.#$('text').focus();
  }

  edit(item) {
    if (this.#intent?.verb !== 'edit') this.#drafts.set(this.#chat, this.#$('text').value);
    this.#setIntent({ verb: 'edit', item });
    this.#$('text').value = item.event.body.text;
    this.#$('text').focus();
  }

  /** Ends an answer or an edit; returns whether there was one. */
  cancel() {
    if (!this.#intent) return false;
    if (this.#intent.verb === 'edit') this.#$('text').value = this.#drafts.get(this.#chat) ?? '';
    this.#setIntent(null);
    return true;
  }

  /** What was written, as Parley.send takes it; undefined where that is nothing. */
  get what() {
    const text = this.#$('text').value;
    if (text.trim() === '') return undefined;
    const body = { kind: 'text', text };
    const { verb, item } = this.#intent ?? {};
    if (verb === 'edit') return { type: 'edit', target: item.seq, body: { ...item.event.body, text } };
    return { body, replyTo: item?.seq, ttl: Number(this.#$('ttl').value) || undefined };
  }

  /** It was sent. */
  done() {
    if (this.#intent?.verb !== 'edit') this.#$('text').value = '';
    this.cancel();
    this.#drafts.delete(this.#chat);
  }

  #setIntent(intent) {
    this.#intent = intent;
    this.#$('intent').hidden = !intent;
    this.#$('ttl').hidden = intent?.verb === 'edit';
    if (!intent) return;
    const said = beginning(itemWords(intent.item));
    this.#$('intent-words').textContent = intent.verb === 'edit' ? `Editing: ${said}` : `Answer to ${intent.item.event.from}: ${said}`;
  }
}

// The dialog of what the user lets others see: its status, and what it has read.
// The server keeps both for all sessions.

export class Settings {
  #$;
  #dialog;
  #host;

  /** host: {me, ask(frame), receiptsChanged()}. */
  constructor($, host) {
    this.#$ = $;
    this.#dialog = $('own-settings');
    this.#host = host;
    this.#dialog.querySelector('.cancel').onclick = () => this.close();
    $('status').onchange = ({ target }) => this.#set({ t: 'status', status: target.value });
    $('read-receipts').onchange = ({ target }) => this.#setReceipts(target.checked);
  }

  open() {
    this.#dialog.showModal();
    this.#read();
  }

  close() {
    this.#dialog.close();
  }

  async #setReceipts(readReceipts) {
    if (await this.#set({ t: 'profile.set', readReceipts })) this.#host.receiptsChanged();
  }

  /** Shows what the server has; until then nothing can be chosen. */
  async #read() {
    this.#enable(false);
    try {
      const { profiles } = await this.#host.ask({ t: 'profile', users: [this.#host.me] });
      const { status = 'online', readReceipts = true } = profiles[0];
      for (const choice of this.#choices) choice.checked = choice.value === status;
      this.#$('read-receipts').checked = readReceipts;
      this.#enable(true);
      this.#tell('');
    } catch (error) {
      this.#tell(error.message);
    }
  }

  /** Returns whether it was done. What is refused is shown as the server has it. */
  async #set(frame) {
    this.#tell('');
    try {
      await this.#host.ask(frame);
      return true;
    } catch (error) {
      await this.#read();
      this.#tell(error.message);
      return false;
    }
  }

  get #choices() {
    return this.#$('status').querySelectorAll('input');
  }

  #enable(isEnabled) {
    this.#$('status').disabled = this.#$('read-receipts').disabled = !isEnabled;
  }

  #tell(sentence) {
    this.#dialog.querySelector('.problem').textContent = sentence;
  }
}

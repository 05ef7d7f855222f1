// Renews the token of a connection before it expires.

const AGAIN_MS = 5000; // after a renewal that did not work
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

export class Renewal {
  #link;
  #connection = null; // whose token it is
  #timer;

  /** link: {now(), token({fresh})}, as Parley has them. */
  constructor(link) {
    this.#link = link;
  }

  /** The server's clock decides when a token expires: expires is by link.now(). */
  begin(connection, expires) {
    this.stop();
    this.#connection = connection;
    this.#later(expires);
  }

  /** The connection is over. */
  stop() {
    clearTimeout(this.#timer);
    this.#connection = null;
  }

  #later(expires) {
    const left = Date.parse(expires) - this.#link.now();
    const wait = Math.max(left * 0.8, left - 60_000); // a minute before the end, or a fifth
    this.#timer = setTimeout(() => {
      if (wait > TIMEOUT_MS_MAX) this.#later(expires);
      else this.#renew(this.#connection);
    }, Math.min(wait, TIMEOUT_MS_MAX));
  }

  async #renew(connection) {
    try {
      const { token } = await this.#link.token({ fresh: true });
      const { expires } = await connection.request({ t: 'renew', token });
      if (connection === this.#connection) this.#later(expires);
    } catch {
      // Ends with the connection: without a new token it is closed with 4002.
      if (connection === this.#connection) this.#timer = setTimeout(() => this.#renew(connection), AGAIN_MS);
    }
  }
}

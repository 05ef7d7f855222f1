// One WebSocket, from its opening to its one end. It matches answers to
// requests, and notices a peer that has gone silent. It knows nothing of chats.

const SUBPROTOCOL = 'parley.v1';
const WELCOME_MS = 10_000; // from the start of the handshake to the welcome
const ANSWER_MS = 30_000; // a server answers within 20 s, or it is in trouble
const REQUESTS_MAX = 256; // on their way at once; one more is refused

/** What went wrong: a code for the program, a sentence for the person. */
export class ParleyError extends Error {
  constructor(code, message, retryAfter = 0) {
    super(message);
    this.name = 'ParleyError';
    this.code = code;
    this.retryAfter = retryAfter; // seconds; 0 where trying again cannot help
  }
}

export class Connection {
  #socket;
  #onFrame;
  #resolveEnded;
  #isOver = false;
  #lastRef = 0;
  #waiting = new Map(); // ref → {resolve, reject, timer}
  #welcomeTimer;
  #beatTimer;
  #heardAt = performance.now();
  #isAsked = false; // a ping went out, and nothing came since

  /**
   * Opens url. onFrame is called with every frame that answers no request.
   * The promise `ended` resolves with {code, reason}, once, however it ends.
   */
  constructor(url, onOpen, onFrame) {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#onFrame = onFrame;
    this.#socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket.onopen = () => onOpen(this);
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code, reason }) => this.end(code, reason);
    this.#welcomeTimer = setTimeout(() => this.end(0, 'the server did not say welcome'), WELCOME_MS);
  }

  send(frame) {
    if (!this.#isOver) this.#socket.send(JSON.stringify(frame));
  }

  /** Sends frame with a ref of its own; resolves with its answer, rejects with a ParleyError. */
  request(frame) {
    if (this.#isOver) return Promise.reject(disconnected());
    if (this.#waiting.size >= REQUESTS_MAX) {
      return Promise.reject(new ParleyError('overloaded', 'Too much is being asked at once.', 1));
    }
    const ref = ++this.#lastRef;
    return new Promise((resolve, reject) => {
      // Every request gets exactly one answer. Without one this connection cannot be trusted.
      const timer = setTimeout(() => this.end(0, 'the server did not answer'), ANSWER_MS);
      this.#waiting.set(ref, { resolve, reject, timer });
      this.send({ t: frame.t, ref, ...frame });
    });
  }

  /** From welcome on: a ping after each silent heartbeat (in seconds); silence of 2.5 heartbeats is the end. */
  keepAlive(heartbeat) {
    clearTimeout(this.#welcomeTimer);
    const beat = heartbeat * 1000;
    this.#beatTimer = setInterval(() => {
      const silent = performance.now() - this.#heardAt;
      // Only after an unanswered ping: a computer that slept has heard nothing either.
      if (silent > 2.5 * beat && this.#isAsked) return this.end(0, 'the server fell silent');
      if (silent > 0.9 * beat) {
        this.#isAsked = true;
        this.send({ t: 'ping' });
      }
    }, beat / 2);
  }

  /** Ends the connection. The socket's own close event may be minutes away where the network is gone. */
  end(code = 1000, reason = '') {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#welcomeTimer);
    clearInterval(this.#beatTimer);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(disconnected());
    }
    this.#waiting.clear();
    this.#resolveEnded({ code, reason });
  }

  #hear(data) {
    this.#heardAt = performance.now();
    this.#isAsked = false;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.end(0, 'the server sent what is no frame');
    }
    const request = this.#waiting.get(frame.ref);
    if (!request) return this.#onFrame(frame);
    this.#waiting.delete(frame.ref);
    clearTimeout(request.timer);
    if (frame.t === 'error') request.reject(new ParleyError(frame.code, frame.message, frame.retryAfter));
    else request.resolve(frame);
  }
}

function disconnected() {
  return new ParleyError('disconnected', 'The connection was lost.');
}

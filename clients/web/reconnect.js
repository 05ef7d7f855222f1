// When to come back after a connection ended.

const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 30_000;

/**
 * How long to wait, in ms, before the next connection: after {code, reason},
 * with failures the number of short-lived connections in a row before this one.
 * null: do not come back.
 */
export function reconnectDelay({ code, reason }, failures, random = Math.random) {
  const backoff = Math.min(BACKOFF_MS * 2 ** failures, BACKOFF_MS_MAX) * (0.5 + random() / 2);
  switch (code) {
    case 4003: // session revoked
      return null;
    case 4002: // token expired: the next hello has a new one
    case 4008: // too slow: resuming loses nothing
      return failures === 0 ? 0 : backoff;
    case 4012: // node draining: it spreads its clients by telling each its delay
      return drainDelay(reason) ?? backoff;
    case 4013: // node full: a balancer needs a moment to see it
      return Math.max(backoff, 1000);
    default:
      return backoff;
  }
}

function drainDelay(reason) {
  try {
    const { delay } = JSON.parse(reason);
    return delay >= 0 ? Math.min(delay, 60_000) : null;
  } catch {
    return null;
  }
}

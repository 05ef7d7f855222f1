// ULIDs: 48 bits of time, 80 bits of chance, as 26 letters that sort by time.
// https://github.com/ulid/spec

const LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'; // Crockford's base 32

/** Returns a new ULID. */
export function ulid(now = Date.now()) {
  let time = '';
  for (let i = 0; i < 10; i++) {
    time = LETTERS[now % 32] + time;
    now = Math.floor(now / 32);
  }
  const chance = crypto.getRandomValues(new Uint8Array(16));
  return time + Array.from(chance, (byte) => LETTERS[byte % 32]).join('');
}

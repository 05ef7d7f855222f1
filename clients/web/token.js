// Where a development server is, and how it lets anybody in.

export function socketURL() {
  const url = new URL('/v1/ws', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.hash = '';
  return url.href;
}

/**
 * The token for the next connection. The cookie has a proxy send all devices of
 * a user to one edge; it proves nothing. All windows share it, so it is set
 * anew just before each connection: at worst that goes to another edge.
 */
export async function introduce(user) {
  const answer = await devToken(user);
  const secure = location.protocol === 'https:' ? '; Secure' : '';
  document.cookie = `parley_user=${user}; Path=/v1/ws; SameSite=Strict${secure}`;
  return answer;
}

/** A development server gives anybody a token for any name. */
async function devToken(user) {
  let response;
  try {
    response = await fetch('/dev/token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ user }),
      signal: AbortSignal.timeout(10_000),
    });
  } catch {
    throw new Error('the server does not answer');
  }
  const answer = await response.json().catch(() => ({ message: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

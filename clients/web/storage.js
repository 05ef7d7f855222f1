// What a window keeps for its reload. sessionStorage belongs to one window. It
// may be full or forbidden: then a reload forgets.

export function save(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {}
}

export function load(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? undefined;
  } catch {
    return undefined;
  }
}

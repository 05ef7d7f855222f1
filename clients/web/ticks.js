// The ticks beside an own message: one when it was sent, two when all others have
// it, coloured when all have read it.

const SVG = 'http://www.w3.org/2000/svg';
const TICK = 'l3.2 3.4 5.6-7.4'; // from its left end on

/** The element of a status as receipts.js derives it. */
export function ticks(status, isGroup) {
  const it = Object.assign(document.createElement('span'), { className: 'ticks', role: 'img' });
  setTicks(it, status, isGroup);
  return it;
}

/** Has an element that ticks() made show another status. */
export function setTicks(it, status, isGroup) {
  const words = statusWords(status, isGroup);
  const kind = kindOf(status);
  if (it.title === words && it.dataset.status === kind) return;
  it.title = it.ariaLabel = words;
  it.dataset.status = kind;
  it.replaceChildren(picture(kind === 'sent' ? 1 : 2));
}

/** sent, delivered (to all) or read (by all). */
function kindOf({ delivered, read, of }) {
  if (of === 0) return 'sent';
  return read === of ? 'read' : delivered === of ? 'delivered' : 'sent';
}

/** A status in words, as `Read by 3 of 5, delivered to 4`. */
export function statusWords({ delivered, read, of }, isGroup) {
  const kind = kindOf({ delivered, read, of });
  if (!isGroup) return { sent: 'Sent', delivered: 'Delivered', read: 'Read' }[kind];
  if (kind === 'read') return `Read by all ${of}`;
  if (read === 0) return kind === 'delivered' ? `Delivered to all ${of}` : delivered ? `Delivered to ${delivered} of ${of}` : 'Sent';
  // In a larger group it is told who has read it, and not who has it.
  return `Read by ${read} of ${of}${delivered > read ? `, delivered to ${delivered}` : ''}`;
}

function picture(count) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${count === 1 ? 12 : 17} 10`);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', `M1.5 5.4${TICK}${count === 2 ? `M6.5 5.4${TICK}` : ''}`);
  svg.append(path);
  return svg;
}

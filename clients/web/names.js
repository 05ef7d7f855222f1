// Names of users and chats, as people write them and as the address has them.

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const GROUP = /^group\.[A-Za-z0-9_-]{1,64}$/;
const NAME_RULE = 'A name has 1 to 64 of the letters A–Z, digits, _ and -.';

/** The chat of two users. Their order is that of bytes; names are ASCII, so that of JavaScript too. */
export function directChat(a, b) {
  return `direct.${a < b ? `${a}.${b}` : `${b}.${a}`}`;
}

export function isGroup(chat) {
  return chat.startsWith('group.');
}

/** The other user of a direct chat; in one's notes oneself. */
export function partner(chat, me) {
  const [, a, b] = chat.split('.');
  return a === me ? b : a;
}

/** What stands in the address: #alice/bob, or #alice/group.team. */
export function address(me, chat) {
  return `#${me}/${isGroup(chat) ? chat : partner(chat, me)}`;
}

/** Reads the address: {me, chat}, both undefined where they are not there. */
export function readAddress(hash) {
  const [me, place = ''] = hash.slice(1).split('/');
  if (!NAME.test(me)) return {};
  if (GROUP.test(place)) return { me, chat: place };
  return { me, chat: NAME.test(place) ? directChat(me, place) : undefined };
}

/** Reads a name from input, or says what is wrong with it. */
export function nameFrom(input) {
  return namesFrom(input, 1)?.[0];
}

/** Reads names, separated by commas or spaces, from input, or says what is wrong with them. */
export function namesFrom(input, max = 1000) {
  const names = [...new Set(input.value.split(/[\s,]+/).filter(Boolean))];
  const isRight = names.every((name) => NAME.test(name)) && (!input.required || names.length > 0) && names.length <= max;
  input.setCustomValidity(isRight ? '' : NAME_RULE);
  return input.reportValidity() ? names : undefined;
}

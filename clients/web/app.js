// The page. Who one is and which chat is shown stands in the address, as
// #alice/bob or #alice/group.team: so each window is somebody of its own, a
// reload changes nothing, and the browser's back button works.

import { address, directChat, nameFrom, readAddress } from './names.js';
import { Session } from './session.js';

const $ = (id) => document.getElementById(id);

let session = null;

function route() {
  const { me, chat } = readAddress(location.hash);
  $('enter').hidden = !!me;
  $('app').hidden = !me;
  if (session?.user !== me) {
    session?.stop();
    session = me ? new Session(me) : null;
  }
  if (session) return session.show(chat);
  document.title = 'Parley';
  $('name').focus();
}

for (const id of ['name', 'partner', 'add-users']) $(id).addEventListener('input', () => $(id).setCustomValidity(''));
$('enter-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameFrom($('name'));
  if (name) location.hash = name;
});
$('find').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameFrom($('partner'));
  if (!name) return;
  $('partner').value = '';
  location.hash = address(session.user, directChat(session.user, name));
});
$('new-group').addEventListener('click', () => session.newGroup.open());
$('own').addEventListener('click', () => session.settings.open());
$('info').addEventListener('click', () => session.details.open(session.chat));
$('compose').addEventListener('submit', (event) => {
  event.preventDefault();
  session.send();
  $('text').focus();
});
$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && session.composer.cancel()) return;
  // While a word is being composed, Enter belongs to the input method; on a phone it begins a line.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
  event.preventDefault();
  session.send();
});
$('text').addEventListener('input', () => {
  if ($('text').value) session.parley.typing(session.chat);
});
$('intent-end').addEventListener('click', () => {
  session.composer.cancel();
  $('text').focus();
});
$('log').addEventListener('scroll', () => session?.scrolled(), { passive: true });
$('older').addEventListener('click', () => session.parley.older(session.chat));
$('newest').addEventListener('click', () => session.view.toEnd());
new ResizeObserver(() => session?.resized()).observe($('log'));
addEventListener('hashchange', route);
addEventListener('pagehide', () => session?.leave());
addEventListener('pageshow', () => session?.parley.wake());
addEventListener('online', () => session?.parley.wake());
document.addEventListener('visibilitychange', () => {
  if (document.hidden || !session) return;
  session.parley.wake();
  session.listChanged();
});
route();

"use strict";
// Rows are replaced as the hub tells of them, and ages stay true. Without this the page is as it was when it was loaded.

const span = (seconds) =>
  seconds < 60 ? `${seconds}s`
  : seconds < 3600 ? `${Math.floor(seconds / 60)}m`
  : seconds < 172800 ? `${Math.floor(seconds / 3600)}h`
  : `${Math.floor(seconds / 86400)}d`;

const tick = () => {
  for (const time of document.querySelectorAll("time.age")) {
    const text = span(Math.max(0, Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000)));
    if (time.textContent !== text) time.textContent = text;
  }
};
setInterval(tick, 1000);

const say = (text) => {
  const status = document.getElementById("live");
  if (status && status.textContent !== text) status.textContent = text;
};

// What is new comes first in the list that it belongs to; a list that said that it is empty says so no more.
const add = (fresh) => {
  const list = document.getElementById(fresh.dataset.into);
  if (!list) return;
  list.prepend(fresh);
  list.parentElement.querySelector("tfoot")?.remove();
  while (list.children.length > Number(list.dataset.most)) list.lastElementChild.remove();
};

const replace = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const fresh of [...template.content.children]) {
    const old = document.getElementById(fresh.id);
    if (!old) {
      add(fresh);
      continue;
    }
    // Who was on a link of it stays on that link.
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }
  tick();
};

// Only what is looked at is followed: a browser opens few connections to one host, and many tabs would use them up. Whoever
// comes back is told all anew.
let source = null;
let ended = false;

const follow = () => {
  if (ended || source || document.hidden) return;
  source = new EventSource(document.body.dataset.live);
  source.addEventListener("open", () => say("Live"));
  source.addEventListener("replace", (event) => replace(event.data));
  source.addEventListener("error", () => say("Not live: the connection to the hub is lost, and is made anew"));
  source.addEventListener("end", () => { ended = true; source.close(); say("It has ended"); });
};

if (document.body.dataset.live) {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; }
    follow();
  });
  follow();
}

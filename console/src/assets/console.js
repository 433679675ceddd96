// Keeps the page up to date, says times in the reader's own zone, and copies commands. The page is whole without it.
'use strict';
(() => {
  const ago = (secs) => {
    if (secs < 60) return `${Math.max(0, Math.round(secs))}s ago`;
    const minutes = Math.floor(secs / 60), hours = Math.floor(minutes / 60);
    if (secs >= 172800) return `${Math.round(secs / 86400)} days ago`;
    const two = (n) => String(n).padStart(2, '0');
    if (hours === 0) return `${minutes}m${two(Math.floor(secs % 60))}s ago`;
    return `${hours}h${two(minutes % 60)}m ago`;
  };

  const zone = new Intl.DateTimeFormat(undefined, {
    hour: '2-digit', minute: '2-digit', second: '2-digit', day: 'numeric', month: 'short', timeZoneName: 'short',
  });
  const isUtc = new Date().getTimezoneOffset() === 0;

  // The reader's own time, beside what the server wrote.
  const localise = (root) => {
    for (const time of root.querySelectorAll('time[datetime]:not([data-done])')) {
      time.dataset.done = '';
      if (isUtc) continue;
      const own = document.createElement('span');
      own.className = 'own';
      own.textContent = ` (${zone.format(new Date(time.dateTime))})`;
      time.after(own);
    }
  };

  const showCopies = (root) => {
    for (const button of root.querySelectorAll('[data-copy]')) button.hidden = !navigator.clipboard;
  };

  const age = () => {
    for (const span of document.querySelectorAll('.ago')) {
      const time = span.nextElementSibling;
      if (time && time.dateTime) span.textContent = ago((Date.now() - new Date(time.dateTime)) / 1000);
    }
  };

  const prepare = (root) => { localise(root); showCopies(root); };

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    const code = button.parentElement.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => {
      button.textContent = 'Copy';
      // Who pointed at it is done with it, and the part may change again.
      if (!button.matches(':focus-visible')) button.blur();
    }, 2000);
  });

  const live = document.getElementById('live');
  const say = (text) => { if (live && live.textContent !== text) live.textContent = text; };

  // What somebody reads with the keyboard, has marked or has opened is left as it is.
  const isInUse = (section) => {
    const selection = getSelection();
    return section.contains(document.activeElement)
      || selection && !selection.isCollapsed && section.contains(selection.anchorNode)
      || section.querySelector('details[open]');
  };
  const waiting = new Map();

  const show = (id, html) => {
    const section = document.getElementById(id);
    if (!section) return;
    if (isInUse(section)) { waiting.set(id, html); return; }
    waiting.delete(id);
    section.innerHTML = html;
    prepare(section);
    if (id === 'late') {
      const title = section.querySelector('h1');
      if (title) document.title = `${title.textContent} – Penstock`;
    }
  };

  const address = document.body.dataset.stream;
  let source = null;
  const stop = () => { if (source) source.close(); source = null; };
  const start = () => {
    if (!address || source || document.hidden) return;
    source = new EventSource(address);
    source.onopen = () => say('live');
    source.onerror = () => say('not live: the console does not answer; trying again');
    source.onmessage = (event) => {
      const { id, html } = JSON.parse(event.data);
      say('live');
      show(id, html);
    };
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) { stop(); say('paused'); } else { start(); }
  });

  prepare(document);
  start();
  setInterval(() => {
    if (document.hidden) return;
    age();
    for (const [id, html] of [...waiting]) show(id, html);
  }, 1000);
})();

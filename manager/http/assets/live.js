// Pages stay current: a stream says that something has changed, then the page is fetched again and its live regions are
// morphed to what they are now. Focus, scroll, open details and typed text stay.
//
// A region is an element with `data-live` and an id. Inside one, an element with `data-keep` is left as it is. Other modules
// listen for `berth:refreshed` on the document, and ask for a refresh with `berth:look`.
import { ago, elsewhere, isSilent, rest, wait } from './pure.js';

/** How long a page may take to come. */
const PATIENCE = 10_000;
/** How long a lost connection is kept from the person: most come back at once. */
const SHY = 1_500;

let morph;
htmx.registerExtension('berth-live', { init: (api) => { morph = api.morph; } });

const address = document.body.dataset.stream;
const lost = document.getElementById('lost');
let source = null;
let heard = 0;
let failures = 0;
let lostAt = null;
let retry = null;
let fetching = false;
let again = false;
let lastText = '';

// Connection

function connect() {
  retry = null;
  source?.close();
  heard = Date.now();
  source = new EventSource(address);
  source.addEventListener('look', () => { alive(); look(); });
  source.addEventListener('still', alive);
  source.addEventListener('error', broken);
}

function alive() {
  heard = Date.now();
}

function broken() {
  source?.close();
  source = null;
  lostAt ??= Date.now();
  if (retry !== null) return;
  retry = setTimeout(connect, wait(failures, Math.random()));
  failures += 1;
  // A login that has ended also ends the stream: the page itself says which it is.
  look();
}

function showConnection() {
  const gone = lostAt !== null && Date.now() - lostAt > SHY;
  lost.hidden = !gone;
  document.body.classList.toggle('stale', gone);
  if (!gone) return;
  document.getElementById('lost-since').textContent = `What is shown is from ${new Date(lostAt).toLocaleTimeString()}.`;
  const links = document.querySelectorAll('#others a');
  links.forEach((link) => { link.href = elsewhere(link.dataset.host, location); });
  document.getElementById('lost-others').hidden = links.length === 0;
}

// Content

/** Fetches the page again; once more afterwards when something has changed meanwhile. */
async function look() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const began = performance.now();
  try {
    await refresh();
  } catch {
    // The stream notices a lost connection, and looks again when it is back.
    if (address && source !== null) broken();
  }
  const pause = rest(performance.now() - began);
  await new Promise((done) => setTimeout(done, document.hidden ? Math.max(pause, 2_000) : pause));
  fetching = false;
  if (again) {
    again = false;
    look();
  }
}

async function refresh() {
  const answer = await fetch(location.href, {
    headers: { Accept: 'text/html' },
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.redirected && new URL(answer.url).pathname === '/login') {
    location.assign('/login');
    return;
  }
  // A manager that knows of no leader says so with a status of its own: what is shown stays, and is old.
  if (answer.status >= 500) throw new Error(answer.statusText);
  const text = await answer.text();
  lostAt = null;
  failures = 0;
  showConnection();
  if (text === lastText) return;
  lastText = text;
  put(new DOMParser().parseFromString(text, 'text/html'), answer.ok);
}

/** Brings the live regions to what they are in `page`. */
function put(page, ok) {
  if (!ok) {
    // What the page was about is gone: say so where it was.
    document.getElementById('main').replaceChildren(...page.getElementById('main').childNodes);
    return;
  }
  document.title = page.title;
  for (const region of document.querySelectorAll('[data-live][id]')) {
    const now = page.getElementById(region.id);
    if (now === null) continue;
    morph(region, now, true);
    htmx.process(region);
    // The morph leaves the field with the focus alone, also when nothing was typed there.
    region.querySelectorAll('input:not([data-keep], [type="checkbox"], [type="radio"])').forEach(restore);
  }
  document.dispatchEvent(new CustomEvent('berth:refreshed'));
}

// Times

function tick() {
  const now = Date.now();
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const text = ago(now - Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}

// Fields

// What a person has typed stays until it is sent; so does the version of the object that it was typed for: what somebody else
// changes meanwhile is a conflict, and not overwritten.
document.addEventListener('input', (event) => {
  if (!event.target.closest('[data-live]')) return;
  event.target.setAttribute('data-keep', '');
  hidden(event.target.form).forEach((field) => field.setAttribute('data-keep', ''));
});

document.addEventListener('htmx:finally:request', (event) => {
  const { ctx } = event.detail;
  const form = ctx.sourceElement?.closest?.('form');
  const answer = ctx.response?.raw;
  if (answer?.ok) {
    form?.querySelectorAll('[data-keep]').forEach(release);
    form?.closest('details.ask')?.removeAttribute('open');
  } else if (answer?.status === 412) {
    // The person is told, and sees what it is now: the next time it is meant so.
    hidden(form).forEach(release);
  }
  look();
});

function hidden(form) {
  return form?.querySelectorAll('input[type="hidden"]') ?? [];
}

function release(field) {
  field.removeAttribute('data-keep');
  restore(field);
}

function restore(field) {
  if ('defaultValue' in field && field.value !== field.defaultValue) field.value = field.defaultValue;
}

document.addEventListener('berth:look', look);
if (address) {
  connect();
  setInterval(() => {
    if (source !== null && isSilent(heard, Date.now())) broken();
    showConnection();
  }, 1_000);
  // A laptop that was closed looks at once.
  addEventListener('online', () => { if (retry !== null) { clearTimeout(retry); connect(); } });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    if (retry !== null) { clearTimeout(retry); connect(); } else look();
  });
  // A page that is left lets go of its connection: browsers allow few to one host.
  addEventListener('pagehide', () => source?.close());
  addEventListener('pageshow', (event) => { if (event.persisted) connect(); });
}
setInterval(tick, 5_000);

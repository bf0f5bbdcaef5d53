// The output of tasks, live: follows, pauses, finds words, colours replicas, goes on after a lost connection without showing a
// line twice. What tasks write gets into the page as text alone.

import { pieces } from './ansi.js';
import { Seen, marked, matches } from './log_lines.js';

/** Lines that the page keeps; older ones go. */
const MOST_LINES = 5_000;
/** Lines of each task that are asked for at first. */
const FIRST_LINES = 500;
/** Between tries to connect again, milliseconds: first and longest. */
const RETRY = [500, 10_000];
/** The code of a connection that may not go on (RFC 6455 section 7.4.1). */
const NOT_LET_IN = 1008;
/** Colours of replicas that the style sheet has. */
const COLOURS = 8;
/** Letters of one line that are shown; the whole of it is in the download. */
const MOST_LETTERS = 20_000;

class LogView {
  constructor(root) {
    this.root = root;
    this.lines = root.querySelector('[data-log-lines]');
    this.state = root.querySelector('[data-log-state]');
    this.hits = root.querySelector('[data-log-hits]');
    this.names = root.querySelector('[data-log-names]');
    this.controls = Object.fromEntries(
      [...root.querySelectorAll('[data-log-control]')].map((control) => [control.dataset.logControl, control]),
    );
    // What is shown, oldest first, as `{record, row, shown, found}`; what has come and is not shown yet.
    this.entries = [];
    this.waiting = [];
    this.dropped = 0;
    this.seen = new Seen();
    this.colours = new Map();
    this.hidden = new Set();
    this.word = '';
    this.current = null;
    this.paused = false;
    this.follows = true;
    this.retry = RETRY[0];
    this.frame = 0;
    this.listen();
    this.connect();
  }

  listen() {
    const { controls } = this;
    let typing = 0;
    controls.search.addEventListener('input', () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.search(controls.search.value), 150);
    });
    controls.search.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter') return;
      event.preventDefault();
      this.step(event.shiftKey ? -1 : 1);
    });
    controls.only.addEventListener('change', () => this.refresh());
    controls.wrap.addEventListener('change', () => this.lines.classList.toggle('log-wrap', controls.wrap.checked));
    controls.times.addEventListener('change', () => this.lines.classList.toggle('log-times', controls.times.checked));
    controls.pause.addEventListener('click', () => this.pause(!this.paused));
    controls.clear.addEventListener('click', () => this.clear());
    controls.download.addEventListener('click', () => this.download());
    controls.end.addEventListener('click', () => this.toEnd());
    this.lines.addEventListener('scroll', () => this.scrolled(), { passive: true });
    // A connection that is dead without having been closed is noticed by the page's stream: `live.js` says so by this class.
    new MutationObserver(() => {
      if (document.body.classList.contains('stale')) this.lose();
    }).observe(document.body, { attributeFilter: ['class'] });
    window.addEventListener('online', () => this.connect());
    window.addEventListener('pagehide', () => this.leave());
    window.addEventListener('pageshow', (event) => {
      if (event.persisted) this.connect();
    });
  }

  /** Opens the connection unless it is open. */
  connect() {
    clearTimeout(this.timer);
    if (this.socket !== undefined) return;
    const url = new URL(this.root.dataset.logs, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('follow', 'true');
    const since = this.seen.resume();
    url.searchParams.set('tail', since === null ? FIRST_LINES : MOST_LINES);
    if (since !== null) url.searchParams.set('since', since);
    const socket = new WebSocket(url);
    this.socket = socket;
    this.problem = null;
    this.say('connecting');
    socket.addEventListener('open', () => {
      this.retry = RETRY[0];
      this.say(this.paused ? 'paused' : 'live');
    });
    socket.addEventListener('message', (event) => this.take(event.data));
    socket.addEventListener('close', (event) => {
      if (this.socket === socket) this.closed(event.code);
    });
  }

  closed(code) {
    this.socket = undefined;
    if (code === 1000) {
      this.say('ended');
      return;
    }
    if (code === NOT_LET_IN) {
      this.say('failed', 'the login has ended');
      return;
    }
    // What the request itself is to blame for, another try does not mend.
    if (this.problem !== null && this.problem.status >= 400 && this.problem.status < 500) {
      this.say('failed', this.problem.detail);
      return;
    }
    this.say('lost', this.problem?.detail);
    this.timer = setTimeout(() => this.connect(), this.retry);
    this.retry = Math.min(this.retry * 2, RETRY[1]);
  }

  lose() {
    if (this.socket === undefined) return;
    this.leave();
    this.closed(1006);
  }

  leave() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = undefined;
    socket?.close();
  }

  say(state, detail) {
    const words = {
      connecting: 'connecting…',
      live: 'live',
      paused: 'paused',
      ended: 'the output has ended',
      lost: 'connection lost, trying again',
      failed: 'cannot be shown',
    };
    this.root.dataset.logIs = state;
    const waiting = this.paused && this.waiting.length > 0 ? `, ${this.waiting.length} new lines` : '';
    this.state.textContent = `${words[state]}${detail ? `: ${detail}` : ''}${waiting}`;
  }

  take(data) {
    const record = JSON.parse(data);
    if (record.error !== undefined) {
      this.problem = record.error;
      return;
    }
    if (!this.seen.isNew(record)) return;
    this.waiting.push(record);
    if (this.waiting.length > MOST_LINES) {
      this.waiting.shift();
      this.dropped += 1;
    }
    if (this.paused) {
      this.say('paused');
    } else if (this.frame === 0) {
      this.frame = requestAnimationFrame(() => this.show());
    }
  }

  /** Everything that has come, at once. */
  show() {
    this.frame = 0;
    if (this.paused) return;
    const fresh = this.waiting.splice(0).map((record) => this.entry(record));
    const over = Math.max(0, this.entries.length + fresh.length - MOST_LINES);
    this.entries.splice(0, over).forEach((old) => {
      old.row.remove();
      if (this.current === old) this.current = null;
    });
    this.entries.push(...fresh);
    if (this.dropped > 0) {
      this.gap?.remove();
      this.gap = document.createElement('div');
      this.gap.className = 'log-gap';
      this.gap.textContent = `${this.dropped} lines came too fast to be shown`;
      this.lines.append(this.gap);
      this.dropped = 0;
    }
    this.lines.append(...fresh.map((entry) => entry.row));
    this.count();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  entry(record) {
    const row = document.createElement('div');
    row.className = `log-line log-${record.stream === 'stderr' ? 'stderr' : 'stdout'}`;
    const time = document.createElement('time');
    time.dateTime = record.time;
    time.title = record.time;
    time.textContent = clock(record.time);
    const text = document.createElement('span');
    text.className = 'log-text';
    row.append(time);
    if (this.names !== null) row.append(this.name(record));
    row.append(text);
    const entry = { record, row, text, pieces: pieces(record.line.slice(0, MOST_LETTERS)), found: 0 };
    this.paint(entry);
    return entry;
  }

  /** Who wrote a line: each replica has its colour. */
  name({ task, node }) {
    if (!this.colours.has(task)) this.meet(task);
    const name = document.createElement('span');
    name.className = `log-name log-colour-${this.colours.get(task)}`;
    name.textContent = task;
    name.title = `on ${node}`;
    return name;
  }

  /** A replica that was not heard of before gets a colour, and a switch. */
  meet(task) {
    const colour = this.colours.size % COLOURS;
    this.colours.set(task, colour);
    const label = document.createElement('label');
    label.className = `log-switch log-colour-${colour}`;
    const box = document.createElement('input');
    box.type = 'checkbox';
    box.checked = true;
    box.addEventListener('change', () => {
      if (box.checked) this.hidden.delete(task);
      else this.hidden.add(task);
      this.refresh();
    });
    label.append(box, ` ${task}`);
    this.names.append(label);
  }

  /** Shows or hides a line, and marks what is looked for. */
  paint(entry) {
    const text = entry.pieces.map((piece) => piece.text).join('');
    const found = matches(text, this.word);
    const nodes = marked(entry.pieces, found).map(({ text: part, classes, match }) => {
      if (!match && classes.length === 0) return part;
      const node = document.createElement(match ? 'mark' : 'span');
      node.className = classes.join(' ');
      node.textContent = part;
      return node;
    });
    entry.text.replaceChildren(...nodes);
    const missed = this.word !== '' && this.controls.only.checked && found.length === 0;
    entry.row.hidden = missed || this.hidden.has(entry.record.task);
    entry.found = entry.row.hidden ? 0 : found.length;
  }

  refresh() {
    this.entries.forEach((entry) => this.paint(entry));
    this.count();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  search(word) {
    this.word = word;
    this.select(null);
    this.refresh();
  }

  count() {
    const found = this.entries.reduce((sum, entry) => sum + entry.found, 0);
    this.hits.textContent = this.word === '' ? '' : `${found} ${found === 1 ? 'match' : 'matches'}`;
  }

  /** To the next line that matches, or the one before; from the end when none was chosen yet. */
  step(by) {
    const found = this.entries.filter((entry) => entry.found > 0);
    if (found.length === 0) return;
    const at = found.indexOf(this.current);
    const next = at < 0 ? found.length - 1 : (at + by + found.length) % found.length;
    this.select(found[next]);
    this.follows = false;
    this.current.row.scrollIntoView({ block: 'center' });
  }

  select(entry) {
    this.current?.row.classList.remove('log-current');
    this.current = entry;
    entry?.row.classList.add('log-current');
  }

  pause(paused) {
    this.paused = paused;
    this.controls.pause.setAttribute('aria-pressed', String(paused));
    if (this.socket !== undefined) this.say(paused ? 'paused' : 'live');
    if (!paused) this.show();
  }

  clear() {
    this.entries = [];
    this.waiting = [];
    this.dropped = 0;
    this.select(null);
    this.lines.replaceChildren();
    this.count();
  }

  /** Who scrolls up reads, and is left alone; who scrolls to the end follows again. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    this.follows = scrollHeight - scrollTop - clientHeight < 8;
    this.controls.end.hidden = this.follows;
  }

  toEnd() {
    this.follows = true;
    this.lines.scrollTop = this.lines.scrollHeight;
    this.lines.focus();
  }

  /** The lines that are kept, as text. */
  download() {
    const rows = this.entries.map(({ record }) => `${record.time} ${record.task} ${record.stream} ${record.line}\n`);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(rows, { type: 'text/plain' }));
    link.download = `${this.root.dataset.logName}.log`;
    link.click();
    // The download has begun by then; without this the lines stay in memory as long as the page.
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

/** Time of day where the person is. */
function clock(time) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, '0');
  const millis = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${millis}`;
}

document.querySelectorAll('[data-logs]').forEach((root) => new LogView(root));

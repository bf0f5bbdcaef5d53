// What is known of the lines of a log: which were seen, from where to go on, where a word is in them. Knows no page and no clock.

/** How far the clocks of nodes may differ, and how late lines may come, milliseconds: so much is asked for again. */
const SLACK = 60_000;

/** A time as text that sorts as the time does: RFC 3339 in UTC leaves zeros out, so that texts alone do not. */
export function sortable(time) {
  const [seconds, fraction = ''] = time.replace(/Z$/, '').split('.');
  return `${seconds}.${fraction.padEnd(9, '0')}`;
}

/** Which lines were seen. Those of one task and stream come in order, those of several do not. */
export class Seen {
  constructor() {
    // By task and stream: the last time, how many lines had it, and how many of those came again since the connection was made.
    this.marks = new Map();
    this.newest = null;
  }

  /** Whether the line is new; notes it. */
  isNew({ task_id: task, stream, time }) {
    const at = sortable(time);
    const key = `${task} ${stream}`;
    const mark = this.marks.get(key);
    if (mark !== undefined && at < mark.at) return false;
    if (mark !== undefined && at === mark.at) {
      if (mark.again < mark.lines) {
        mark.again += 1;
        return false;
      }
      mark.lines += 1;
      mark.again = mark.lines;
    } else {
      this.marks.set(key, { at, lines: 1, again: 1 });
    }
    if (this.newest === null || at > sortable(this.newest)) this.newest = time;
    return true;
  }

  /** From where to ask when the connection is made again; null when nothing was seen. */
  resume() {
    this.marks.forEach((mark) => {
      mark.again = 0;
    });
    return this.newest === null ? null : new Date(Date.parse(this.newest) - SLACK).toISOString();
  }
}

/** Where `word` is in `text`, whatever the case: pairs of beginning and end. */
export function matches(text, word) {
  const found = [];
  if (word === '') return found;
  const [where, what] = [fold(text), fold(word)];
  for (let at = where.indexOf(what); at >= 0; at = where.indexOf(what, at + what.length)) {
    found.push([at, at + what.length]);
  }
  return found;
}

/** Lower case, of the same length: some letters have a longer one, and places have to stay. */
function fold(text) {
  const lower = text.toLowerCase();
  if (lower.length === text.length) return lower;
  return Array.from(text, (letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join('');
}

/** Pieces `{text, classes}` cut where matches begin and end; those inside a match are marked. */
export function marked(pieces, ranges) {
  const cut = [];
  let at = 0;
  let next = 0;
  for (const { text, classes } of pieces) {
    let done = 0;
    while (done < text.length) {
      while (next < ranges.length && ranges[next][1] <= at + done) next += 1;
      const [begin, end] = ranges[next] ?? [Infinity, Infinity];
      const inside = at + done >= begin;
      const stop = Math.min(text.length, (inside ? end : begin) - at);
      cut.push({ text: text.slice(done, stop), classes, match: inside });
      done = stop;
    }
    at += text.length;
  }
  return cut;
}

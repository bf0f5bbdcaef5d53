// What the pages' scripts decide, without a browser. Nothing here reads a clock, a random number or the document.

/** Silence on the stream after which the connection counts as lost, in milliseconds: three of the server's words. */
export const SILENCE = 12_000;

/** Shortest and longest wait before the next attempt to connect, in milliseconds. */
const WAIT = [500, 10_000];

/** Wait before the attempt after `failures` in a row; `chance` is from [0, 1), so that pages do not come all at once. */
export function wait(failures, chance) {
  const longest = Math.min(WAIT[1], WAIT[0] * 2 ** Math.min(failures, 10));
  return Math.round(longest / 2 + (chance * longest) / 2);
}

/** Whether the stream that last said something at `heard` is to be given up at `now`. */
export function isSilent(heard, now) {
  return now - heard > SILENCE;
}

/** How long to wait before the page is fetched again, when the last time took `took` ms: a slow page is not asked all the time. */
export function rest(took) {
  return Math.min(5_000, Math.max(0, took - 50) * 2);
}

/** `now`, `12 s ago`, `3 min ago`, `5 h ago`, `9 d ago`; the server writes the same. */
export function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 2) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** Whether `text` has every word of `wanted`, without regard to case; `-word` means that it has it not. */
export function matches(text, wanted) {
  const all = text.toLowerCase();
  return wanted
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '' && word !== '-')
    .every((word) => (word.startsWith('-') ? !all.includes(word.slice(1)) : all.includes(word)));
}

/** Whether `wanted` is about the group that `text` describes as a whole, so that all its members are shown. */
export function names(text, wanted) {
  const words = wanted.split(/\s+/).filter((word) => word !== '');
  return words.length > 0 && !words.some((word) => word.startsWith('-')) && matches(text, wanted);
}

/**
 * The tile to go to from the one at `from` with an arrow key, or null. `places` are the middles of all tiles, in order.
 * Left and right follow the order; up and down go to the nearest tile of the nearest row there.
 */
export function neighbour(places, from, key) {
  if (key === 'ArrowLeft') return from > 0 ? from - 1 : null;
  if (key === 'ArrowRight') return from + 1 < places.length ? from + 1 : null;
  if (key === 'Home') return 0;
  if (key === 'End') return places.length - 1;
  const way = key === 'ArrowDown' ? 1 : -1;
  const here = places[from];
  let best = null;
  let cost = Infinity;
  places.forEach((place, index) => {
    const down = (place.y - here.y) * way;
    if (down < 4) return;
    // A row that is nearer wins over a column that is.
    const price = down * 4 + Math.abs(place.x - here.x);
    if (price < cost) [best, cost] = [index, price];
  });
  return best;
}

/** The URL of the page that is open, at another manager: host of a URL, and the page's own location. */
export function elsewhere(host, { protocol, port, pathname }) {
  return `${protocol}//${host}${port === '' ? '' : `:${port}`}${pathname}`;
}

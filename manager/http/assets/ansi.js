// Text of a terminal as pieces that a page can show: colours as names of classes, everything else that a terminal would obey
// left out. Makes no HTML: whoever shows a piece puts it in as text.

const ESCAPE = '\u001b';
// A control sequence, an operating system command, a device control string or the like, any other escape (ECMA-48).
const SEQUENCES = new RegExp(
  `${ESCAPE}\\[([0-9;:?<=>]*)[ -/]*([@-~])` +
    `|${ESCAPE}[\\]PX^_][^\\u0007${ESCAPE}]*(?:\\u0007|${ESCAPE}\\\\|$)` +
    `|${ESCAPE}[ -/]*[0-~]` +
    `|${ESCAPE}`,
  'g',
);
// Everything else that is not text, but a tab; and what turns the direction of text around.
const CONTROLS = /[\u0000-\u0008\u000a-\u001a\u001c-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
// What the sixteen colours look like in most terminals, to find the one that is nearest to any other.
const PALETTE = [
  [0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255],
];

/** Pieces `{text, classes}` of one line. What was overwritten after a carriage return is left out, as a terminal shows it. */
export function pieces(line) {
  const found = [];
  const style = { foreground: null, background: null, flags: new Set() };
  let at = 0;
  for (const match of line.matchAll(SEQUENCES)) {
    add(found, line.slice(at, match.index), style);
    at = match.index + match[0].length;
    if (match[2] === 'm') {
      select(style, match[1]);
    } else if (match[2] + match[1] === 'K2' || match[2] + match[1] === 'G' || match[2] + match[1] === 'G1') {
      // The line is written again from its beginning.
      found.length = 0;
    }
  }
  add(found, line.slice(at), style);
  return found;
}

/** The same as text alone. */
export function plain(line) {
  return pieces(line).map((piece) => piece.text).join('');
}

function add(found, text, style) {
  const parts = text.replace(/\r+$/, '').split('\r');
  if (parts.length > 1) found.length = 0;
  const shown = parts[parts.length - 1].replace(CONTROLS, '');
  if (shown !== '') found.push({ text: shown, classes: classes(style) });
}

function classes(style) {
  const names = [...style.flags].map((flag) => `ansi-${flag}`);
  if (style.foreground !== null) names.push(`ansi-fg-${style.foreground}`);
  if (style.background !== null) names.push(`ansi-bg-${style.background}`);
  return names;
}

const FLAGS = new Map([[1, 'bold'], [2, 'dim'], [3, 'italic'], [4, 'underline'], [7, 'inverse'], [9, 'strike']]);

/** Select graphic rendition (ECMA-48 section 8.3.117). */
function select(style, parameters) {
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).map((code) => Number(code) || 0);
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i];
    if (code === 0) {
      style.foreground = null;
      style.background = null;
      style.flags.clear();
    } else if (FLAGS.has(code)) style.flags.add(FLAGS.get(code));
    else if (code === 22) ['bold', 'dim'].forEach((flag) => style.flags.delete(flag));
    else if (code >= 23 && code <= 29) style.flags.delete(FLAGS.get(code - 20));
    else if (code >= 30 && code <= 37) style.foreground = code - 30;
    else if (code >= 90 && code <= 97) style.foreground = code - 82;
    else if (code >= 40 && code <= 47) style.background = code - 40;
    else if (code >= 100 && code <= 107) style.background = code - 92;
    else if (code === 39) style.foreground = null;
    else if (code === 49) style.background = null;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(i + 1));
      style[code === 38 ? 'foreground' : 'background'] = colour;
      i += used;
    }
  }
}

/** One of 256 or of all colours, as the nearest of the sixteen: those can be read on a light and on a dark page. */
function extended([form, ...rest]) {
  if (form === 2) return [nearest(rest.slice(0, 3).map((part) => Math.min(part, 255))), 4];
  if (form !== 5) return [null, 1];
  const number = Math.min(rest[0] ?? 0, 255);
  if (number < 16) return [number, 2];
  if (number >= 232) return [nearest(Array(3).fill(8 + 10 * (number - 232))), 2];
  const level = (part) => (part === 0 ? 0 : 55 + 40 * part);
  const cube = number - 16;
  return [nearest([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]), 2];
}

function nearest([red = 0, green = 0, blue = 0]) {
  const distance = ([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
  let best = 0;
  PALETTE.forEach((colour, index) => {
    if (distance(colour) < distance(PALETTE[best])) best = index;
  });
  return best;
}

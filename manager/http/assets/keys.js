// Shortcuts, arrow keys among tiles, filter boxes.
import { matches, names, neighbour } from './pure.js';

/** How long `g` waits for its letter, in milliseconds. */
const SEQUENCE = 1_200;

const help = document.getElementById('help');
const peek = document.getElementById('peek');
let went = 0;

const inField = (target) => target.closest?.('input, textarea, select, [contenteditable], [data-own-keys]');

// Shortcuts

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === 'Escape' && event.target.matches?.('input[type="search"]')) {
    event.target.blur();
    return;
  }
  if (inField(event.target) || help.open) return;
  const key = event.key;
  if (performance.now() - went < SEQUENCE) {
    went = 0;
    const link = document.querySelector(`nav a[data-key="${CSS.escape(key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
      return;
    }
  }
  if (key === 'g') {
    went = performance.now();
  } else if (key === '?') {
    help.showModal();
  } else if (key === '/') {
    const field = document.querySelector('main input[type="search"]');
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  }
});

const button = document.getElementById('help-button');
button.hidden = false;
button.addEventListener('click', () => help.showModal());

// Tiles: one stop for the tab key, arrows for the rest

const tiles = () => [...document.querySelectorAll('.tile:not([data-filtered])')].filter((tile) => !tile.closest('[data-filtered]'));

function rove(to) {
  const all = document.querySelectorAll('.tile');
  if (all.length === 0) return;
  const current = to ?? document.querySelector('.tile[tabindex="0"]:not([data-filtered])') ?? tiles()[0] ?? all[0];
  for (const tile of all) tile.tabIndex = tile === current ? 0 : -1;
}

document.addEventListener('keydown', (event) => {
  const tile = event.target.closest?.('.tile');
  if (!tile || !['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End'].includes(event.key)) return;
  event.preventDefault();
  const all = tiles();
  const places = all.map((each) => {
    const box = each.getBoundingClientRect();
    return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  });
  const next = all[neighbour(places, all.indexOf(tile), event.key)];
  if (!next) return;
  rove(next);
  next.focus();
});

// What a tile says, in a line at the bottom

function show(event) {
  const tile = event.target.closest?.('.tile');
  peek.hidden = !tile;
  if (tile) peek.textContent = tile.getAttribute('aria-label');
  if (tile && event.type === 'focusin') rove(tile);
}
document.addEventListener('focusin', show);
document.addEventListener('mouseover', show);

// Filter boxes: `data-filters` is a selector of what is hidden when its `data-name`, label or text does not match

function filter(box) {
  for (const each of document.querySelectorAll(box.dataset.filters)) {
    const text = each.dataset.name ?? each.getAttribute('aria-label') ?? each.textContent;
    each.toggleAttribute('data-filtered', !matches(text, box.value));
  }
  // A group with nothing left in it goes too.
  for (const group of document.querySelectorAll('[data-group]')) {
    const members = group.querySelectorAll(box.dataset.filters);
    const named = names(group.dataset.group, box.value);
    if (named) members.forEach((member) => member.removeAttribute('data-filtered'));
    const empty = box.value.trim() !== '' && !named && [...members].every((member) => member.hasAttribute('data-filtered'));
    group.toggleAttribute('data-filtered', empty);
  }
  const left = document.getElementById(box.getAttribute('aria-controls'))?.querySelectorAll(`:is(${box.dataset.filters}):not([data-filtered])`);
  const count = document.getElementById('filter-count');
  if (count && left) count.textContent = box.value.trim() === '' ? '' : `${left.length} shown`;
}

const filters = () => document.querySelectorAll('input[data-filters]').forEach(filter);
document.addEventListener('input', (event) => {
  if (event.target.matches('input[data-filters]')) filter(event.target);
});
document.addEventListener('berth:refreshed', () => {
  rove();
  filters();
});
rove();
filters();

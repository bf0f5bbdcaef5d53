// node --test manager/http/tests/js/
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ago, elsewhere, isSilent, matches, names, neighbour, rest, wait } from '../../assets/pure.js';

test('the wait grows, is never the same for all, and ends somewhere', () => {
  assert.deepEqual([0, 1, 2, 3].map((failures) => wait(failures, 0)), [250, 500, 1000, 2000]);
  assert.ok(wait(1, 0.99) > wait(1, 0));
  assert.ok(wait(1000, 0.999) <= 10_000 && wait(1000, 0) >= 5_000);
});

test('three missed words are silence', () => {
  assert.equal(isSilent(1000, 13_000), false);
  assert.equal(isSilent(1000, 13_001), true);
});

test('a slow page is asked less often', () => {
  assert.equal(rest(20), 0);
  assert.equal(rest(550), 1000);
  assert.equal(rest(60_000), 5_000);
});

test('times are short', () => {
  const shown = [-5, 1500, 12_000, 185_000, 7_300_000, 800_000_000].map(ago);
  assert.deepEqual(shown, ['now', 'now', '12 s ago', '3 min ago', '2 h ago', '9 d ago']);
});

test('a filter has words that must be there and words that must not', () => {
  assert.ok(matches('web.1 running n1', 'RUN web'));
  assert.ok(!matches('web.1 running n1', 'run n2'));
  assert.ok(!matches('web.1 running n1', 'web -running'));
  assert.ok(matches('anything', '  - '));
});

test('a filter may be about a whole group', () => {
  assert.ok(names('n1 ready active worker zone=a', 'zone=a'));
  assert.ok(!names('n1 ready active worker', 'running'));
  assert.ok(!names('n1 ready active worker', '-running'));
  assert.ok(!names('n1', ' '));
});

test('arrows go along rows and between them', () => {
  // Two rows of three, the second one shifted.
  const places = [0, 10, 20].map((x) => ({ x, y: 0 })).concat([5, 15, 25].map((x) => ({ x, y: 10 })));
  assert.equal(neighbour(places, 0, 'ArrowLeft'), null);
  assert.equal(neighbour(places, 2, 'ArrowRight'), 3);
  assert.equal(neighbour(places, 5, 'ArrowRight'), null);
  assert.equal(neighbour(places, 1, 'ArrowDown'), 3);
  assert.equal(neighbour(places, 5, 'ArrowUp'), 2);
  assert.equal(neighbour(places, 0, 'ArrowUp'), null);
  assert.equal(neighbour(places, 0, 'End'), 5);
});

test('another manager shows the same page', () => {
  const here = { protocol: 'https:', port: '4778', pathname: '/services/x' };
  assert.equal(elsewhere('10.0.0.2', here), 'https://10.0.0.2:4778/services/x');
  assert.equal(elsewhere('[fd00::2]', { ...here, port: '' }), 'https://[fd00::2]/services/x');
});

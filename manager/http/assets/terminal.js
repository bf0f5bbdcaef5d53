// A terminal in a task's container. The terminal itself is xterm.js, which is fetched when somebody opens one.

import { END, RESIZE, STATUS, STDERR, STDIN, STDOUT, frame, json, unframe, words } from './frames.js';
import { allow } from './sheets.js';

/** Lines that can be scrolled back to. */
const SCROLLBACK = 5_000;
/** The code of a connection that may not go on (RFC 6455 section 7.4.1). */
const NOT_LET_IN = 1008;
/** The same on a light and on a dark page, each colour readable on the background. */
const THEME = {
  background: '#10151c', foreground: '#e6e9ee', cursor: '#e6e9ee', cursorAccent: '#10151c',
  selectionBackground: '#3b5273', black: '#5c6773', red: '#ff7b72', green: '#7ee787', yellow: '#f2cc60',
  blue: '#79c0ff', magenta: '#d2a8ff', cyan: '#76e3ea', white: '#e6e9ee', brightBlack: '#8b949e',
  brightRed: '#ffa198', brightGreen: '#aff5b4', brightYellow: '#f8e3a1', brightBlue: '#a5d6ff',
  brightMagenta: '#e2c5ff', brightCyan: '#b3f0f4', brightWhite: '#ffffff',
};

let library;

/** xterm.js, fetched once. */
function xterm() {
  library ??= Promise.all([import('./xterm.mjs'), import('./xterm-addon-fit.mjs')]).then(([core, fit]) => {
    allow(document);
    return { Terminal: core.Terminal, FitAddon: fit.FitAddon };
  });
  return library;
}

class Session {
  constructor(root) {
    this.root = root;
    this.form = root.querySelector('form');
    this.screen = root.querySelector('[data-terminal-screen]');
    this.state = root.querySelector('[data-terminal-state]');
    this.end = root.querySelector('[data-terminal-end]');
    this.reader = root.querySelector('[data-terminal-reader]');
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.open();
    });
    this.end.addEventListener('click', () => this.close('closed'));
    this.reader.addEventListener('change', () => {
      if (this.terminal) this.terminal.options.screenReaderMode = this.reader.checked;
    });
    window.addEventListener('pagehide', () => this.close('closed'));
  }

  async open() {
    const fields = new FormData(this.form);
    const command = words(String(fields.get('command')));
    if (command.length === 0) {
      this.say('idle', 'a command is missing');
      return;
    }
    this.close('closed');
    this.say('opening', 'opening…');
    try {
      await this.draw();
    } catch (error) {
      this.say('ended', `the terminal cannot be loaded: ${error.message}`);
      return;
    }
    this.call(command, String(fields.get('user')).trim());
  }

  /** An empty screen that fits its place. */
  async draw() {
    const { Terminal, FitAddon } = await xterm();
    this.terminal?.dispose();
    this.screen.hidden = false;
    const terminal = new Terminal({
      cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
      fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
      fontSize: 14,
      scrollback: SCROLLBACK,
      screenReaderMode: this.reader.checked,
      theme: THEME,
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(this.screen);
    terminal.attachCustomKeyEventHandler((event) => this.key(event));
    terminal.onData((text) => this.send(frame(STDIN, text)));
    terminal.onBinary((text) => this.send(frame(STDIN, Uint8Array.from(text, (letter) => letter.charCodeAt(0)))));
    terminal.onResize(({ cols, rows }) => this.send(frame(RESIZE, JSON.stringify({ columns: cols, rows }))));
    this.sizes?.disconnect();
    this.sizes = new ResizeObserver(() => fit.fit());
    this.sizes.observe(this.screen);
    fit.fit();
    this.terminal = terminal;
  }

  /** Keys that are not the terminal's: one that leaves it, for all others are caught in it, and copying. */
  key(event) {
    if (event.type !== 'keydown' || !event.ctrlKey) return true;
    if (event.shiftKey && (event.key === 'Escape' || event.key === 'Enter')) {
      event.preventDefault();
      this.end.focus();
      return false;
    }
    // The browser copies what is selected; without a selection the key interrupts.
    return !(event.key.toLowerCase() === 'c' && (event.shiftKey || this.terminal.hasSelection()));
  }

  call(command, user) {
    const url = new URL(this.root.dataset.terminal, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    command.forEach((word) => url.searchParams.append('command', word));
    url.searchParams.set('tty', 'true');
    url.searchParams.set('columns', this.terminal.cols);
    url.searchParams.set('rows', this.terminal.rows);
    if (user !== '') url.searchParams.set('user', user);
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.told = null;
    socket.addEventListener('open', () => {
      this.say('open', 'open');
      this.end.hidden = false;
      this.terminal.focus();
    });
    socket.addEventListener('message', (event) => this.take(event.data));
    socket.addEventListener('close', ({ code }) => {
      const why = code === NOT_LET_IN ? 'the login has ended' : 'connection lost; the command may still be running';
      if (this.socket === socket) this.close(this.told ?? why);
    });
  }

  take(data) {
    const [channel, content] = unframe(data);
    if (channel === STDOUT || channel === STDERR) {
      this.terminal.write(content);
    } else if (channel === STATUS) {
      const { exit_code: code, error } = json(content);
      this.told = error === undefined ? `ended with exit code ${code}` : [error.detail, error.hint].filter(Boolean).join('; ');
    }
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(message);
  }

  /** Ends the connection; what was written stays to be read. */
  close(why) {
    const socket = this.socket;
    if (socket === undefined) return;
    const focused = this.screen.contains(document.activeElement) || document.activeElement === this.end;
    this.send(new Uint8Array([END, STDIN]));
    this.socket = undefined;
    socket.close();
    this.end.hidden = true;
    this.terminal.options.disableStdin = true;
    this.say('ended', why);
    if (focused) this.form.querySelector('button').focus();
  }

  say(state, text) {
    this.root.dataset.terminalIs = state;
    this.state.textContent = text;
  }
}

document.querySelectorAll('[data-terminal]').forEach((root) => new Session(root));

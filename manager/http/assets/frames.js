// What a terminal and its task say to each other: binary messages, the first byte names the channel.

export const STDIN = 0;
export const STDOUT = 1;
export const STDERR = 2;
export const STATUS = 3;
export const RESIZE = 4;
/** Followed by a channel that ends. */
export const END = 255;

/** A message of a channel, from text or bytes. */
export function frame(channel, content) {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const message = new Uint8Array(bytes.length + 1);
  message[0] = channel;
  message.set(bytes, 1);
  return message;
}

/** Channel and content of a message. */
export function unframe(data) {
  const bytes = new Uint8Array(data);
  return [bytes[0], bytes.subarray(1)];
}

/** JSON in a message. */
export function json(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Words of a command line: parted by blanks, kept together by quotes, a backslash takes the next letter as it is. */
export function words(line) {
  const found = [];
  let word = null;
  let quote = null;
  for (let i = 0; i < line.length; i += 1) {
    const letter = line[i];
    if (letter === '\\' && quote !== "'" && i + 1 < line.length) {
      i += 1;
      word = (word ?? '') + line[i];
    } else if (quote !== null) {
      if (letter === quote) quote = null;
      else word += letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      word ??= '';
    } else if (/\s/.test(letter)) {
      if (word !== null) found.push(word);
      word = null;
    } else {
      word = (word ?? '') + letter;
    }
  }
  if (word !== null) found.push(word);
  return found;
}

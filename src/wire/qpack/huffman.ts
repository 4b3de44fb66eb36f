/**
 * The Huffman code of RFC 7541 appendix B. It is canonical: symbols sorted by length, then by value, take
 * consecutive code words, so the lengths alone define it. Decoding walks a table that consumes four bits a
 * step; no code word is shorter than five bits, so a step yields at most one symbol.
 */

const EOS = 256;

/** Code length of each symbol from 0 to EOS, one base-36 digit each, 32 symbols a line. */
const CODE_LENGTHS = Uint8Array.from(
  "dnsssssssoussussssssssusssssssss" +
    "6aacd68baa8b8666555666666678f6ca" +
    "d67777777777777777777777878djde6" +
    "f56565666577666567655677777fbeds" +
    "kmkkmmmnmnnnnnonoomnonnnnlmnmnno" +
    "mlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
    "qqkjmnmpqqqrrqopjlqrrqrollqqsrrr" +
    "koklmllnmmppooqnqrqqrrrrrsrrrrrq" +
    "u",
  (digit) => Number.parseInt(digit, 36),
);

/** Bits of a step: the next node, the symbol shifted by 8, and whether it is one or a dead end. */
const EMIT = 1 << 16;
const DEAD_END = 1 << 17;

const CODE_WORDS = assignCodeWords();
const TREE = plantTree();
const STEPS = tabulateSteps();
const PADDING_NODES = findPaddingNodes();

/** Returns how many bytes `text` (code units 0-255) takes as a Huffman string. */
export function huffmanSize(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += CODE_LENGTHS[text.charCodeAt(i)] as number;
  return (bits + 7) >>> 3;
}

/** Writes `text` (code units 0-255) and returns the offset behind it; the caller made room. */
export function writeHuffman(target: Uint8Array, offset: number, text: string): number {
  // `pending` holds fewer than 8 bits between symbols, so 24 more fit a 32-bit operation.
  let pending = 0;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    let word = CODE_WORDS[symbol] as number;
    let length = CODE_LENGTHS[symbol] as number;
    if (length > 24) {
      pending = (pending << 8) | (word >>> (length - 8));
      target[offset++] = pending >>> count;
      length -= 8;
      word &= (1 << length) - 1;
      pending &= (1 << count) - 1;
    }
    pending = (pending << length) | word;
    count += length;
    while (count >= 8) {
      count -= 8;
      target[offset++] = pending >>> count;
    }
    pending &= (1 << count) - 1;
  }
  // RFC 7541 §5.2: the padding is the most significant bits of the EOS code word, which are all ones.
  if (count > 0) target[offset++] = (pending << (8 - count)) | (0xff >>> count);
  return offset;
}

/**
 * Decodes `source[start, end)` into `target` and returns how many bytes it wrote; `target` has room for
 * 8/5 of the input. Returns -1 where the input is not a Huffman string.
 */
export function readHuffman(
  source: Uint8Array,
  target: Uint8Array,
  range: { readonly start: number; readonly end: number },
): number {
  let node = 0;
  let written = 0;
  for (let i = range.start; i < range.end; i++) {
    const byte = source[i] as number;
    const high = STEPS[(node << 4) | (byte >>> 4)] as number;
    if (high & EMIT) target[written++] = high >>> 8;
    const low = STEPS[((high & 0xff) << 4) | (byte & 0xf)] as number;
    if (low & EMIT) target[written++] = low >>> 8;
    // RFC 7541 §5.2: a string that contains EOS is a decoding error.
    if ((high | low) & DEAD_END) return -1;
    node = low & 0xff;
  }
  // RFC 7541 §5.2: padding longer than 7 bits, or other than the start of EOS, is a decoding error.
  return PADDING_NODES[node] === 1 ? written : -1;
}

function assignCodeWords(): Uint32Array {
  const words = new Uint32Array(EOS + 1);
  const symbols = Array.from(CODE_LENGTHS.keys()).sort((a, b) =>
    (CODE_LENGTHS[a] as number) - (CODE_LENGTHS[b] as number) || a - b
  );
  let word = 0;
  let length = 0;
  for (const symbol of symbols) {
    const next = CODE_LENGTHS[symbol] as number;
    word <<= next - length;
    length = next;
    words[symbol] = word++;
  }
  return words;
}

/** Child `bit` of node `n` is at `2 * n + bit`: another node, or `~symbol`. The root is node 0. */
function plantTree(): Int16Array {
  const tree = new Int16Array(2 * EOS);
  let nodes = 1;
  for (let symbol = 0; symbol <= EOS; symbol++) {
    const word = CODE_WORDS[symbol] as number;
    let node = 0;
    for (let bit = (CODE_LENGTHS[symbol] as number) - 1; bit > 0; bit--) {
      const child = 2 * node + ((word >>> bit) & 1);
      if (tree[child] === 0) tree[child] = nodes++;
      node = tree[child] as number;
    }
    tree[2 * node + (word & 1)] = ~symbol;
  }
  return tree;
}

function tabulateSteps(): Uint32Array {
  const steps = new Uint32Array(EOS << 4);
  for (let node = 0; node < EOS; node++) {
    for (let bits = 0; bits < 16; bits++) steps[(node << 4) | bits] = step(node, bits);
  }
  return steps;
}

function step(node: number, bits: number): number {
  let result = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const child = TREE[2 * node + ((bits >>> bit) & 1)] as number;
    if (child === ~EOS) return DEAD_END;
    if (child < 0) result = EMIT | (~child << 8);
    node = Math.max(child, 0);
  }
  return result | node;
}

/** The nodes a string may end at: the root and the first seven along the all-ones path. */
function findPaddingNodes(): Uint8Array {
  const nodes = new Uint8Array(EOS);
  let node = 0;
  for (let depth = 0; depth <= 7; depth++) {
    nodes[node] = 1;
    node = TREE[2 * node + 1] as number;
  }
  return nodes;
}

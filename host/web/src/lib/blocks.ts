/**
 * Cuts Markdown into blocks that can be rendered alone, so that of an answer that grows only the last block is read
 * again. A block ends at an empty line; not within a fence, and not where the next line belongs to a list or is indented.
 */
export function blocks(text: string): string[] {
  const found: string[] = [];
  let block: string[] = [];
  let fence: string | null = null;
  let blank = false;
  for (const line of text.split("\n")) {
    if (blank && fence === null && block.length > 0 && !goesOn(block, line)) {
      found.push(block.join("\n"));
      block = [];
    }
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence === null && mark) fence = mark;
    else if (fence !== null && mark?.startsWith(fence) && line.trim() === mark) fence = null;
    blank = fence === null && line.trim() === "";
    block.push(line);
  }
  if (block.some((line) => line.trim() !== "")) found.push(block.join("\n"));
  return found;
}

const LIST = /^\s{0,3}([-*+]|\d{1,9}[.)])\s/;

function goesOn(block: string[], next: string): boolean {
  if (next.trim() === "") return true;
  if (/^\s/.test(next)) return true;
  return LIST.test(next) && block.some((line) => LIST.test(line));
}

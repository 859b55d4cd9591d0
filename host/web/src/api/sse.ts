/** Server-sent events, read from a response's body: `EventSource` can send no key and no body. */

/** Cuts text that arrives in any pieces into the `data` of whole events. */
export class EventCutter {
  private rest = "";

  push(text: string): string[] {
    const parts = (this.rest + text).split(/\r?\n\r?\n/);
    this.rest = parts.pop() ?? "";
    return parts.flatMap((part) => {
      const lines = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      return lines.length === 0 ? [] : [lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n")];
    });
  }
}

/** The `data` of each event until the stream ends. */
export async function* events(response: Response): AsyncGenerator<string> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const cutter = new EventCutter();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* cutter.push(value);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

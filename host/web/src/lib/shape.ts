/** What a value from outside must look like. Each check says what is wrong and where, or null. */

export type Check = (value: unknown, place: string) => string | null;

/** The place of a part. */
export const at = (place: string, part: string | number): string => (typeof part === "number" ? `${place}[${part}]` : `${place}.${part}`);

function kind(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  return Array.isArray(value) ? "a list" : `a ${typeof value}`;
}

const must = (what: string, is: (value: unknown) => boolean): Check => (value, place) => (is(value) ? null : `${place} must be ${what}; found ${kind(value)}`);

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

export const text = must("a text", (value) => typeof value === "string");
export const number = must("a number", (value) => typeof value === "number" && Number.isFinite(value));
export const flag = must("true or false", (value) => typeof value === "boolean");

export const literal = (...words: string[]): Check => must(`one of ${words.join(", ")}`, (value) => words.includes(value as string));

export const orNull = (check: Check): Check => (value, place) => (value === null ? null : check(value, place));
export const maybe = (check: Check): Check => (value, place) => (value === undefined ? null : check(value, place));

export const oneOf = (...checks: Check[]): Check => (value, place) => (checks.some((check) => check(value, place) === null) ? null : `${place} is of no kind that it may be; found ${kind(value)}`);

/** The first fault among parts. */
function first(parts: Iterable<[string | number, unknown]>, check: (part: string | number) => Check, place: string): string | null {
  for (const [part, value] of parts) {
    const fault = check(part)(value, at(place, part));
    if (fault) return fault;
  }
  return null;
}

export const list = (check: Check): Check => (value, place) => (Array.isArray(value) ? first(value.entries(), () => check, place) : `${place} must be a list; found ${kind(value)}`);

export const record = (check: Check): Check => (value, place) => (isRecord(value) ? first(Object.entries(value), () => check, place) : `${place} must be an object; found ${kind(value)}`);

/** All of these; what else there is, a later version may have written. */
export const object = (fields: Record<string, Check>): Check => (value, place) =>
  isRecord(value)
    ? first(
        Object.keys(fields).map((name) => [name, value[name]]),
        (name) => fields[name] ?? text,
        place,
      )
    : `${place} must be an object; found ${kind(value)}`;

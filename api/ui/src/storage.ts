// What the browser keeps of this page. Without storage (private windows, full disks) nothing is kept.

/** A value, or the default if there is none or it is of another shape. */
export function load<T>(key: string, fallback: T, isShaped: (value: unknown) => value is T): T {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(`tidelake.${key}`) ?? "null");
    return isShaped(value) ? value : fallback;
  } catch {
    return fallback;
  }
}

/** Keeps a value. */
export function save(key: string, value: unknown): void {
  try {
    localStorage.setItem(`tidelake.${key}`, JSON.stringify(value));
  } catch {
    // Full or forbidden.
  }
}

/** Whether a value is text. */
export function isText(value: unknown): value is string {
  return typeof value === "string";
}

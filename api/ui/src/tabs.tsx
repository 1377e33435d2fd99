// The parts of a view, one of which is shown.
interface Props<Part extends string> {
  /** What readers call the list. */
  label: string;
  /** Parts with their titles. */
  parts: Record<Part, string>;
  chosen: NoInfer<Part>;
  onChoose(part: Part): void;
}

export function Tabs<Part extends string>({ label, parts, chosen, onChoose }: Props<Part>) {
  return (
    <div class="tabs" role="tablist" aria-label={label}>
      {(Object.keys(parts) as Part[]).map((part) => (
        <button key={part} role="tab" aria-selected={part === chosen} onClick={() => onChoose(part)}>
          {parts[part]}
        </button>
      ))}
    </div>
  );
}

/** The part that an address names, or another one. */
export function partOf<Part extends string>(
  parts: Record<Part, string>,
  asked: string | null,
  usual: NoInfer<Part>,
): Part {
  return asked !== null && Object.hasOwn(parts, asked) ? (asked as Part) : usual;
}

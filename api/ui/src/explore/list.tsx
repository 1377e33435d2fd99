// A list of names to search and to choose from.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

const MOST_SHOWN = 1000;

interface Item {
  name: string;
  note: string;
}

interface Props {
  title: string;
  items: Item[] | undefined;
  chosen: string;
  onChoose(name: string): void;
}

export function List({ title, items, chosen, onChoose }: Props) {
  const [filter, setFilter] = useState("");
  const found = useMemo(() => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    return (items ?? []).filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  }, [items, filter]);
  const list = useRef<HTMLUListElement>(null);
  // What an address names may be far down.
  useEffect(
    () => list.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" }),
    [items === undefined],
  );
  return (
    <section class="names" aria-label={title}>
      <input
        type="search"
        placeholder={`Search ${(items ?? []).length.toLocaleString("en")} ${title.toLowerCase()}`}
        aria-label={`Search ${title.toLowerCase()}`}
        value={filter}
        onInput={(event) => setFilter(event.currentTarget.value)}
      />
      <ul ref={list}>
        {found.slice(0, MOST_SHOWN).map(({ name, note }) => (
          <li key={name}>
            <button class="plain" aria-current={name === chosen ? "true" : undefined} onClick={() => onChoose(name)}>
              <span>{name}</span>
              <span class="soft">{note}</span>
            </button>
          </li>
        ))}
      </ul>
      {found.length > MOST_SHOWN && (
        <p class="soft">{(found.length - MOST_SHOWN).toLocaleString("en")} more: search for them.</p>
      )}
      {items && found.length === 0 && <p class="nothing">None.</p>}
    </section>
  );
}

// Chooses a query that was run or saved before, and saves the present one.
import { useState } from "preact/hooks";
import { Dialog } from "../dialog";
import { CloseIcon } from "../icons";
import { forget, forgetHistory, history, keep, saved, type Kept } from "./history";
import { LANGUAGE_NAMES, type Language, type Panel } from "./state";

interface Props {
  current: Panel | undefined;
  onChoose(language: Language, text: string): void;
  onClose(): void;
}

export function HistoryDialog({ current, onChoose, onClose }: Props) {
  const [filter, setFilter] = useState("");
  const [name, setName] = useState("");
  const [, setChanges] = useState(0);
  const again = () => setChanges((count) => count + 1);
  const matches = (each: Kept) => `${each.name ?? ""} ${each.text}`.toLowerCase().includes(filter.toLowerCase());
  const store = (event: Event) => {
    event.preventDefault();
    if (!current || name.trim() === "") return;
    keep(name.trim(), current.language, current.text);
    setName("");
    again();
  };
  return (
    <Dialog title="Queries" onClose={onClose}>
      {current && current.text.trim() !== "" && (
        <form class="save" onSubmit={store}>
          <input
            placeholder="Save the present query as"
            aria-label="Name of the query"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <button type="submit" disabled={name.trim() === ""}>
            Save
          </button>
        </form>
      )}
      <input
        type="search"
        placeholder="Search"
        aria-label="Search queries"
        value={filter}
        onInput={(event) => setFilter(event.currentTarget.value)}
      />
      <List
        title="Saved"
        queries={saved().filter(matches)}
        onChoose={onChoose}
        onForget={(each) => (forget(each.name ?? ""), again())}
      />
      <List title="History" queries={history().filter(matches)} onChoose={onChoose} />
      {history().length > 0 && (
        <button class="small" onClick={() => (forgetHistory(), again())}>
          Clear the history
        </button>
      )}
    </Dialog>
  );
}

function List({
  title,
  queries,
  onChoose,
  onForget,
}: {
  title: string;
  queries: Kept[];
  onChoose: Props["onChoose"];
  onForget?(kept: Kept): void;
}) {
  return (
    <section>
      <h3>{title}</h3>
      {queries.length === 0 && <p class="soft">None.</p>}
      <ul class="queries">
        {queries.slice(0, 100).map((each) => (
          <li key={`${each.name ?? ""} ${each.language} ${each.text}`}>
            <button class="plain" onClick={() => onChoose(each.language, each.text)}>
              <span class="soft">
                {LANGUAGE_NAMES[each.language]}
                {each.name !== undefined && <b> {each.name}</b>}
              </span>
              <code>{each.text}</code>
            </button>
            {onForget && (
              <button class="icon" aria-label={`Forget ${each.name ?? ""}`} onClick={() => onForget(each)}>
                <CloseIcon />
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

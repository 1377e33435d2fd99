// The answer as the server sent it.
import { useEffect, useState } from "preact/hooks";
import type { Runner } from "./runner";

/** More text than that makes a page slow. */
const MOST_CHARS = 300_000;

export function Raw({ runner, answer }: { runner: Runner; answer: object }) {
  const [found, setFound] = useState({ text: "", total: 0 });
  useEffect(() => {
    runner.text(MOST_CHARS).then(setFound, () => {});
  }, [answer]);
  const isCut = found.total > MOST_CHARS;
  const download = async () => {
    const { text } = await runner.text(Infinity);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const anchor = document.createElement("a");
    anchor.href = url;
    anchor.download = "answer.json";
    anchor.click();
    URL.revokeObjectURL(url);
  };
  return (
    <div class="raw">
      <div class="raw-tools">
        <span class="soft">
          {isCut
            ? `The first ${MOST_CHARS.toLocaleString("en")} of ${found.total.toLocaleString("en")} characters`
            : `${found.total.toLocaleString("en")} characters`}
        </span>
        <button class="small" onClick={() => void navigator.clipboard?.writeText(found.text)}>
          Copy
        </button>
        <button class="small" onClick={() => void download()}>
          Download
        </button>
      </div>
      <pre tabIndex={0} aria-label="Answer in JSON">
        {found.text}
      </pre>
    </div>
  );
}

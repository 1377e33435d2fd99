// Keys, and what the page can do that is not seen at once.
import { Dialog } from "./dialog";

const KEYS: [string, string][] = [
  ["/", "to the editor"],
  ["Enter", "run an expression of PromQL; Shift and Enter breaks the line"],
  ["Ctrl Enter", "run any query"],
  ["Ctrl Space", "complete"],
  ["← →", "on a graph: move in time"],
  ["1 2 3 4", "the views"],
  ["?", "this help"],
];

const NOTES = [
  "Drag across a graph to zoom; drag with Shift to move in time. The back button of the browser returns.",
  "Click a name in the legend to see it alone, with Ctrl to hide or show it.",
  "In SQL and InfluxQL, $from, $to and $step are the range and the step of the page.",
  "The address has the whole state of the page: a link shares it. It never has a token.",
];

export function HelpDialog({ onClose }: { onClose(): void }) {
  return (
    <Dialog title="Help" onClose={onClose}>
      <table class="keys">
        <tbody>
          {KEYS.map(([key, meaning]) => (
            <tr key={key}>
              <th scope="row">
                <kbd>{key}</kbd>
              </th>
              <td>{meaning}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <ul class="notes">
        {NOTES.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
      <p class="soft">
        <a href="/ui/licences.txt">Licences</a> of the packages in this page.
      </p>
    </Dialog>
  );
}

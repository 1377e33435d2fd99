// An error in the words of the server, with the part of the query that it is about.
import type { ServerError } from "../server/http";
import { placeOf, quote } from "./position";

export function ErrorBox({ error, text }: { error: ServerError; text: string }) {
  const place = placeOf(error.message, text);
  const quoted = place && quote(text, place);
  const message = error.message.replace(/^invalid parameter "query": /, "");
  return (
    <div class="error" role="alert">
      <p>{message}</p>
      {quoted && (
        <pre>
          {quoted.line}
          {"\n"}
          <b>{quoted.carets}</b>
        </pre>
      )}
      {error.retryAfter && <p class="soft">Try again in {error.retryAfter} s.</p>}
    </div>
  );
}

// Asks for a token, which stays in this tab.
import { useState } from "preact/hooks";
import { Dialog } from "./dialog";
import { failure, headersFor, ServerError } from "./server/http";
import { setToken, token } from "./server/session";

export function Login({ isRefused, onClose }: { isRefused: boolean; onClose(): void }) {
  const [secret, setSecret] = useState("");
  const [error, setError] = useState("");
  const check = async (event: Event) => {
    event.preventDefault();
    try {
      // Asked with the token before it is kept: a wrong one replaces nothing.
      const answer = await fetch("/api/v1/status/buildinfo", {
        headers: headersFor(secret.trim()),
        credentials: "omit",
      });
      if (!answer.ok) throw await failure(answer);
      setToken(secret.trim());
      onClose();
    } catch (failed) {
      setError(failed instanceof ServerError ? failed.message : "the server does not answer");
    }
  };
  const leave = () => {
    setToken("");
    onClose();
  };
  return (
    <Dialog title="Token" onClose={onClose}>
      <p class="soft">
        {isRefused ? "This server wants a token. " : ""}
        It is sent with each request, kept until this tab is closed, and never part of a link.{" "}
        <code>tidelake token create</code> makes one.
      </p>
      <form class="login" onSubmit={(event) => void check(event)}>
        <input
          type="password"
          autocomplete="off"
          aria-label="Token"
          placeholder="Token"
          value={secret}
          onInput={(event) => setSecret(event.currentTarget.value)}
          autoFocus
        />
        <button class="primary" type="submit" disabled={secret.trim() === ""}>
          Log in
        </button>
        {token() !== "" && (
          <button type="button" onClick={leave}>
            Log out
          </button>
        )}
      </form>
      {error && (
        <p class="error-text" role="alert">
          {error}
        </p>
      )}
    </Dialog>
  );
}

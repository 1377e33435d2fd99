// Reads server-sent events of a response: `EventSource` could not send a token in a header.

export interface Event {
  name: string;
  data: string;
}

/** Calls back for each event until the response ends. */
export async function readEvents(body: ReadableStream<Uint8Array>, onEvent: (event: Event) => void): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      onEvent(parse(rest.slice(0, end)));
      rest = rest.slice(end + 2);
    }
  }
}

function parse(text: string): Event {
  const event: Event = { name: "message", data: "" };
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data += line.slice(6);
  }
  return event;
}

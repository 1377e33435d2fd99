// A part of a view with a title, which says when it could not be loaded.
import type { ComponentChildren } from "preact";

interface Props {
  title: string;
  error?: Error | undefined;
  tools?: ComponentChildren;
  wide?: boolean;
  children: ComponentChildren;
}

export function Card({ title, error, tools, wide, children }: Props) {
  return (
    <section class={wide ? "card wide" : "card"} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {tools}
      </header>
      {error ? <p class="error-text">{error.message}</p> : children}
    </section>
  );
}

/** Pairs of names and values. */
export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A bar of a share between 0 and 1. */
export function Share({ share }: { share: number }) {
  return (
    <span class="share-bar" aria-hidden="true">
      <i style={{ width: `${Math.round(100 * Math.min(1, Math.max(0, share)))}%` }} />
    </span>
  );
}

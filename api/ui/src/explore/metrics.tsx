// The metrics of a database.
import { useMemo } from "preact/hooks";
import { List } from "./list";

export type Metadata = Record<string, { type: string; help: string; unit?: string }[]>;

interface Props {
  names: string[] | undefined;
  metadata: Metadata;
  chosen: string;
  onChoose(name: string): void;
}

export function MetricList({ names, metadata, chosen, onChoose }: Props) {
  const items = useMemo(
    () => names?.map((name) => ({ name, note: familyOf(name, metadata)?.type ?? "" })),
    [names, metadata],
  );
  return <List title="Metrics" items={items} chosen={chosen} onChoose={onChoose} />;
}

/** What is known of a metric: under its own name, or that of the histogram or summary that it belongs to. */
export function familyOf(name: string, metadata: Metadata): Metadata[string][number] | undefined {
  return (metadata[name] ?? metadata[name.replace(/_(bucket|sum|count|total|info|created)$/, "")])?.[0];
}

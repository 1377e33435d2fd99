// A figure by two of its labels.
import { DataTable, type Column } from "../data_table";
import type { Figures } from "../server/figures";

interface Props {
  figures: Figures;
  name: string;
  /** The title of the first column. */
  head: string;
  /** Labels. */
  row: string;
  column: string;
  label?: string;
}

export function FigureMatrix({ figures, name, head, row, column, label }: Props) {
  const values = (label: string) => [...new Set(figures.all(name).map(({ labels }) => labels[label] ?? ""))];
  return (
    <DataTable
      {...(label === undefined ? {} : { label })}
      look="ranking"
      rows={values(row)}
      keyOf={(value) => value}
      columns={[
        { head, look: "nowrap", cell: (value) => value },
        ...values(column).map(
          (of): Column<string> => ({
            head: of.replace("_", " "),
            look: "count",
            cell: (value) => figures.sum(name, { [row]: value, [column]: of }),
          }),
        ),
      ]}
    />
  );
}

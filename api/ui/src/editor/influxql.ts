// InfluxQL in the editor: a dialect of SQL with keywords and functions of its own.
import { keywordCompletionSource, SQLDialect } from "@codemirror/lang-sql";
import { LanguageSupport } from "@codemirror/language";
import type { Extension } from "@codemirror/state";
import type { Source } from "./interface";
import { schemaCompletion } from "./schema";

const KEYWORDS =
  "select from where group by order limit offset slimit soffset fill into as and or asc desc time tz show databases measurements " +
  "series tag keys values field retention policies policy on with key in create drop delete alter database duration shard default " +
  "name cardinality exact explain analyze now null none previous linear";
const FUNCTIONS =
  "count distinct integral mean median mode spread stddev sum bottom first last max min percentile sample top abs ceil cumulative_sum " +
  "derivative difference elapsed exp floor histogram ln log log2 log10 moving_average non_negative_derivative " +
  "non_negative_difference pow round sqrt holt_winters";

const InfluxQL = SQLDialect.define({
  keywords: KEYWORDS,
  builtin: FUNCTIONS,
  types: "",
  doubleQuotedStrings: false,
  identifierQuotes: '"',
  operatorChars: "*+-%<>!=~/",
});

export function influxql(source: Source): Extension {
  return [
    new LanguageSupport(InfluxQL.language, [
      InfluxQL.language.data.of({ autocomplete: keywordCompletionSource(InfluxQL, true) }),
    ]),
    schemaCompletion(InfluxQL, "measurements", async () => schemas(await source.measurements())),
  ];
}

const wrapped = new WeakMap<object, { measurements: Record<string, string[]> }>();

/** The same object for the same measurements. */
function schemas(measurements: Record<string, string[]>) {
  const known = wrapped.get(measurements) ?? { measurements };
  wrapped.set(measurements, known);
  return known;
}

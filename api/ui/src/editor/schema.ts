// Completion of tables and columns, which come from the server when they are first needed.
import { schemaCompletionSource, type SQLDialect } from "@codemirror/lang-sql";
import type { CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import type { Extension } from "@codemirror/state";

type Schemas = Record<string, Record<string, string[]>>;

export function schemaCompletion(dialect: SQLDialect, defaultSchema: string, load: () => Promise<Schemas>): Extension {
  let known: Schemas | undefined;
  let complete:
    | ((context: CompletionContext) => CompletionResult | null | Promise<CompletionResult | null>)
    | undefined;
  const autocomplete = async (context: CompletionContext) => {
    const schema = await load();
    if (schema !== known) {
      known = schema;
      complete = schemaCompletionSource({ dialect, schema, defaultSchema });
    }
    return complete?.(context) ?? null;
  };
  return dialect.language.data.of({ autocomplete });
}

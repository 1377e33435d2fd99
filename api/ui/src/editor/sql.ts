// SQL in the editor: keywords, functions, and the tables and columns of the database.
import { PostgreSQL, sql } from "@codemirror/lang-sql";
import type { CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import type { Extension } from "@codemirror/state";
import type { Source } from "./interface";
import { schemaCompletion } from "./schema";

export function sqlLanguage(source: Source): Extension {
  return [
    sql({ dialect: PostgreSQL, upperCaseKeywords: true }),
    schemaCompletion(PostgreSQL, "public", () => source.tables()),
    PostgreSQL.language.data.of({ autocomplete: (context: CompletionContext) => functions(context, source) }),
  ];
}

async function functions(context: CompletionContext, source: Source): Promise<CompletionResult | null> {
  const word = context.matchBefore(/\w+/);
  if (!word || word.text.length < 2) return null;
  const names = await source.sqlFunctions();
  return {
    from: word.from,
    validFor: /^\w*$/,
    options: names.map((label) => ({ label, type: "function", apply: `${label}(`, boost: -10 })),
  };
}

import { useEffect, useState } from "preact/hooks";
import { isDark, onTheme } from "./theme";

/** Whether the page is dark, again whenever that changes. */
export function useTheme(): boolean {
  const [dark, setDark] = useState(isDark);
  useEffect(() => onTheme(() => setDark(isDark())), []);
  return dark;
}

// The page.
import { render } from "preact";
import { Shell } from "./shell";
import { applyTheme } from "./theme";

applyTheme();
const page = document.getElementById("page");
if (page) render(<Shell />, page);

//! Trees as text over several lines, laid out as Prometheus lays them out: what fits a line stands
//! on one, and of what does not fit, every part begins a line of its own, two blanks further in.

use std::fmt::{self, Write};

use super::ast::*;

/// Longest node, in bytes, that stands on one line.
const LINE_BYTES: usize = 100;

/// The text of a tree; parsing it gives the same tree.
pub fn pretty(expr: &Expr) -> String {
    Layout::new(LINE_BYTES).text(expr)
}

struct Layout {
    line_bytes: usize,
    out: String,
}

impl Layout {
    fn new(line_bytes: usize) -> Self {
        Self {
            line_bytes,
            out: String::new(),
        }
    }

    fn text(mut self, expr: &Expr) -> String {
        // Level 0 is where nothing was broken yet. A string takes all that is written.
        let _ = self.write(expr, 0, false);
        self.out
    }

    /// Writes a node, its first line indented for its level if nothing `is_begun` on that line.
    fn write(&mut self, expr: &Expr, level: usize, is_begun: bool) -> fmt::Result {
        let inner = level + 1;
        match expr {
            // Its operand decides, and what that begins with stands right behind the sign.
            Expr::Unary(unary) => {
                self.indent(level, is_begun);
                self.out.push(if unary.negative { '-' } else { '+' });
                self.write(&unary.expr, level, true)
            }
            // Prometheus does not indent a short one.
            Expr::Subquery(subquery) if self.fits(expr) => write!(self.out, "{subquery}"),
            Expr::Subquery(subquery) => {
                self.write(&subquery.expr, level, is_begun)?;
                write!(self.out, "{}", subquery.suffix())
            }
            Expr::Binary(binary) if !self.fits(expr) => {
                self.write(&binary.lhs, inner, is_begun)?;
                self.out.push('\n');
                self.indent(level, false);
                writeln!(self.out, "{}", binary.operator())?;
                self.write(&binary.rhs, inner, false)
            }
            Expr::Paren(paren) if !self.fits(expr) => {
                self.in_parentheses("", [&*paren.expr], level, is_begun)
            }
            Expr::Call(call) if !self.fits(expr) => {
                self.in_parentheses(call.function.name, &call.args, level, is_begun)
            }
            Expr::Aggregate(aggregate) if !self.fits(expr) => {
                let args = aggregate
                    .param
                    .as_deref()
                    .into_iter()
                    .chain([&*aggregate.expr]);
                self.in_parentheses(&aggregate.head(), args, level, is_begun)
            }
            _ => {
                self.indent(level, is_begun);
                write!(self.out, "{expr}")
            }
        }
    }

    /// `head(`, the arguments on lines of their own, `)`.
    fn in_parentheses<'a>(
        &mut self,
        head: &str,
        args: impl IntoIterator<Item = &'a Expr>,
        level: usize,
        is_begun: bool,
    ) -> fmt::Result {
        self.indent(level, is_begun);
        self.out.push_str(head);
        self.out.push('(');
        for (at, arg) in args.into_iter().enumerate() {
            self.out.push_str(if at == 0 { "\n" } else { ",\n" });
            self.write(arg, level + 1, false)?;
        }
        self.out.push('\n');
        self.indent(level, false);
        self.out.push(')');
        Ok(())
    }

    fn indent(&mut self, level: usize, is_begun: bool) {
        if !is_begun {
            self.out.extend(std::iter::repeat_n("  ", level));
        }
    }

    /// Whether a node stands on one line. Looks no further than a line reaches.
    fn fits(&self, expr: &Expr) -> bool {
        write!(Room(self.line_bytes), "{expr}").is_ok()
    }
}

/// Takes so many bytes and no more.
struct Room(usize);

impl fmt::Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// Lines of ten bytes show in little text what lines of a hundred do in much.
    fn check(query: &str, expected: &[&str]) {
        let expr = parse(query).unwrap();
        let text = Layout::new(10).text(&expr);
        assert_eq!(text, expected.join("\n"), "{query}");
        assert_eq!(
            parse(&text).unwrap().to_string(),
            expr.to_string(),
            "{text}"
        );
    }

    #[test]
    fn what_fits_stands_on_one_line() {
        check("a+b", &["a + b"]);
        check("( foo )", &["(foo)"]);
        check(
            "a_long_metric_name @ start()",
            &["a_long_metric_name @ start()"],
        );
        assert_eq!(
            pretty(&parse("sum(rate(a[5m]))by(x)").unwrap()),
            "sum by (x) (rate(a[5m]))"
        );
    }

    #[test]
    fn operators_stand_between_their_sides() {
        check("metric_a+metric_b", &["  metric_a", "+", "  metric_b"]);
        check("a + b + metric_c", &["  a + b", "+", "  metric_c"]);
        let sides = &[
            "    metric_a",
            "  * on (x) group_left ()",
            "    metric_b",
            "> bool",
            "  1",
        ];
        check("metric_a * on(x) group_left metric_b > bool 1", sides);
    }

    #[test]
    fn calls_and_aggregations_list_their_arguments() {
        check(
            "topk(3, metric_name{x='y'})",
            &["topk(", "  3,", "  metric_name{x=\"y\"}", ")"],
        );
        check(
            "sum(metric_name) without(x,y)",
            &["sum without (x, y) (", "  metric_name", ")"],
        );
        check("rate(metric[2*1h])", &["rate(", "  metric[2 * 1h]", ")"]);
        check(
            "clamp((metric_name),1,9)",
            &[
                "clamp(",
                "  (",
                "    metric_name",
                "  ),",
                "  1,",
                "  9",
                ")",
            ],
        );
        check(
            "-clamp_max(-metric_name,9)",
            &["-clamp_max(", "  -metric_name,", "  9", ")"],
        );
    }

    #[test]
    fn subqueries_end_where_their_expression_does() {
        let lines = &[
            "max_over_time(",
            "  rate(",
            "    metric[1m]",
            "  )[1h:5m] @ end() offset 1m",
            ")",
        ];
        check(
            "max_over_time(rate(metric[1m])[1h:5m] @ end() offset 1m)",
            lines,
        );
        check(
            "-max_over_time(x[5m:])",
            &["-max_over_time(", "x[5m:]", ")"],
        );
    }

    #[test]
    fn the_deepest_tree_fits_a_small_stack() {
        let levels = super::super::MAX_DEPTH - 1;
        let run = move || {
            pretty(&parse(&format!("{}x{}", "abs(".repeat(levels), ")".repeat(levels))).unwrap())
                .len()
        };
        let thread = std::thread::Builder::new()
            .stack_size(512 << 10)
            .spawn(run)
            .unwrap();
        assert!(thread.join().unwrap() > levels * levels, "it is indented");
    }
}

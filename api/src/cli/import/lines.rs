//! Inputs that are lines which a server reads as they are, or nearly: cut into batches between
//! lines.

use std::io::Read;

use anyhow::{Context, bail};
use tidelake_ingest::line_protocol::whole_lines;

use super::{Batch, BodyKind, Input, Position, Precision, RefusedLine, Source, dump};

/// Longest line.
const MAX_LINE_BYTES: usize = 64 << 20;
const END: &[u8] = b"# EOF";

/// What kind of lines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineCutter {
    Prometheus,
    OpenMetrics,
    PromtoolDump,
    PromtoolOpenMetrics,
    LineProtocol(Precision),
}

impl LineCutter {
    /// Bytes of the whole lines at the beginning of a text.
    fn whole(self, text: &[u8]) -> usize {
        match self {
            Self::LineProtocol(_) => whole_lines(text),
            _ => memchr::memrchr(b'\n', text).map_or(0, |at| at + 1),
        }
    }

    fn kind(self) -> BodyKind {
        match self {
            // A dump has times in milliseconds.
            Self::Prometheus | Self::PromtoolDump => BodyKind::Prometheus,
            Self::OpenMetrics | Self::PromtoolOpenMetrics => BodyKind::OpenMetrics,
            Self::LineProtocol(precision) => BodyKind::LineProtocol(precision),
        }
    }
}

/// An input of lines.
pub(super) struct Lines {
    input: Input,
    cutter: LineCutter,
    batch_bytes: usize,
    /// What was read and not sent, which begins at `position`.
    buffer: Vec<u8>,
    position: Position,
    is_read: bool,
    /// Whether `# EOF` was there.
    is_ended: bool,
}

impl Lines {
    pub(super) fn new(
        input: Input,
        cutter: LineCutter,
        batch_bytes: usize,
        position: Position,
    ) -> Self {
        Self {
            input,
            cutter,
            batch_bytes,
            buffer: Vec::new(),
            position,
            is_read: false,
            is_ended: false,
        }
    }

    /// Reads until there are so many bytes, or no more.
    fn fill(&mut self, bytes: usize) -> anyhow::Result<()> {
        let missing = bytes.saturating_sub(self.buffer.len());
        if missing > 0 && !self.is_read {
            let mut part = self.input.by_ref().take(missing as u64);
            let read = part.read_to_end(&mut self.buffer).context("cannot read")?;
            self.is_read = read < missing;
        }
        Ok(())
    }

    /// Takes whole lines.
    fn take(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut wanted = self.batch_bytes;
        loop {
            self.fill(wanted)?;
            let whole = self.cutter.whole(&self.buffer);
            let cut = match whole {
                0 if !self.is_read && wanted < MAX_LINE_BYTES => {
                    wanted *= 2;
                    continue;
                }
                0 if !self.is_read => bail!(
                    "line {} is longer than {MAX_LINE_BYTES} bytes",
                    self.position.line + 1
                ),
                _ if self.is_read => self.buffer.len(),
                whole => whole,
            };
            let rest = self.buffer.split_off(cut);
            return Ok(std::mem::replace(&mut self.buffer, rest));
        }
    }
}

impl Source for Lines {
    fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut body = self.take()?;
        let is_open_metrics = self.cutter.kind() == BodyKind::OpenMetrics;
        let refused = |line_number, error: &str| RefusedLine {
            line_number,
            error_message: error.to_owned(),
            original_line: String::new(),
        };
        let before = self.position.line;
        if body.is_empty() {
            if is_open_metrics && !self.is_ended {
                self.is_ended = true;
                let error = "the text does not end with \"# EOF\": its end may be missing";
                return Ok(Some(Batch {
                    body,
                    kind: BodyKind::OpenMetrics,
                    lines_before: before,
                    lines: None,
                    bad: vec![refused(before + 1, error)],
                    end: self.position,
                }));
            }
            return Ok(None);
        }
        let feeds = memchr::memchr_iter(b'\n', &body).count() as u64;
        self.position = Position {
            offset: self.position.offset + body.len() as u64,
            line: before + feeds + u64::from(!body.ends_with(b"\n")),
        };
        let mut bad = Vec::new();
        if is_open_metrics {
            if self.is_ended && !body.trim_ascii().is_empty() {
                bad.push(refused(
                    before + 1,
                    "there is more after \"# EOF\", which is the end",
                ));
                body.clear();
            } else if body.trim_ascii_end().ends_with(END) {
                self.is_ended = true;
            } else {
                // Every body has an end.
                if !body.ends_with(b"\n") {
                    body.push(b'\n');
                }
                body.extend_from_slice(END);
                body.push(b'\n');
            }
        }
        if matches!(
            self.cutter,
            LineCutter::PromtoolDump | LineCutter::PromtoolOpenMetrics
        ) {
            body = dump::translate(&body);
        }
        Ok(Some(Batch {
            body,
            kind: self.cutter.kind(),
            lines_before: before,
            lines: None,
            bad,
            end: self.position,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str, cutter: LineCutter, bytes: usize) -> Vec<(String, u64, usize)> {
        let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let mut lines = Lines::new(input, cutter, bytes, Position::default());
        let mut found = Vec::new();
        while let Some(batch) = lines.next().unwrap() {
            let body = String::from_utf8(batch.body).unwrap();
            found.push((body, batch.lines_before, batch.bad.len()));
        }
        let end = Position {
            offset: text.len() as u64,
            line: text.lines().count() as u64,
        };
        assert_eq!(lines.position, end, "{text:?}");
        found
    }

    #[test]
    fn inputs_are_cut_between_lines() {
        let check = |text: &str, cutter, bytes, expected: &[(&str, u64, usize)]| {
            let found = batches(text, cutter, bytes);
            let found: Vec<_> = found.iter().map(|(a, b, c)| (&**a, *b, *c)).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        let text = LineCutter::Prometheus;
        check("", text, 4, &[]);
        check("a 1\nb 2", text, 100, &[("a 1\nb 2", 0, 0)]);
        check("a 1\nb 2\n", text, 5, &[("a 1\n", 0, 0), ("b 2\n", 1, 0)]);
        check("long 1\nb 2", text, 4, &[("long 1\n", 0, 0), ("b 2", 1, 0)]);
        let lines = LineCutter::LineProtocol(Precision::Ns);
        check(
            "a f=\"x\ny\"\n# \"\nb f=1\n",
            lines,
            9,
            &[("a f=\"x\ny\"\n# \"\n", 0, 0), ("b f=1\n", 3, 0)],
        );
        let open = LineCutter::OpenMetrics;
        check("a 1\n# EOF\n", open, 100, &[("a 1\n# EOF\n", 0, 0)]);
        check(
            "a 1\nb 2\n# EOF",
            open,
            8,
            &[("a 1\nb 2\n# EOF\n", 0, 0), ("# EOF", 2, 0)],
        );
        check("a 1", open, 100, &[("a 1\n# EOF\n", 0, 0), ("", 1, 1)]);
        check("# EOF\nb 2\n", open, 6, &[("# EOF\n", 0, 0), ("", 1, 1)]);
    }
}

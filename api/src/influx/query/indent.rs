//! Indents JSON that comes in parts.

/// Where in a document the next byte is.
#[derive(Debug, Default)]
pub struct Indenter {
    depth: usize,
    in_text: bool,
    is_escaped: bool,
    /// An object or a list was begun, and nothing of it has come.
    is_empty: bool,
}

impl Indenter {
    /// Appends compact JSON with four blanks a level.
    pub fn write(&mut self, compact: &[u8], out: &mut Vec<u8>) {
        for &byte in compact {
            if self.in_text {
                out.push(byte);
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            let is_end = matches!(byte, b'}' | b']');
            if is_end {
                self.depth = self.depth.saturating_sub(1);
            }
            if self.is_empty != is_end {
                // The first member of something, or the end of what has members.
                self.line(out);
            }
            self.is_empty = false;
            match byte {
                b'{' | b'[' => {
                    out.push(byte);
                    self.depth += 1;
                    self.is_empty = true;
                }
                b',' => {
                    out.push(byte);
                    self.line(out);
                }
                b':' => out.extend_from_slice(b": "),
                b'"' => {
                    out.push(byte);
                    self.in_text = true;
                }
                byte => out.push(byte),
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', self.depth * 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_indented_as_a_whole() {
        let compact = br#"{"a":[1,{"b":"x,\"{y"}],"c":[],"d":null}"#;
        let expected = "{\n    \"a\": [\n        1,\n        {\n            \"b\": \
                        \"x,\\\"{y\"\n        }\n    ],\n    \"c\": [],\n    \"d\": null\n}";
        for at in 0..compact.len() {
            let (mut indent, mut out) = (Indenter::default(), Vec::new());
            indent.write(&compact[..at], &mut out);
            indent.write(&compact[at..], &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "cut at {at}");
        }
    }
}

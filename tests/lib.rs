//! Tests of the whole: `end_to_end/` drives real server processes, `real/` has what needs other
//! programs.

//! How much a simulation did: one in which something never happens proves nothing about it.

use std::fmt;
use std::ops::AddAssign;

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Counts of one seed, or of many.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Figures {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Figures {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = [$(format!("{} {}", self.$name, $text),)*];
                f.write_str(&counts.join(", "))
            }
        }

        impl Figures {
            /// What never happened, of all that must.
            pub fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$name == 0 && !$text.ends_with("left out") { missing.push($text); })*
                missing
            }
        }
    };
}

figures! {
    /// Events of the harness.
    steps "steps",
    /// Processes started.
    lives "processes",
    /// Processes that ended without having been asked to.
    crashes "crashes",
    /// Of these, those that found out that another has their node.
    fenced "fenced",
    /// Requests to the store.
    requests "requests to the store",
    /// Calls between processes.
    calls "calls between processes",
    /// Of these, questions or answers that were lost.
    calls_lost "lost",
    /// Questions that arrived twice.
    calls_twice "asked twice",
    /// Those between nodes that were cut off from each other.
    calls_cut "cut off",
    /// Logs of dead nodes that others put into segments.
    adoptions "adoptions",
    /// Writes of a client to another node than its last one.
    moves "clients that moved",
    /// Write requests that were acknowledged.
    acknowledged "acknowledged writes",
    /// Different fields of points in them.
    points "acknowledged points",
    /// Tables read and judged.
    queries "queries judged",
    /// Of these, those that showed the rows of all processes.
    everybodys "of everybody's rows",
    /// Such queries that were refused, because somebody could not be asked.
    unanswered "queries without an answer",
    /// Queries that were held open over other steps.
    held "held queries",
    /// States of the past that were read again.
    past "states of the past read again",
    /// Deletes that were acknowledged.
    deletes "deletes",
    /// Checks left out because a process had not heard of commits for too long.
    stale "checks of stale processes left out",
    /// Flushes that returned.
    flushes "flushes",
    /// Merges that were asked for and done.
    merges "merges",
    /// Checks that found segments of level 1.
    windows "checks with segments of two hours",
    /// Checks that found segments of level 2.
    days "checks with segments of a day",
    /// Simulated time.
    simulated_s "simulated seconds",
}

//! What a query is for, which decides how much of the processors it gets beside others.

use crate::node::class_threads::Class;

/// What a query is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryClass {
    /// A person looks at the answer as one of many.
    Dashboard,
    /// An alert or a recording rule.
    Rules,
    /// Anything else.
    #[default]
    Adhoc,
}

impl QueryClass {
    /// All of them.
    pub const ALL: [QueryClass; 3] = [QueryClass::Dashboard, QueryClass::Rules, QueryClass::Adhoc];

    /// Its threads.
    pub fn threads(self) -> Class {
        match self {
            QueryClass::Dashboard => Class::Dashboard,
            QueryClass::Rules => Class::Rules,
            QueryClass::Adhoc => Class::Adhoc,
        }
    }

    /// As requests and figures name it.
    pub fn name(self) -> &'static str {
        self.threads().name()
    }

    /// The one of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|class| class.name().eq_ignore_ascii_case(name))
    }
}

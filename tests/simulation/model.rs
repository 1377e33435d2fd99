//! What must be readable, may be, and must not.
//!
//! A *cell* is a field of a series at a time. Each client writes cells that nobody else writes, one
//! request at a time, so the versions of a cell have an order: that of the requests. A read must
//! show the last version that was confirmed before the read began, or a later one that may have
//! been stored; a version that was refused, or overwritten, never. Every value is written once in a
//! simulation, so that a value tells which request it came from. What was seen once is confirmed:
//! it must not vanish again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Under way, or nobody knows: it may be stored, now or later.
    Unknown,
    /// Acknowledged or seen, at this moment.
    Confirmed(u64),
    /// Refused: it is not stored.
    Nothing,
}

/// A write request.
#[derive(Debug)]
struct Request {
    node: usize,
    state: State,
    /// Whether the client was told so.
    acknowledged: bool,
    /// The columns that it needs.
    columns: BTreeSet<(String, String)>,
    /// Nodes whose reads have shown it.
    seen_by: BTreeSet<usize>,
}

impl Request {
    /// Whether a read has to show it, if it is confirmed. What nobody has acknowledged may have
    /// been seen in the catalog or in the log of a process that stands still, before that shows it.
    fn is_known_to(&self, floor: &Floor) -> bool {
        let Some(reader) = floor.reader else {
            return true;
        };
        let is_seen_here = reader != self.node || self.seen_by.contains(&reader);
        self.acknowledged || (!floor.of_all && is_seen_here)
    }
}

/// The number of a request.
pub type RequestId = usize;

/// Where a cell is within its table: series, time, field.
pub type CellKey = (String, i64, String);

/// What a read returned.
pub type Cells = BTreeMap<CellKey, String>;

#[derive(Debug, Clone)]
struct Version {
    request: RequestId,
    /// `None`: deleted.
    value: Option<String>,
    /// A write of unknown outcome from before a delete: it may have come after it.
    lingers: bool,
}

/// Which confirmed requests a read must show.
#[derive(Debug, Clone)]
pub struct Floor {
    /// By node, until when they were confirmed.
    until: Vec<u64>,
    /// The node that reads, if it shows all of its own,
    reader: Option<usize>,
    /// and of all others.
    of_all: bool,
}

/// All that clients know.
#[derive(Debug, Default)]
pub struct Model {
    requests: Vec<Request>,
    tables: BTreeMap<String, BTreeMap<CellKey, Vec<Version>>>,
    /// Counts what happens, so that "before" has a meaning.
    now: u64,
    /// By node, flushes that returned: the catalog's sequence then, and when they began.
    flushes: Vec<Vec<(u64, u64)>>,
    /// Columns that somebody was told about: table and field.
    columns: BTreeSet<(String, String)>,
}

impl Model {
    pub fn new(nodes: usize) -> Self {
        Self {
            flushes: vec![Vec::new(); nodes],
            ..Self::default()
        }
    }

    /// The present moment.
    pub fn now(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A client is about to write cells.
    pub fn begin(&mut self, node: usize, cells: Vec<(String, CellKey, String)>) -> RequestId {
        let request = self.requests.len();
        let columns = cells
            .iter()
            .map(|(table, (_, _, field), _)| (table.clone(), field.clone()))
            .collect();
        self.requests.push(Request {
            node,
            state: State::Unknown,
            acknowledged: false,
            columns,
            seen_by: BTreeSet::new(),
        });
        for (table, key, value) in cells {
            let versions = self
                .tables
                .entry(table)
                .or_default()
                .entry(key)
                .or_default();
            // Of several in one request the last counts.
            versions.retain(|version| version.request != request);
            versions.push(Version {
                request,
                value: Some(value),
                lingers: false,
            });
        }
        request
    }

    /// A client is about to delete its cells of a table that `goes` names.
    pub fn begin_delete(
        &mut self,
        node: usize,
        table: &str,
        goes: impl Fn(&CellKey) -> bool,
    ) -> RequestId {
        let request = self.requests.len();
        self.requests.push(Request {
            node,
            state: State::Unknown,
            acknowledged: false,
            columns: BTreeSet::new(),
            seen_by: BTreeSet::new(),
        });
        let cells = self
            .tables
            .get_mut(table)
            .into_iter()
            .flat_map(BTreeMap::iter_mut)
            .filter(|(key, _)| goes(key));
        for (_, versions) in cells {
            let is_open = |version: &&Version| {
                version.value.is_some() && self.requests[version.request].state == State::Unknown
            };
            let open: Vec<_> = versions
                .iter()
                .filter(is_open)
                .map(|version| Version {
                    lingers: true,
                    ..version.clone()
                })
                .collect();
            versions.push(Version {
                request,
                value: None,
                lingers: false,
            });
            versions.extend(open);
        }
        request
    }

    /// The client was told that it is stored.
    pub fn acknowledge(&mut self, request: RequestId) {
        let now = self.now();
        let request = &mut self.requests[request];
        request.acknowledged = true;
        if request.state == State::Unknown {
            request.state = State::Confirmed(now);
        }
        let columns = std::mem::take(&mut request.columns);
        self.columns.extend(columns);
    }

    /// The client was told that it is not stored, ever.
    pub fn refuse(&mut self, request: RequestId) -> Result<(), String> {
        match self.requests[request].state {
            State::Confirmed(_) => Err(format!("request {request} was seen before it was refused")),
            _ => {
                self.requests[request].state = State::Nothing;
                Ok(())
            }
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.requests
            .iter()
            .filter(|request| request.acknowledged)
            .count()
    }

    /// Cells that must be readable.
    pub fn acknowledged_cells(&self) -> usize {
        let is_there = |versions: &Vec<Version>| {
            versions
                .iter()
                .any(|version| self.requests[version.request].acknowledged)
        };
        self.tables
            .values()
            .flat_map(BTreeMap::values)
            .filter(|versions| is_there(versions))
            .count()
    }

    /// All tables that somebody wrote to.
    pub fn tables(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    /// Names of the fields of a table, ascending.
    pub fn fields(&self, table: &str) -> Vec<String> {
        let keys = self.tables.get(table).into_iter().flat_map(BTreeMap::keys);
        let fields: BTreeSet<_> = keys.map(|(_, _, field)| field.clone()).collect();
        fields.into_iter().collect()
    }

    /// Whether a table has a column, for certain.
    pub fn is_column(&self, table: &str, field: &str) -> bool {
        self.columns.contains(&(table.to_owned(), field.to_owned()))
    }

    /// All times at which somebody wrote to a table.
    pub fn times(&self, table: &str) -> Vec<i64> {
        let keys = self.tables.get(table).into_iter().flat_map(BTreeMap::keys);
        keys.map(|(_, time, _)| *time)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Cells that a client wrote before, in the order of their keys.
    pub fn keys<'a>(
        &'a self,
        table: &str,
        series: &'a str,
    ) -> impl Iterator<Item = &'a CellKey> + use<'a> {
        self.tables
            .get(table)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(move |(other, _, _)| other == series)
    }

    /// A flush of a node that began at `began` is in the catalog as of `sequence`.
    pub fn flushed(&mut self, node: usize, sequence: u64, began: u64) {
        self.flushes[node].push((sequence, began));
    }

    /// What a read must show that begins now: all of `own`, and of other nodes what was flushed as
    /// of `sequence`.
    pub fn floor(&mut self, own: Option<usize>, sequence: u64) -> Floor {
        let now = self.now();
        let flushed = |flushes: &Vec<(u64, u64)>| {
            flushes
                .iter()
                .filter(|(s, _)| *s <= sequence)
                .map(|(_, began)| *began)
                .max()
                .unwrap_or(0)
        };
        let mut floors: Vec<u64> = self.flushes.iter().map(flushed).collect();
        if let Some(own) = own {
            floors[own] = now;
        }
        Floor {
            until: floors,
            reader: own,
            of_all: false,
        }
    }

    /// What a read must show that begins now and sees everything.
    pub fn whole(&mut self) -> Floor {
        let now = self.now();
        Floor {
            until: vec![now; self.flushes.len()],
            reader: None,
            of_all: false,
        }
    }

    /// The same for a node that asks all others.
    pub fn whole_of(&mut self, reader: usize) -> Floor {
        Floor {
            reader: Some(reader),
            of_all: true,
            ..self.whole()
        }
    }

    /// A process that died while it wrote may have left an object that others have read, and that
    /// is not on disk: what nobody has acknowledged may be gone, although it was seen.
    pub fn lose_power(&mut self) {
        for request in &mut self.requests {
            if !request.acknowledged && matches!(request.state, State::Confirmed(_)) {
                request.state = State::Unknown;
                request.seen_by.clear();
            }
        }
    }

    /// Judges what was read of a table. `is_read` says which cells the read was about.
    pub fn judge(
        &mut self,
        table: &str,
        cells: &Cells,
        floor: &Floor,
        is_read: impl Fn(&CellKey) -> bool,
    ) -> Result<(), String> {
        let mut evidence = Evidence::default();
        let empty = BTreeMap::new();
        let known = self.tables.get(table).unwrap_or(&empty);
        if let Some((key, value)) = cells.iter().find(|(key, _)| !known.contains_key(*key)) {
            return Err(format!(
                "nobody wrote {key:?} of {table}, but {value} is there"
            ));
        }
        for (key, versions) in known.iter().filter(|(key, _)| is_read(key)) {
            let state = |version: &Version| self.requests[version.request].state;
            let is_due = |version: &Version| {
                if version.lingers {
                    return false;
                }
                let request = &self.requests[version.request];
                let until = floor.until[request.node];
                matches!(request.state, State::Confirmed(at) if at <= until)
                    && request.is_known_to(floor)
            };
            let due = versions.iter().rposition(is_due);
            let found = match cells.get(key) {
                None => versions.iter().rposition(|version| {
                    version.value.is_none() && state(version) != State::Nothing
                }),
                Some(value) => match versions
                    .iter()
                    .rposition(|version| version.value.as_ref() == Some(value))
                {
                    Some(found) if state(&versions[found]) == State::Nothing => {
                        return Err(format!(
                            "{key:?} of {table} is {value}, which was refused (request {})",
                            versions[found].request
                        ));
                    }
                    Some(found) => Some(found),
                    None => {
                        return Err(format!(
                            "{key:?} of {table} is {value}, which nobody wrote there: {versions:?}"
                        ));
                    }
                },
            };
            if found < due {
                let due = due.map(|due| &versions[due]);
                let found = found.map(|found| &versions[found]);
                return Err(format!(
                    "{key:?} of {table} must be {due:?} or later, but is {found:?}"
                ));
            }
            // A delete may leave half of a request.
            if versions.iter().any(|version| version.value.is_none()) {
                if let Some(found) = found {
                    let after = &versions[due.map_or(0, |due| due + 1)..];
                    let deletes = after
                        .iter()
                        .filter(|version| {
                            version.value.is_none() && state(version) != State::Nothing
                        })
                        .count();
                    // That nothing is there says that a delete took effect only if something was,
                    // and only if it is clear which.
                    if versions[found].value.is_some()
                        || (due.is_some_and(|due| due < found && versions[due].value.is_some())
                            && deletes == 1)
                    {
                        evidence.seen.push(versions[found].request);
                    }
                }
                continue;
            }
            if let Some(found) = found {
                evidence.add(versions[found].request, true, key)?;
            }
            for later in versions[found.map_or(0, |found| found + 1)..]
                .iter()
                .filter(|version| state(version) != State::Nothing)
            {
                evidence.add(later.request, false, key)?;
            }
        }
        let now = self.now();
        let there = evidence
            .whole
            .into_iter()
            .filter(|(_, (is_there, _))| *is_there)
            .map(|(request, _)| request);
        for request in there.chain(evidence.seen) {
            let request = &mut self.requests[request];
            if request.state == State::Unknown {
                request.state = State::Confirmed(now);
            }
            request.seen_by.extend(floor.reader);
        }
        Ok(())
    }
}

/// Whether requests are in what was read: whole, or not at all.
#[derive(Default)]
struct Evidence {
    whole: BTreeMap<RequestId, (bool, CellKey)>,
    /// Requests of which something is there, and something may be missing.
    seen: Vec<RequestId>,
}

impl Evidence {
    fn add(&mut self, request: RequestId, is_there: bool, key: &CellKey) -> Result<(), String> {
        match self.whole.entry(request) {
            Entry::Vacant(entry) => {
                entry.insert((is_there, key.clone()));
                Ok(())
            }
            Entry::Occupied(entry) if entry.get().0 == is_there => Ok(()),
            Entry::Occupied(entry) => {
                let other = &entry.get().1;
                Err(format!(
                    "half of request {request} is there: {} {key:?}, but not the other of it and \
                     {other:?}",
                    if is_there { "it has" } else { "it lacks" }
                ))
            }
        }
    }
}

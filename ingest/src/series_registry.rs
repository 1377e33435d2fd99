//! The series of one table: from the bytes that a client sends to a small number, and back to
//! labels.
//!
//! A client sends the label section of a series in the same bytes every time. The registry
//! therefore remembers sections as received ("spellings") by a hash of 128 bits: no label of a
//! known one is parsed and no string built. Only an unknown spelling is parsed, brought into
//! canonical form and looked up by its labels, so that another spelling of a known series gives the
//! same number. The bytes are not kept to be compared: of a billion spellings two have one hash
//! with a probability of 1.5e-21, and who sends a spelling to meet another's series can name that
//! series.
//!
//! Series are only ever added. Their numbers hold for the life of the process, not on disk; files
//! name a series by [`Series::id`]. Two label sets with one id must never be mixed: the one that
//! comes second is refused.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use hashbrown::{HashMap, HashTable};
use parking_lot::{RwLock, RwLockReadGuard};
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::Labels;
use tidelake_catalog::segment::Series;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::series_quota::SeriesQuota;

/// Entries per allocation.
const CHUNK: usize = 128;
/// Spellings remembered per series, of all series together; more only cost the parsing. A client
/// that orders tags at random could otherwise fill the memory with permutations of a few series.
const SPELLINGS: usize = 8;
/// Numbers from here on are free for those who need to mark a series that is not registered yet.
pub(crate) const MAX_SERIES: u32 = 1 << 31;

/// A series of a table.
#[derive(Debug, Clone)]
pub struct SeriesEntry {
    /// Its canonical labels (for a wide table the tags, for a metrics table all labels with
    /// `__name__`) and their hash, unique in the registry.
    pub series: Arc<Series>,
    names: u32,
}

/// Why a series was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// Another series has the same id. Nothing can be done but to change a label.
    #[error(
        "series {refused} has the same 64-bit id {id:016x} as series {existing}; change one of \
         its labels"
    )]
    Collision {
        /// The series that is there.
        existing: Labels,
        /// The series that was to be added.
        refused: Labels,
        /// Their id.
        id: u64,
    },
    /// The database has as many series as it may; the write may be retried later.
    #[error("the database may have at most {limit} active series (limit active_series)")]
    OverQuota {
        /// The limit.
        limit: u64,
    },
    /// The registry's memory is used up; the write may be retried later.
    #[error("the series of this table take more memory than the limit of {limit} bytes")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// A series that a request brings and the registry does not know by this spelling.
#[derive(Debug)]
pub(crate) struct NewSeries {
    spelling: Spelling,
    labels: Labels,
}

/// A label section as received: its hash. Seeded per process, so that nobody can prepare
/// collisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spelling {
    low: u64,
    high: u64,
}

impl Spelling {
    #[inline]
    pub(crate) fn of(raw: &[u8]) -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u8));
        let hash = xxh3_128_with_seed(raw, *SEED);
        Self {
            low: hash as u64,
            high: (hash >> 64) as u64,
        }
    }

    /// The hash, to be a part of other spellings.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_le_bytes()
    }
}

struct KnownSpelling {
    spelling: Spelling,
    series: u32,
    names: u32,
}

struct Inner {
    spellings: HashTable<KnownSpelling>,
    /// The series by their ids, which are in the entries.
    by_id: HashTable<u32>,
    /// Distinct sets of label names, so that a parser checks each set against the schema only
    /// once.
    names: HashMap<Labels, u32>,
    entries: SeriesSnapshot,
    /// Bytes of memory, about.
    bytes: usize,
    /// At least as many bytes, in blocks.
    counted: Reservation,
    limit_bytes: usize,
    quota: Arc<SeriesQuota>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.quota.give_back(self.entries.len);
    }
}

/// Memory is reserved in blocks: an eighth of what there is, within these bounds. There may be ten
/// thousand tables with a series each.
const SMALLEST_BLOCK_BYTES: usize = 1 << 10;
const LARGEST_BLOCK_BYTES: usize = 64 << 10;

/// The series of one table. Shared by all requests; readers take a snapshot.
pub struct SeriesRegistry {
    inner: RwLock<Inner>,
    memory: Arc<MemoryBudget>,
    limit_bytes: usize,
    id_of: fn(&Labels) -> u64,
}

impl std::fmt::Debug for SeriesRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesRegistry")
            .field("len", &self.len())
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

impl SeriesRegistry {
    /// A registry without series that takes at most about `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self::counted(limit_bytes, MemoryBudget::unlimited(), Arc::default())
    }

    /// The same, counted in the memory of the process and among the series of a database.
    pub fn counted(limit_bytes: usize, memory: Arc<MemoryBudget>, quota: Arc<SeriesQuota>) -> Self {
        Self::with(limit_bytes, memory, Labels::series_id, quota)
    }

    /// As [`new`](Self::new), with ids from another function, to test what a collision does.
    #[cfg(test)]
    pub(crate) fn with_ids(
        limit_bytes: usize,
        memory: Arc<MemoryBudget>,
        id_of: fn(&Labels) -> u64,
    ) -> Self {
        Self::with(limit_bytes, memory, id_of, Arc::default())
    }

    fn with(
        limit_bytes: usize,
        memory: Arc<MemoryBudget>,
        id_of: fn(&Labels) -> u64,
        quota: Arc<SeriesQuota>,
    ) -> Self {
        Self {
            inner: RwLock::new(Inner {
                spellings: HashTable::new(),
                by_id: HashTable::new(),
                names: HashMap::new(),
                entries: SeriesSnapshot::default(),
                bytes: 0,
                counted: memory.empty(Share::Buffer),
                limit_bytes,
                quota,
            }),
            memory,
            limit_bytes,
            id_of,
        }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.inner.read().entries.len
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// The series as they are now. Cheap: one pointer per 128 series is copied.
    pub fn entries(&self) -> SeriesSnapshot {
        self.inner.read().entries.clone()
    }

    /// The memory that the registry counts in.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    /// One series.
    pub fn entry(&self, series: u32) -> Option<SeriesEntry> {
        self.inner.read().entries.get(series).cloned()
    }

    /// Registers one series by its labels alone, as the replay of rows and tests need it.
    pub fn register(&self, labels: Labels) -> Result<u32, SeriesError> {
        let id = (self.id_of)(&labels);
        self.inner.write().add(labels, id)
    }

    /// Keeps additions out until the guard is dropped. A thread must hold at most one such guard at
    /// a time: with two, it and another thread can wait for each other.
    pub(crate) fn read(&self) -> KnownSeries<'_> {
        KnownSeries(self.inner.read())
    }

    /// Registers what a request brought, in order.
    pub(crate) fn insert_all(&self, new: Vec<NewSeries>) -> Vec<Result<u32, SeriesError>> {
        if new.is_empty() {
            return Vec::new();
        }
        let mut inner = self.inner.write();
        new.into_iter()
            .map(|item| inner.insert(item, self.id_of))
            .collect()
    }
}

impl Inner {
    fn insert(&mut self, new: NewSeries, id_of: fn(&Labels) -> u64) -> Result<u32, SeriesError> {
        // Another request may have brought the same since this one looked.
        if let Some((series, _)) = self.find(new.spelling) {
            return Ok(series);
        }
        let id = id_of(&new.labels);
        let series = self.add(new.labels, id)?;
        let is_wanted = self.spellings.len() < SPELLINGS * self.entries.len;
        // A table has room for twice as many as it holds, at worst.
        if is_wanted
            && self.charge(2 * size_of::<KnownSpelling>())
            && let Some(entry) = self.entries.get(series)
        {
            let spelling = KnownSpelling {
                spelling: new.spelling,
                series,
                names: entry.names,
            };
            self.spellings
                .insert_unique(new.spelling.low, spelling, |known| known.spelling.low);
        }
        Ok(series)
    }

    /// Counts bytes; false if there is no room for them.
    fn charge(&mut self, bytes: usize) -> bool {
        let wanted = self.bytes + bytes;
        if wanted > self.limit_bytes {
            return false;
        }
        let block = (wanted / 8).clamp(SMALLEST_BLOCK_BYTES, LARGEST_BLOCK_BYTES);
        if let Some(more) = wanted.checked_sub(self.counted.bytes()).filter(|&n| n > 0)
            && self.counted.try_grow(more.max(block)).is_err()
            && self.counted.try_grow(more).is_err()
        {
            return false;
        }
        self.bytes = wanted;
        true
    }

    fn add(&mut self, labels: Labels, id: u64) -> Result<u32, SeriesError> {
        let entries = &self.entries;
        let id_of = |series: &u32| entries.get(*series).map(|entry| entry.series.id);
        if let Some(&series) = self.by_id.find(id, |known| id_of(known) == Some(id)) {
            return match self.entries.get(series) {
                Some(existing) if existing.series.labels != labels => Err(SeriesError::Collision {
                    existing: existing.series.labels.clone(),
                    refused: labels,
                    id,
                }),
                _ => Ok(series),
            };
        }
        let full = SeriesError::Full {
            limit: self.limit_bytes,
        };
        let series = u32::try_from(self.entries.len)
            .ok()
            .filter(|&n| n < MAX_SERIES)
            .ok_or(full.clone())?;
        // The entry, the series that it points to, and its place in the table of ids, which has
        // room for twice as many as it holds, at worst.
        self.quota
            .take()
            .map_err(|limit| SeriesError::OverQuota { limit })?;
        let cost = size_of::<OnceLock<SeriesEntry>>()
            + size_of::<Series>()
            + 32
            + 2 * size_of::<u32>()
            + labels.as_str().len();
        if !self.charge(cost) {
            self.quota.give_back(1);
            return Err(full);
        }
        let names = self.intern_names(&labels);
        self.entries.push(SeriesEntry {
            series: Arc::new(Series { id, labels }),
            names,
        });
        let entries = &self.entries;
        self.by_id.insert_unique(id, series, |known| {
            entries.get(*known).map_or(0, |entry| entry.series.id)
        });
        Ok(series)
    }

    fn intern_names(&mut self, labels: &Labels) -> u32 {
        // As label sets are kept, with the same value for each: lengths tell names apart as no
        // separator could.
        let key = Labels::from_sorted(labels.iter().map(|(name, _)| (name, "-")));
        if let Some(&known) = self.names.get(&key) {
            return known;
        }
        let next = self.names.len() as u32;
        self.bytes += key.as_str().len() + 64;
        self.names.insert(key, next);
        next
    }

    #[inline]
    fn find(&self, spelling: Spelling) -> Option<(u32, u32)> {
        self.spellings
            .find(spelling.low, |known| known.spelling == spelling)
            .map(|known| (known.series, known.names))
    }
}

/// The registry, held for looking up.
pub(crate) struct KnownSeries<'a>(RwLockReadGuard<'a, Inner>);

impl KnownSeries<'_> {
    /// The series of a spelling, and the number of its set of label names.
    #[inline]
    pub(crate) fn find(&self, spelling: Spelling) -> Option<(u32, u32)> {
        self.0.find(spelling)
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, series: u32) -> Option<&Labels> {
        self.0.entries.get(series).map(|e| &e.series.labels)
    }

    /// Lets those pass who wait to add.
    pub(crate) fn bump(&mut self) {
        RwLockReadGuard::bump(&mut self.0);
    }
}

/// The series at some moment; later ones do not appear in it.
#[derive(Debug, Clone, Default)]
pub struct SeriesSnapshot {
    chunks: Vec<Arc<[OnceLock<SeriesEntry>]>>,
    len: usize,
}

impl SeriesSnapshot {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A series by its index.
    #[inline]
    pub fn get(&self, series: u32) -> Option<&SeriesEntry> {
        let at = series as usize;
        if at >= self.len {
            return None;
        }
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)?.get()
    }

    /// All series, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &SeriesEntry> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .take(self.len)
            .filter_map(OnceLock::get)
    }

    /// Adds to the chunks that snapshots share; they do not look beyond their own length.
    fn push(&mut self, entry: SeriesEntry) {
        if self.len == self.chunks.len() * CHUNK {
            self.chunks
                .push(std::iter::repeat_with(OnceLock::new).take(CHUNK).collect());
        }
        if let Some(slot) = self
            .chunks
            .last()
            .and_then(|chunk| chunk.get(self.len % CHUNK))
            && slot.set(entry).is_ok()
        {
            self.len += 1;
        }
    }
}

/// The unknown spellings of one request, until they are registered together.
#[derive(Debug, Default)]
pub(crate) struct NewSeriesSet {
    index: HashTable<u32>,
    list: Vec<NewSeries>,
}

impl NewSeriesSet {
    /// The place of a spelling in the set.
    #[inline]
    pub(crate) fn find(&self, spelling: Spelling) -> Option<u32> {
        if self.list.is_empty() {
            return None;
        }
        self.index
            .find(spelling.low, |&at| {
                self.list
                    .get(at as usize)
                    .is_some_and(|new| new.spelling == spelling)
            })
            .copied()
    }

    /// Adds a spelling that is not there; gives its place.
    pub(crate) fn push(&mut self, spelling: Spelling, labels: Labels) -> u32 {
        let at = self.list.len() as u32;
        self.list.push(NewSeries { spelling, labels });
        let list = &self.list;
        self.index.insert_unique(spelling.low, at, |&at| {
            list.get(at as usize).map_or(0, |new| new.spelling.low)
        });
        at
    }

    /// Number of spellings.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Takes back all from place `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        while self.list.len() > len {
            let Some(last) = self.list.pop() else { return };
            let at = self.list.len() as u32;
            if let Ok(slot) = self.index.find_entry(last.spelling.low, |&x| x == at) {
                slot.remove();
            }
        }
    }

    /// The set, to be given to [`SeriesRegistry::insert_all`].
    pub(crate) fn take(&mut self) -> Vec<NewSeries> {
        self.index.clear();
        std::mem::take(&mut self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> Labels {
        Labels::from_pairs([("a", value)])
    }

    fn insert(registry: &SeriesRegistry, raw: &str, labels: Labels) -> Result<u32, SeriesError> {
        let mut set = NewSeriesSet::default();
        set.push(Spelling::of(raw.as_bytes()), labels);
        registry.insert_all(set.take()).remove(0)
    }

    fn find(registry: &SeriesRegistry, raw: &str) -> Option<u32> {
        registry
            .read()
            .find(Spelling::of(raw.as_bytes()))
            .map(|(series, _)| series)
    }

    #[test]
    fn two_spellings_are_one_series() {
        let registry = SeriesRegistry::new(1 << 20);
        assert_eq!(find(&registry, ",a=1"), None);
        assert_eq!(insert(&registry, ",a=1", labels("1")), Ok(0));
        assert_eq!(insert(&registry, ",a=2", labels("2")), Ok(1));
        assert_eq!(insert(&registry, ",a=1,b=", labels("1")), Ok(0));
        assert_eq!(
            (
                find(&registry, ",a=1"),
                find(&registry, ",a=1,b="),
                find(&registry, ",a=2")
            ),
            (Some(0), Some(0), Some(1))
        );
        assert_eq!(registry.register(labels("2")), Ok(1));
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn spellings_of_one_series_are_not_remembered_without_end() {
        let registry = SeriesRegistry::new(1 << 20);
        let raws: Vec<String> = (0..100).map(|i| format!(",x{i}")).collect();
        for raw in &raws {
            assert_eq!(insert(&registry, raw, labels("1")), Ok(0));
        }
        assert_eq!(
            raws.iter()
                .filter(|raw| find(&registry, raw).is_some())
                .count(),
            SPELLINGS
        );
    }

    #[test]
    fn of_two_series_with_one_id_the_second_is_refused() {
        let registry = SeriesRegistry::with_ids(1 << 20, MemoryBudget::unlimited(), |_| 42);
        assert_eq!(insert(&registry, ",a=1", labels("1")), Ok(0));
        let error = insert(&registry, ",a=2", labels("2")).unwrap_err();
        assert_eq!(
            error,
            SeriesError::Collision {
                existing: labels("1"),
                refused: labels("2"),
                id: 42
            }
        );
        assert!(error.to_string().contains(r#"{a="2"}"#), "{error}");
        assert_eq!(
            insert(&registry, ",a=1,", labels("1")),
            Ok(0),
            "the first is still itself"
        );
        assert_eq!((registry.len(), find(&registry, ",a=2")), (1, None));
    }

    #[test]
    fn a_full_registry_refuses_series_but_knows_those_it_has() {
        let registry = SeriesRegistry::new(600);
        let added = (0..100)
            .take_while(|i| insert(&registry, &format!(",a={i}"), labels(&i.to_string())).is_ok())
            .count();
        assert!((1..100).contains(&added), "{added}");
        assert!(registry.bytes() <= 600);
        assert_eq!(insert(&registry, ",a=0,", labels("0")), Ok(0));
        assert_eq!(
            registry.register(labels("new")),
            Err(SeriesError::Full { limit: 600 })
        );
    }

    #[test]
    fn small_tables_reserve_little() {
        let memory = MemoryBudget::unlimited();
        let registries: Vec<_> = (0..1000)
            .map(|_| {
                let registry =
                    SeriesRegistry::counted(1 << 30, Arc::clone(&memory), Arc::default());
                insert(&registry, ",a=1", labels("1")).unwrap();
                registry
            })
            .collect();
        let used = memory.state(Share::Buffer).used;
        assert!(used < 5_000 * registries.len(), "{used}");
        let bytes: usize = registries.iter().map(SeriesRegistry::bytes).sum();
        assert!(used >= bytes, "{used} {bytes}");
    }

    #[test]
    fn a_snapshot_does_not_grow() {
        let registry = SeriesRegistry::new(1 << 30);
        let before = registry.entries();
        for i in 0..1000 {
            assert_eq!(registry.register(labels(&i.to_string())), Ok(i));
        }
        let after = registry.entries();
        registry.register(labels("more")).unwrap();
        assert_eq!(
            (
                before.len(),
                before.iter().count(),
                after.len(),
                after.iter().count()
            ),
            (0, 0, 1000, 1000)
        );
        assert!(after.get(1000).is_none());
        assert!(
            after
                .iter()
                .enumerate()
                .all(|(i, e)| e.series.labels == labels(&i.to_string())
                    && e.series.id == e.series.labels.series_id())
        );
    }

    #[test]
    fn sets_of_names_are_told_apart() {
        let registry = SeriesRegistry::new(1 << 20);
        for (raw, pairs) in [
            ("1", vec![("a", "x"), ("b", "y")]),
            ("2", vec![("a", "1"), ("b", "2")]),
            ("3", vec![("a1:b", "y")]),
        ] {
            insert(&registry, raw, Labels::from_pairs(pairs)).unwrap();
        }
        let names = |raw: &str| {
            registry
                .read()
                .find(Spelling::of(raw.as_bytes()))
                .unwrap()
                .1
        };
        assert_eq!(names("1"), names("2"));
        assert_ne!(names("1"), names("3"));
    }

    #[test]
    fn requests_that_run_at_once_agree() {
        let registry = Arc::new(SeriesRegistry::new(1 << 30));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let registry = registry.clone();
                std::thread::spawn(move || {
                    (0..500)
                        .map(|i| {
                            insert(&registry, &format!(",a={i}"), labels(&i.to_string())).unwrap()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for series in threads.into_iter().map(|t| t.join().unwrap()) {
            for (i, series) in series.into_iter().enumerate() {
                assert_eq!(
                    registry.entry(series).unwrap().series.labels,
                    labels(&i.to_string())
                );
            }
        }
        assert_eq!(registry.len(), 500);
    }

    #[test]
    fn what_is_taken_back_is_not_found() {
        let mut set = NewSeriesSet::default();
        // They differ in the half by which nothing is looked up.
        let [a, b] = [1, 2].map(|high| Spelling { low: 1, high });
        set.push(a, labels("a"));
        set.push(b, labels("b"));
        assert_eq!((set.find(a), set.find(b)), (Some(0), Some(1)));
        set.truncate(1);
        assert_eq!((set.find(a), set.find(b), set.len()), (Some(0), None, 1));
    }
}

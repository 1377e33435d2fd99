//! The threads that one query computes on: those of its class, until it turns out to be heavy.
//!
//! Few clients say what they ask for, so what a query takes decides: rows that it is about to read,
//! and time that it has computed. At its next pause it then moves to the threads for heavy queries,
//! which the system gives less of the processors.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tidelake_catalog::segment::{ReadCounts, ReadMeter};
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::small;

/// What a query may take before it is heavy.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Rows of all that it reads, of series as a whole.
    pub rows: u64,
    /// The same for what cannot move once it has begun: operators of SQL compute in tasks.
    pub fixed_rows: u64,
    /// Time that it computes, on all threads together: much costs what reads little, as many steps
    /// over few rows do.
    pub computing: Duration,
}

impl Allowance {
    /// For what its client said something of: about 90 ms of a processor.
    pub const LARGE: Self = Self {
        rows: 1 << 20,
        fixed_rows: 1 << 20,
        computing: Duration::from_millis(250),
    };
    /// For all else, so that what is small does not wait for what is not.
    pub const SMALL: Self = Self {
        rows: 1 << 20,
        fixed_rows: 128 << 10,
        computing: Duration::from_millis(50),
    };
}

/// Where a query computes, and what it has taken so far. Clones are of the same query.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    threads: Option<Handle>,
    /// And what may be taken before.
    heavy: Option<(Handle, Allowance)>,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    /// Of series as a whole, before it reads them.
    rows: AtomicU64,
    nanos: AtomicU64,
    /// Of operators of SQL.
    operator_nanos: AtomicU64,
    is_heavy: AtomicBool,
    read: Arc<ReadMeter>,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            rows: AtomicU64::default(),
            nanos: AtomicU64::default(),
            operator_nanos: AtomicU64::default(),
            is_heavy: AtomicBool::default(),
            read: ReadMeter::unlimited(Vec::new()),
        }
    }
}

impl Lane {
    /// These threads, whatever is taken; without any, those of the caller.
    pub fn on(threads: Option<Handle>) -> Self {
        Self {
            threads,
            ..Self::default()
        }
    }

    /// The same, and others for a query that takes more than it is allowed.
    pub fn or_heavy(self, threads: Option<Handle>, allowance: Allowance) -> Self {
        Self {
            heavy: threads.map(|threads| (threads, allowance)),
            ..self
        }
    }

    /// Where the next work of the query belongs.
    pub fn threads(&self) -> Option<&Handle> {
        let heavy = self.heavy.as_ref().filter(|_| self.is_heavy());
        heavy.map(|(threads, _)| threads).or(self.threads.as_ref())
    }

    /// Whether the query has turned out to be heavy.
    pub fn is_heavy(&self) -> bool {
        self.taken.is_heavy.load(Ordering::Relaxed)
    }

    /// The query is about to read so many rows. Whether that is what makes it heavy: then it should
    /// pause before.
    pub fn reads(&self, rows: u64) -> bool {
        let before = self.taken.rows.fetch_add(rows, Ordering::Relaxed);
        let is_much = |(_, most): &(_, Allowance)| before.saturating_add(rows) > most.rows;
        self.heavy.as_ref().is_some_and(is_much) && self.becomes_heavy()
    }

    /// The query is about to start what will read so many rows, and cannot move then.
    pub fn starts(&self, rows: u64) {
        let is_much = |(_, most): &(_, Allowance)| rows > most.fixed_rows;
        if self.heavy.as_ref().is_some_and(is_much) {
            self.becomes_heavy();
        }
    }

    /// The query has computed for so long.
    pub fn computed(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = self.taken.nanos.fetch_add(nanos, Ordering::Relaxed);
        let time = Duration::from_nanos(before.saturating_add(nanos));
        let is_much = |(_, most): &(_, Allowance)| time > most.computing;
        if self.heavy.as_ref().is_some_and(is_much) {
            self.becomes_heavy();
        }
    }

    /// How long the query has computed so far, without operators of SQL that do so in tasks of
    /// their own.
    pub fn computing(&self) -> Duration {
        Duration::from_nanos(self.taken.nanos.load(Ordering::Relaxed))
    }

    /// Operators of SQL have computed for so long, which nobody knew before they ended.
    pub fn operators_computed(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.taken
            .operator_nanos
            .fetch_add(nanos, Ordering::Relaxed);
    }

    /// How long those operators of SQL have computed that have ended.
    pub fn operators_computing(&self) -> Duration {
        Duration::from_nanos(self.taken.operator_nanos.load(Ordering::Relaxed))
    }

    /// Counts what a part of the query reads, which may be so many bytes.
    pub fn meter(&self, max_bytes: u64) -> Arc<ReadMeter> {
        ReadMeter::new(max_bytes, vec![Arc::clone(&self.taken.read)])
    }

    /// What the query has read so far.
    pub fn read_counts(&self) -> ReadCounts {
        self.taken.read.counts()
    }

    fn becomes_heavy(&self) -> bool {
        !self.taken.is_heavy.swap(true, Ordering::Relaxed)
    }

    /// Does work that mostly is small: it begins here, see [`small::here_first`].
    ///
    /// # Errors
    /// If the threads end, or the work panics there.
    pub fn here_first<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send {
        let work = self.onward(work);
        async { small::here_first(self.threads(), work).await? }
    }

    /// Does work, and nothing of it here.
    ///
    /// # Errors
    /// As those of [`here_first`](Self::here_first).
    pub fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send {
        let work = self.onward(work);
        async { small::there(self.threads(), work).await? }
    }

    /// Work whose time is counted.
    pub(crate) fn counted<F: Future>(&self, work: F) -> Counted<F> {
        Counted {
            // Large futures are not to be copied from one to the next.
            work: Box::pin(work),
            lane: self.clone(),
        }
    }

    /// Work that moves on to the threads for heavy queries when the query is one.
    pub(crate) fn onward<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send + 'static {
        let lane = self.clone();
        let work = self.counted(work);
        async move {
            if lane.heavy.is_none() || lane.is_heavy() {
                return Ok(work.await);
            }
            match (UntilHeavy { work: Some(work) }).await {
                Ok(done) => Ok(done),
                Err(rest) => small::there(lane.threads(), rest).await,
            }
        }
    }
}

/// See [`Lane::counted`].
pub(crate) struct Counted<F> {
    work: Pin<Box<F>>,
    lane: Lane,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        let polled = self.work.as_mut().poll(cx);
        self.lane.computed(begun.elapsed());
        polled
    }
}

/// Work until it is done or its query heavy.
struct UntilHeavy<F> {
    work: Option<Counted<F>>,
}

impl<F: Future> Future for UntilHeavy<F> {
    /// What was done, or what is left to do.
    type Output = Result<F::Output, Counted<F>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = self.work.as_mut() else {
            return Poll::Pending;
        };
        match Pin::new(&mut *work).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if work.lane.is_heavy() => self
                .work
                .take()
                .map_or(Poll::Pending, |work| Poll::Ready(Err(work))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const MOST: Allowance = Allowance::LARGE;

    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    fn threads(name: &str) -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .build()
            .unwrap()
    }

    /// On which threads work begins, and goes on after `what` and a pause.
    async fn check(what: impl Fn(&Lane) + Send + 'static, expected: &str) {
        let (usual, heavy) = (threads("usual"), threads("heavy"));
        let handles = [&usual, &heavy].map(|runtime| Some(runtime.handle().clone()));
        let [threads, heavy_threads] = handles;
        let lane = Lane::on(threads).or_heavy(heavy_threads, MOST);
        let of_work = lane.clone();
        let work = async move {
            let begun = name();
            what(&of_work);
            small::large().await;
            (begun, name())
        };
        let (begun, ended) = lane.there(work).await.unwrap();
        assert_eq!((begun.as_str(), ended.as_str()), ("usual", expected));
        assert_eq!(lane.is_heavy(), expected == "heavy");
        usual.shutdown_background();
        heavy.shutdown_background();
    }

    #[tokio::test]
    async fn what_takes_much_goes_on_elsewhere() {
        check(|_| (), "usual").await;
        check(|lane| assert!(!lane.reads(MOST.rows)), "usual").await;
        check(|lane| assert!(lane.reads(MOST.rows + 1)), "heavy").await;
        // Several readings count together, and only one of them is told.
        let twice = |lane: &Lane| {
            assert!(!lane.reads(MOST.rows) && lane.reads(1) && !lane.reads(1));
        };
        check(twice, "heavy").await;
        check(|lane| lane.starts(MOST.fixed_rows), "usual").await;
        check(|lane| lane.starts(MOST.fixed_rows + 1), "heavy").await;
        check(|lane| lane.computed(MOST.computing / 2), "usual").await;
        check(|lane| lane.computed(MOST.computing * 2), "heavy").await;
    }

    #[tokio::test]
    async fn time_is_counted_where_work_is_polled() {
        let heavy = threads("heavy");
        let lane = Lane::default().or_heavy(Some(heavy.handle().clone()), MOST);
        let computing = async {
            let begun = Instant::now();
            while begun.elapsed() < MOST.computing {
                std::hint::spin_loop();
            }
            small::large().await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            name()
        };
        assert_eq!(lane.here_first(computing).await.unwrap(), "heavy");
        // There it is counted as well.
        assert!(lane.computing() >= MOST.computing + Duration::from_millis(10));
        assert_eq!(lane.threads().map(Handle::id), Some(heavy.handle().id()));
        heavy.shutdown_background();
    }

    #[tokio::test]
    async fn without_threads_work_is_done_here() {
        let lane = Lane::default();
        let done = lane.here_first(async {
            small::large().await;
            7
        });
        assert_eq!(done.await.unwrap(), 7);
        assert!(lane.threads().is_none());
    }

    #[tokio::test]
    async fn what_its_meters_count_the_query_has_read() {
        let lane = Lane::default();
        let meters = [lane.meter(100), lane.clone().meter(50)];
        for meter in &meters {
            meter.request(1, 40).unwrap();
        }
        assert!(meters[1].request(1, 40).is_err());
        let counts = lane.read_counts();
        assert_eq!((counts.requests, counts.bytes), (2, 80));
        assert_eq!(Lane::default().read_counts(), ReadCounts::default());
    }
}

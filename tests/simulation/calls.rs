//! The network between processes: what one asks another, over [`Transport`].
//!
//! By the seed a question is lost or its answer is; both are slow, and overtake each other. A
//! question may arrive twice. Two nodes may be cut off from each other, in one direction or both. A
//! process that is paused or dead answers nothing, one that is gone is nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidelake_api::cluster::transport::{CallError, PartAnswer, Transport};
use tidelake_api::cluster::{Cluster, NotServed};
use tokio::sync::oneshot;

use crate::network::Gate;
use crate::trace::{Trace, note};

/// What happens to calls that begin now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallFaults {
    /// Probability that a question is lost.
    pub lost: f64,
    /// Probability that an answer is lost.
    pub answer_lost: f64,
    /// Probability that a question arrives twice.
    pub twice: f64,
    /// Most milliseconds that a question takes, and its answer again.
    pub delay_ms: u64,
    /// Nodes of which the first cannot reach the second.
    pub cut: BTreeSet<(usize, usize)>,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallFigures {
    pub calls: u64,
    pub lost: u64,
    pub twice: u64,
    pub cut: u64,
}

/// Who listens at an address.
#[derive(Clone)]
struct Listener {
    gate: Arc<Gate>,
    node: usize,
    cluster: Arc<Cluster>,
}

/// The network.
pub struct CallNetwork {
    trace: Arc<Trace>,
    random: Mutex<StdRng>,
    faults: Mutex<CallFaults>,
    figures: Mutex<CallFigures>,
    listeners: Mutex<BTreeMap<String, Listener>>,
}

/// One call on its way.
struct Fate {
    before: Duration,
    after: Duration,
    lost: bool,
    answer_lost: bool,
    /// When it arrives again.
    again: Option<Duration>,
}

impl CallNetwork {
    pub fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            trace,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            faults: Mutex::default(),
            figures: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    pub fn set_faults(&self, faults: CallFaults) {
        *self.faults.lock() = faults;
    }

    pub fn figures(&self) -> CallFigures {
        *self.figures.lock()
    }

    /// From now on a process answers at an address, and nobody else there.
    pub fn listen(&self, address: &str, node: usize, gate: &Arc<Gate>, cluster: &Arc<Cluster>) {
        let listener = Listener {
            gate: Arc::clone(gate),
            node,
            cluster: Arc::clone(cluster),
        };
        self.listeners.lock().insert(address.to_owned(), listener);
    }

    /// A life is over.
    pub fn hang_up(&self, life: usize) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|_, listener| listener.gate.life != life);
    }

    /// How a process calls others.
    pub fn line(self: &Arc<Self>, node: usize, gate: &Arc<Gate>) -> Arc<dyn Transport> {
        Arc::new(Line {
            network: Arc::clone(self),
            node,
            gate: Arc::clone(gate),
        })
    }

    fn fate(&self) -> Fate {
        let faults = self.faults.lock().clone();
        let random = &mut *self.random.lock();
        let mut delay = || Duration::from_millis(random.random_range(0..=faults.delay_ms));
        let (before, after, again) = (delay(), delay(), delay() * 3);
        let fate = Fate {
            before,
            after,
            lost: random.random_bool(faults.lost),
            answer_lost: random.random_bool(faults.answer_lost),
            again: random.random_bool(faults.twice).then_some(again),
        };
        let mut figures = self.figures.lock();
        figures.calls += 1;
        figures.lost += u64::from(fate.lost || fate.answer_lost);
        figures.twice += u64::from(fate.again.is_some());
        fate
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let is_cut = self.faults.lock().cut.contains(&(from, to));
        self.figures.lock().cut += u64::from(is_cut);
        is_cut
    }
}

/// Asks a process; what it does for that ends when it does.
async fn serve(listener: &Listener, path: &'static str, body: &Bytes) -> Result<Bytes, CallError> {
    listener.gate.until_running().await;
    let answer = listener.cluster.serve(path, body).await;
    listener.gate.until_running().await;
    answer.map_err(|error| match error {
        NotServed::Another(text) => CallError::Another(text),
        error => CallError::Refused(error.to_string()),
    })
}

/// The calls of one life of a process.
struct Line {
    network: Arc<CallNetwork>,
    node: usize,
    gate: Arc<Gate>,
}

impl Transport for Line {
    fn call(
        &self,
        address: &str,
        path: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (network, gate) = (Arc::clone(&self.network), Arc::clone(&self.gate));
        let (address, from) = (address.to_owned(), self.node);
        async move {
            gate.until_running().await;
            let (sender, receiver) = oneshot::channel();
            let carried = carry(
                Arc::clone(&network),
                from,
                address.clone(),
                path,
                body,
                sender,
            );
            tokio::spawn(carried);
            let answer = match tokio::time::timeout(patience, receiver).await {
                Ok(Ok(answer)) => answer,
                // Whoever was asked is gone.
                Ok(Err(_)) => Err(CallError::Unreachable(format!("{address} is gone"))),
                Err(_) => Err(CallError::Late(format!("{address} does not answer"))),
            };
            let outcome = match &answer {
                Ok(_) => "answered",
                Err(CallError::Unreachable(_)) => "unreachable",
                Err(CallError::Late(_)) => "late",
                Err(CallError::Another(_)) => "another",
                Err(CallError::Refused(_) | CallError::TooLarge(_)) => "refused",
            };
            note!(
                network.trace,
                "  L{} {path} of {address}: {outcome}",
                gate.life
            );
            gate.until_running().await;
            answer
        }
        .boxed()
    }

    fn part(
        &self,
        address: &str,
        _body: Bytes,
    ) -> BoxFuture<'static, Result<PartAnswer, CallError>> {
        let address = address.to_owned();
        let refused = CallError::Refused(format!("{address} computes no parts"));
        async move { Err(refused) }.boxed()
    }
}

async fn carry(
    network: Arc<CallNetwork>,
    from: usize,
    address: String,
    path: &'static str,
    body: Bytes,
    sender: oneshot::Sender<Result<Bytes, CallError>>,
) {
    let fate = network.fate();
    tokio::time::sleep(fate.before).await;
    let listener = network.listeners.lock().get(&address).cloned();
    let Some(listener) = listener else {
        let _ = sender.send(Err(CallError::Unreachable(format!(
            "nobody is at {address}"
        ))));
        return;
    };
    if fate.lost || network.is_cut(from, listener.node) {
        // Held until whoever asked has lost patience.
        sender_held(sender).await;
        return;
    }
    if let Some(again) = fate.again {
        let (listener, body) = (listener.clone(), body.clone());
        tokio::spawn(async move {
            tokio::time::sleep(again).await;
            let _ = serve(&listener, path, &body).await;
        });
    }
    let answer = serve(&listener, path, &body).await;
    tokio::time::sleep(fate.after).await;
    if fate.answer_lost || network.is_cut(listener.node, from) {
        sender_held(sender).await;
        return;
    }
    let _ = sender.send(answer);
}

async fn sender_held(mut sender: oneshot::Sender<Result<Bytes, CallError>>) {
    sender.closed().await;
}

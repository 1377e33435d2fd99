//! `sample()`

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::index;

/// So many of some rows by chance, in their order. `seed` decides which.
pub(super) fn sample(rows: &[usize], most: usize, seed: u64) -> Vec<usize> {
    let amount = most.min(rows.len());
    let mut picked =
        index::sample(&mut SmallRng::seed_from_u64(seed), rows.len(), amount).into_vec();
    picked.sort_unstable();
    picked.into_iter().map(|at| rows[at]).collect()
}

//! A forecast by triple exponential smoothing with a damped trend and a multiplicative season (Holt
//! 1957, Winters 1960, Gardner 1985), whose parameters are found by the simplex of Nelder and Mead.

/// Steps of the search.
const STEPS: usize = 1000;
/// The search ends when the sums of squared errors of its corners differ by less.
const TOLERANCE: f64 = 1e-4;
/// Distance of the first corners.
const FIRST_STEP: f64 = 1.0;
/// Alpha, beta and gamma are tried from this on.
const GUESSES: [f64; 3] = [0.3, 0.5, 0.7];

/// `count` points after those known, and with `with_fit` what the model gives for these. `every`
/// is the distance of points in ns; without a season (0 or 1) there is none.
pub(super) fn forecast(
    known: &[(i64, f64)],
    count: usize,
    season: usize,
    with_fit: bool,
    every: i64,
) -> Vec<(i64, f64)> {
    let (Some(&(first, _)), Some(&(last, _))) = (known.first(), known.last()) else {
        return Vec::new();
    };
    if known.len() < 2 || every <= 0 {
        return Vec::new();
    }
    // Windows without a point are gaps, which errors do not count.
    let slots = usize::try_from((last - first) / every).unwrap_or(0) + 1;
    let mut values: Vec<Option<f64>> = vec![None; slots.min(known.len().saturating_mul(1000))];
    for (time, value) in known {
        if let Some(slot) = values.get_mut(((time - first) / every) as usize) {
            *slot = Some(*value);
        }
    }
    let season = if season >= 2 && values.len() >= season {
        season
    } else {
        0
    };
    let model = Model {
        values: &values,
        season,
    };
    let mut best: Option<(f64, Vec<f64>)> = None;
    for alpha in GUESSES {
        for beta in GUESSES {
            for gamma in GUESSES {
                let found = minimize(&model, model.guess(alpha, beta, gamma));
                if best.as_ref().is_none_or(|(error, _)| found.0 < *error) {
                    best = Some(found);
                }
                if season == 0 {
                    break;
                }
            }
        }
    }
    let Some((_, parameters)) = best else {
        return Vec::new();
    };
    let fitted = model.run(&parameters, count);
    let skip = if with_fit { 0 } else { values.len() };
    let times = (0..).map(|slot: i64| first + slot * every);
    times
        .zip(fitted)
        .skip(skip)
        .filter(|(_, value)| value.is_finite())
        .collect()
}

struct Model<'a> {
    values: &'a [Option<f64>],
    season: usize,
}

impl Model<'_> {
    /// Parameters to begin with: alpha, beta, gamma, phi, level, trend, seasons.
    fn guess(&self, alpha: f64, beta: f64, gamma: f64) -> Vec<f64> {
        let at = |slot: usize| self.values.get(slot).copied().flatten();
        let cycle = self.season.max(1);
        let level: f64 = (0..cycle).filter_map(at).sum::<f64>() / cycle as f64;
        let mut trend = 0.0;
        for slot in 0..cycle {
            if let (Some(a), Some(b)) = (at(slot), at(cycle + slot)) {
                trend += (b - a) / cycle as f64;
            }
        }
        trend /= cycle as f64;
        let mut guess = vec![alpha, beta, gamma, 0.5, level, trend];
        let seasons = (0..self.season).map(|slot| at(slot).map_or(1.0, |value| value / level));
        guess.extend(seasons);
        guess
    }

    /// What the model gives for the known slots and `more`.
    fn run(&self, parameters: &[f64], more: usize) -> Vec<f64> {
        let &[alpha, beta, gamma, phi, level, trend, ref seasons @ ..] = parameters else {
            return Vec::new();
        };
        let has_season = !seasons.is_empty();
        let mut seasons = seasons.to_vec();
        let (mut level, mut trend, mut damping, mut power) = (level, trend, phi, phi);
        let mut fitted = Vec::with_capacity(self.values.len() + more);
        fitted.push(level);
        for slot in 1..self.values.len() + more {
            let at = slot.checked_rem(seasons.len()).unwrap_or(0);
            let before = (slot - 1).checked_rem(seasons.len()).unwrap_or(0);
            let season = if has_season { seasons[at] } else { 1.0 };
            let observed = self.values.get(slot - 1).copied().flatten();
            match observed {
                Some(value) => {
                    let own = if has_season { seasons[before] } else { 1.0 };
                    let (old_level, old_trend) = (level, trend);
                    level = alpha * (value / own) + (1.0 - alpha) * (old_level + phi * old_trend);
                    trend = beta * (level - old_level) + (1.0 - beta) * phi * old_trend;
                    if has_season {
                        seasons[before] =
                            gamma * (value / (old_level + phi * old_trend)) + (1.0 - gamma) * own;
                    }
                    (damping, power) = (phi, phi);
                }
                None => {
                    power *= phi;
                    damping += power;
                }
            }
            fitted.push((level + damping * trend) * season);
        }
        fitted
    }

    /// The sum of squared errors; infinite where a parameter is out of its bounds.
    fn error(&self, parameters: &[f64]) -> f64 {
        if parameters.iter().take(4).any(|p| !(0.0..=1.0).contains(p)) {
            return f64::INFINITY;
        }
        let fitted = self.run(parameters, 0);
        let errors = self.values.iter().zip(fitted).skip(1);
        let sum: f64 = errors
            .filter_map(|(value, fitted)| value.map(|value| (fitted - value).powi(2)))
            .sum();
        if sum.is_nan() { f64::INFINITY } else { sum }
    }
}

/// The least error that is found from some parameters on, and where.
fn minimize(model: &Model<'_>, guess: Vec<f64>) -> (f64, Vec<f64>) {
    let size = guess.len();
    let mut corners: Vec<(f64, Vec<f64>)> = vec![(model.error(&guess), guess.clone())];
    let spread = FIRST_STEP / (size as f64).sqrt();
    for axis in 0..size {
        let mut corner = guess.clone();
        // Within the bounds of the first four.
        let step = if axis < 4 && corner[axis] + spread > 1.0 {
            -spread / 2.0
        } else {
            spread
        };
        corner[axis] += step;
        corners.push((model.error(&corner), corner));
    }
    for _ in 0..STEPS {
        corners.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, worst) = (corners[0].0, corners[size].0);
        if worst - best < TOLERANCE {
            break;
        }
        let center: Vec<f64> = (0..size)
            .map(|axis| corners[..size].iter().map(|(_, c)| c[axis]).sum::<f64>() / size as f64)
            .collect();
        let toward = |factor: f64| {
            let from = &corners[size].1;
            let corner: Vec<f64> = center
                .iter()
                .zip(from)
                .map(|(c, w)| c + factor * (c - w))
                .collect();
            (model.error(&corner), corner)
        };
        let reflected = toward(1.0);
        if reflected.0 < best {
            let expanded = toward(2.0);
            corners[size] = if expanded.0 < reflected.0 {
                expanded
            } else {
                reflected
            };
        } else if reflected.0 < corners[size - 1].0 {
            corners[size] = reflected;
        } else {
            let contracted = toward(if reflected.0 < worst { 0.5 } else { -0.5 });
            if contracted.0 < worst.min(reflected.0) {
                corners[size] = contracted;
            } else {
                let to = corners[0].1.clone();
                for (error, corner) in &mut corners[1..] {
                    for (value, to) in corner.iter_mut().zip(&to) {
                        *value = to + 0.5 * (*value - to);
                    }
                    *error = model.error(corner);
                }
            }
        }
    }
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    corners.swap_remove(0)
}

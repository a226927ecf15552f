//! The multiple-choice knapsack: one choice for each module, so that the sum of losses is least under a number of bytes.
//!
//! Partial sums are kept as a front: of two that take as many bytes, the one of less loss (Nemhauser and Ullmann 1969).
//! All budgets are solved at once. The front is exact until it has `limit` points; then only the best of each of
//! `limit` equal intervals of bytes are kept.

use crate::error::{Error, Result};

/// One way to store a module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes it takes.
    pub bytes: u64,
    /// What it costs, in any unit that adds up.
    pub loss: f64,
}

/// A point of the front before the last module was chosen, and the choice that led here.
#[derive(Clone, Copy)]
struct Point {
    cost: Cost,
    from: u32,
    choice: u16,
}

/// The best allocations at every size.
pub struct Front {
    /// A front a module, each sorted by bytes upward and loss downward.
    stages: Vec<Vec<Point>>,
}

/// Points a front keeps unless told otherwise.
pub const LIMIT: usize = 20_000;

impl Front {
    /// The front over `modules`, each a list of choices.
    ///
    /// # Errors
    /// [`Error::Argument`] for no modules, or one without choices, and for more bytes than can be counted.
    pub fn new(modules: &[Vec<Cost>], limit: usize) -> Result<Self> {
        if modules.is_empty() || modules.iter().any(Vec::is_empty) {
            return Err(Error::argument("search", "a module without choices"));
        }
        let largest = modules.iter().map(|choices| choices.iter().map(|c| u128::from(c.bytes)).max().unwrap_or(0));
        let largest: u128 = largest.sum();
        if u64::try_from(largest).is_err() {
            return Err(Error::argument("search", format!("choices of {largest} bytes, at most {}", u64::MAX)));
        }
        let mut stages: Vec<Vec<Point>> = Vec::with_capacity(modules.len());
        for choices in modules {
            let start = [Point { cost: Cost { bytes: 0, loss: 0.0 }, from: 0, choice: 0 }];
            let before = stages.last().map_or(&start[..], Vec::as_slice);
            let mut points: Vec<Point> = Vec::with_capacity(before.len() * choices.len());
            for (choice, more) in choices.iter().enumerate() {
                points.extend(before.iter().enumerate().map(|(from, point)| Point {
                    cost: Cost { bytes: point.cost.bytes + more.bytes, loss: point.cost.loss + more.loss },
                    from: from as u32,
                    choice: choice as u16,
                }));
            }
            stages.push(thinned(undominated(points), limit.max(2)));
        }
        Ok(Self { stages })
    }

    /// Every point, by bytes upward.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        self.stages.last().map(|points| points.iter().map(|p| p.cost).collect()).unwrap_or_default()
    }

    /// The choice of each module at the point of least loss within `bytes`; `None` when even the smallest is larger.
    #[must_use]
    pub fn within(&self, bytes: u64) -> Option<(Cost, Vec<usize>)> {
        let last = self.stages.last()?;
        let fitting = last.partition_point(|p| p.cost.bytes <= bytes);
        self.picks(fitting.checked_sub(1)?)
    }

    /// The choice of each module at the smallest point of at most this loss; `None` when there is none.
    #[must_use]
    pub fn at_most(&self, loss: f64) -> Option<(Cost, Vec<usize>)> {
        let last = self.stages.last()?;
        self.picks(last.iter().position(|p| p.cost.loss <= loss)?)
    }

    fn picks(&self, index: usize) -> Option<(Cost, Vec<usize>)> {
        let cost = self.stages.last()?.get(index)?.cost;
        let mut at = index;
        let mut picks = Vec::with_capacity(self.stages.len());
        for stage in self.stages.iter().rev() {
            let point = stage.get(at)?;
            picks.push(usize::from(point.choice));
            at = point.from as usize;
        }
        picks.reverse();
        Some((cost, picks))
    }
}

/// Those that no other beats in both bytes and loss.
fn undominated(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a.cost.bytes.cmp(&b.cost.bytes).then(a.cost.loss.total_cmp(&b.cost.loss)));
    let mut least = f64::INFINITY;
    points.retain(|p| {
        let better = p.cost.loss < least;
        least = least.min(p.cost.loss);
        better
    });
    points
}

/// At most about `limit` points: the smallest, and of each interval of bytes the last, which has the least loss.
fn thinned(points: Vec<Point>, limit: usize) -> Vec<Point> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return points };
    if points.len() <= limit {
        return points;
    }
    let (low, span) = (first.cost.bytes, (last.cost.bytes - first.cost.bytes).max(1));
    let interval = |p: &Point| u128::from(p.cost.bytes - low) * limit as u128 / u128::from(span);
    let kept = |i: usize| i == 0 || points.get(i + 1).is_none_or(|next| interval(next) != interval(&points[i]));
    (0..points.len()).filter(|i| kept(*i)).map(|i| points[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(seed: u64, modules: usize, choices: usize) -> Vec<Vec<Cost>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut cost = || Cost { bytes: rng.random_range(1..2000), loss: rng.random_range(0.0..1.0) };
        (0..modules).map(|_| (0..choices).map(|_| cost()).collect()).collect()
    }

    fn exhaustive(modules: &[Vec<Cost>], budget: u64) -> f64 {
        let Some((first, rest)) = modules.split_first() else { return 0.0 };
        let fitting = first.iter().filter(|c| c.bytes <= budget);
        fitting.map(|c| c.loss + exhaustive(rest, budget - c.bytes)).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn is_the_best_of_all_combinations() {
        for seed in 0..20 {
            let modules = random(seed, 7, 4);
            let front = Front::new(&modules, LIMIT).unwrap();
            for budget in [500, 2500, 4000, 6000, 9000] {
                let best = exhaustive(&modules, budget);
                match front.within(budget) {
                    Some((cost, picks)) => {
                        let chosen: Vec<Cost> = modules.iter().zip(&picks).map(|(m, p)| m[*p]).collect();
                        assert_eq!(chosen.iter().map(|c| c.bytes).sum::<u64>(), cost.bytes, "seed {seed}");
                        assert!((chosen.iter().map(|c| c.loss).sum::<f64>() - best).abs() < 1e-12, "seed {seed}");
                        assert!(cost.bytes <= budget);
                    }
                    None => assert!(best.is_infinite(), "seed {seed}, budget {budget}"),
                }
            }
        }
    }

    #[test]
    fn more_bytes_never_lose_more_and_a_loss_finds_its_size() {
        let front = Front::new(&random(5, 40, 6), 500).unwrap();
        let costs = front.costs();
        assert!(costs.len() > 100 && costs.windows(2).all(|w| w[0].bytes < w[1].bytes && w[0].loss > w[1].loss));
        let middle = costs[costs.len() / 2];
        assert_eq!(front.at_most(middle.loss).unwrap().0, middle);
        assert_eq!(front.within(middle.bytes).unwrap().0, middle);
        assert!(front.within(costs[0].bytes - 1).is_none() && front.at_most(-1.0).is_none());
    }

    #[test]
    fn thinning_costs_little() {
        let modules = random(9, 20, 5);
        let (exact, thin) = (Front::new(&modules, 1 << 20).unwrap(), Front::new(&modules, 300).unwrap());
        let (least, most) = (exact.costs()[0].bytes, exact.costs().last().unwrap().bytes);
        for budget in [1, 2, 3].map(|quarter| least + (most - least) * quarter / 4) {
            let (exact, thin) = (exact.within(budget).unwrap().0, thin.within(budget).unwrap().0);
            assert!(thin.loss >= exact.loss && thin.loss <= exact.loss * 1.05 + 1e-9, "{thin:?} {exact:?}");
        }
    }

    #[test]
    fn a_module_without_choices_is_refused() {
        assert!(Front::new(&[Vec::new()], LIMIT).is_err() && Front::new(&[], LIMIT).is_err());
    }

    #[test]
    fn bytes_beyond_counting_are_refused() {
        let modules = |bytes: [u64; 2]| bytes.map(|bytes| vec![Cost { bytes, loss: 0.0 }]);
        let told = Front::new(&modules([u64::MAX, 1]), LIMIT).err().unwrap().to_string();
        assert!(told.contains("18446744073709551616 bytes"), "{told}");
        assert_eq!(Front::new(&modules([u64::MAX - 1, 1]), LIMIT).unwrap().costs()[0].bytes, u64::MAX);
    }
}

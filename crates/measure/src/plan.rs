//! How many rounds each size gets.
//!
//! First every size gets its least: [`FEWEST`] rounds, and up to `least` where these take no longer than the
//! larger sizes' few. Where the time does not suffice for that, every size gets fewer, one at least; a size
//! is dropped only if one round of it does not fit into the whole time. Then what is left goes where the
//! widest intervals were seen. That is decided once, from the first rounds alone: to stop as soon as an
//! interval is narrow would stop where it is narrow by chance.

use crate::stats::FEWEST;

/// The most rounds of a size, unless more are asked for: half the width of ten rounds takes 40, a quarter
/// 160. Small sizes, whose calls scatter most, get so many in seconds.
const MOST: usize = 200;
/// Of the time that is left, how much is planned for. The rest is for estimates that were too low, and for
/// rounds that are repeated.
const PLANNED: f64 = 0.9;
/// Half the width of an interval that is not known, in points: wider than any that is.
const UNKNOWN: f64 = 50.0;

/// What a size takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds of one round.
    pub round: f64,
    /// Seconds of making its operands and of checking its methods.
    pub setup: f64,
}

/// What a size has had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pilot {
    /// What it takes.
    pub cost: Cost,
    /// Its rounds so far.
    pub rounds: usize,
    /// Half the width of its widest interval, in points; None if there are too few rounds for one.
    pub half_width: Option<f64>,
}

/// Rounds of the first of these sizes, all of which are still to get their least within `left` seconds.
pub fn first(sizes: &[Cost], left: f64, least: usize) -> usize {
    let setup: f64 = sizes.iter().map(|cost| cost.setup).sum();
    let time = PLANNED * (left - setup);
    let once: f64 = sizes.iter().map(|cost| cost.round).sum();
    let floor = ((time / once) as usize).clamp(1, FEWEST.min(least));
    // The largest slice of time for each with which all of them fit.
    let rounds = |cost: &Cost, slice: f64| ((slice / cost.round) as usize).clamp(floor, least.max(floor));
    let fits =
        |slice: f64| sizes.iter().map(|cost| rounds(cost, slice) as f64 * cost.round).sum::<f64>() <= time;
    let longest = sizes.iter().map(|cost| cost.round).fold(0.0, f64::max) * (least + 1) as f64;
    rounds(&sizes[0], bisect(longest, fits))
}

/// Rounds of each size in all, so that what comes on top takes at most `left` seconds.
pub fn allot(pilots: &[Pilot], left: f64, least: usize) -> Vec<usize> {
    let most = MOST.max(least);
    // An interval narrows with the root of the rounds: from h at n rounds to w takes n · (h / w)².
    let rounds = |pilot: &Pilot, width: f64| {
        let half_width = pilot.half_width.unwrap_or(UNKNOWN);
        let wanted = pilot.rounds as f64 * (half_width / width).powi(2);
        (wanted.ceil().min(most as f64) as usize).max(pilot.rounds)
    };
    let cost = |width: f64| -> f64 {
        let of = |pilot: &Pilot| {
            let more = rounds(pilot, width) - pilot.rounds;
            more as f64 * pilot.cost.round + if more > 0 { pilot.cost.setup } else { 0.0 }
        };
        pilots.iter().map(of).sum()
    };
    // The narrower, the longer: bisected over 1 / width.
    let narrowness = bisect(100.0, |narrowness| cost(1.0 / narrowness) <= PLANNED * left);
    pilots.iter().map(|pilot| rounds(pilot, 1.0 / narrowness.max(1e-9))).collect()
}

/// The largest value up to `most` that fits, where all below one that fits do too; 0 if none does.
fn bisect(most: f64, fits: impl Fn(f64) -> bool) -> f64 {
    if fits(most) {
        return most;
    }
    let (mut low, mut high) = (0.0, most);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = 10;

    fn cost(round: f64) -> Cost {
        Cost { round, setup: 0.0 }
    }

    /// Rounds of each size when its turn comes, and the time that all of them take.
    fn pilot(costs: &[Cost], time: f64, least: usize) -> (Vec<usize>, f64) {
        let mut left = time;
        let mut all = Vec::new();
        for i in 0..costs.len() {
            let rounds = first(&costs[i..], left, least);
            left -= costs[i].setup + rounds as f64 * costs[i].round;
            all.push(rounds);
        }
        (all, time - left)
    }

    #[test]
    fn every_size_gets_its_least_before_any_gets_more() {
        let costs = [0.1, 1.0, 4.0, 16.0].map(cost);
        assert_eq!(pilot(&costs, 1000.0, LEAST).0, [10; 4]);
        // 6 rounds of all are 127 s.
        let (rounds, time) = pilot(&costs, 150.0, LEAST);
        assert!(rounds[..2] == [10, 10] && rounds[3] >= 6 && time <= 150.0, "{rounds:?} {time}");
        // Not even that: every size gets some, and small ones more, since theirs cost next to nothing.
        let (rounds, time) = pilot(&costs, 60.0, LEAST);
        assert!(rounds[0] == 10 && (2..=5).contains(&rounds[3]) && time <= 60.0, "{rounds:?} {time}");
        assert_eq!(pilot(&costs, 5.0, LEAST).0, [1; 4]);
        assert_eq!(pilot(&costs, 1.0, LEAST).0, [1; 4], "a size that is not dropped is measured");
        assert_eq!(pilot(&costs, 1e6, 40).0, [40; 4], "as many as are asked for");
        assert_eq!(pilot(&costs, 1e6, 2).0, [2; 4]);
    }

    #[test]
    fn making_operands_takes_time_too() {
        let costs = [1.0; 4].map(|round| Cost { round, setup: 10.0 });
        assert_eq!(pilot(&costs, 40.1 + 24.0 / PLANNED, LEAST).0[0], 6);
        assert_eq!(pilot(&costs, 41.0, LEAST).0, [1; 4]);
    }

    fn pilots(half_widths: &[f64], rounds: &[f64]) -> Vec<Pilot> {
        let pilot =
            |(&half_width, &round)| Pilot { cost: cost(round), rounds: 10, half_width: Some(half_width) };
        half_widths.iter().zip(rounds).map(pilot).collect()
    }

    #[test]
    fn what_is_left_goes_where_intervals_are_wide() {
        let even = allot(&pilots(&[1.0, 1.0], &[1.0, 1.0]), 40.0 / PLANNED, LEAST);
        assert_eq!(even, [30, 30]);
        // Twice as wide takes four times the rounds: 10 · (2 / w)² and 10 · (1 / w)².
        let uneven = allot(&pilots(&[2.0, 1.0], &[1.0, 1.0]), 40.0 / PLANNED, LEAST);
        assert_eq!(uneven.iter().sum::<usize>(), 60);
        assert!(uneven[0] >= 46, "{uneven:?}");
        for (left, rounds) in [(1e6, MOST), (0.0, 10), (-5.0, 10)] {
            assert_eq!(allot(&pilots(&[1.0, 1.0], &[1.0, 1.0]), left, LEAST), [rounds; 2]);
        }
        assert_eq!(allot(&[], 5.0, LEAST), [0; 0]);
    }

    #[test]
    fn a_size_without_an_interval_comes_first() {
        let mut pilots = pilots(&[1.0, 1.0], &[1.0, 1.0]);
        (pilots[1].rounds, pilots[1].half_width) = (3, None);
        let rounds = allot(&pilots, 20.0 / PLANNED, LEAST);
        assert!(rounds[0] == 10 && rounds[1] >= 22, "{rounds:?}");
    }
}

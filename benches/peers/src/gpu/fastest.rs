//! Which of several ways is the fastest: each is tried, since heuristics only guess.

/// Times that each is timed, after one run that does not count.
const TRIALS: usize = 3;

/// The number of the way that `seconds` finds fastest, by its fastest trial; None if there are none.
///
/// They are tried in turn, so that a slow moment of the device does not fall on one of them alone.
///
/// # Errors
///
/// The first of `seconds`.
pub(super) fn fastest<E>(
    ways: usize,
    mut seconds: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Option<usize>, E> {
    let mut best = vec![f64::INFINITY; ways];
    for trial in 0..=TRIALS {
        for (way, best) in best.iter_mut().enumerate() {
            let time = seconds(way)?;
            if trial > 0 {
                *best = best.min(time);
            }
        }
    }
    Ok((0..ways).min_by(|&a, &b| best[a].total_cmp(&best[b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_kept() {
        let times = [3.0, 2.0, 2.5];
        assert_eq!(fastest(3, |way| -> Result<f64, ()> { Ok(times[way]) }), Ok(Some(1)));
        assert_eq!(fastest(0, |_| -> Result<f64, ()> { Ok(1.0) }), Ok(None));
        assert_eq!(fastest(2, |way| if way == 0 { Ok(1.0) } else { Err("gone") }), Err("gone"));
    }

    /// The first run of each takes long, and one trial of the faster is slow.
    #[test]
    fn neither_a_first_run_nor_a_slow_moment_decides() {
        let mut runs = [0, 0];
        let found = fastest(2, |i| -> Result<f64, ()> {
            runs[i] += 1;
            Ok(match (i, runs[i]) {
                (0, 1) => 0.1,
                (0, _) => 5.0,
                (_, 1) => 100.0,
                (_, 2) => 9.0,
                _ => 4.0,
            })
        });
        assert_eq!((found, runs), (Ok(Some(1)), [4, 4]));
    }
}

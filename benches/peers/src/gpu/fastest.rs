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

    /// What is found among ways that take so long, run by run.
    fn found<const N: usize>(times: [[f64; 4]; N]) -> Result<Option<usize>, &'static str> {
        let mut runs = [0; N];
        fastest(N, |way| {
            runs[way] += 1;
            times[way].get(runs[way] - 1).copied().ok_or("a fifth run")
        })
    }

    #[test]
    fn the_fastest_is_kept() {
        assert_eq!(found([[3.0; 4], [2.0; 4], [2.5; 4]]), Ok(Some(1)));
        assert_eq!(found([]), Ok(None));
        assert_eq!(fastest(2, |way| if way == 0 { Ok(1.0) } else { Err("gone") }), Err("gone"));
        // The first run of each does not count, and one fast trial is enough, be it the last.
        assert_eq!(found([[0.1, 5.0, 5.0, 5.0], [100.0, 9.0, 9.0, 4.0]]), Ok(Some(1)));
    }
}

//! Rounds of a size: each call timed, in alternating order, and in the first round checked.

use std::time::Duration;

use anyhow::Context as _;

use super::backend::Backend;
use super::check::References;
use super::round::{Call, Round};
use super::torch::Torch;
use crate::calls::Rounds;
use crate::ring::alternating;

/// Decides how many rounds there are.
pub trait Pace {
    /// Whether there is to be another round.
    fn goes_on(&self) -> bool;

    /// A round took so long, all of its calls together.
    fn ran(&mut self, time: Duration);
}

/// Who computes.
pub struct Players<'a> {
    /// This library.
    pub ours: &'a mut dyn Backend,
    /// PyTorch, where the round has calls of it.
    pub torch: Option<&'a mut Torch>,
    /// What y should be.
    pub references: &'a References,
    /// Forward passes of a call of ours.
    pub passes: usize,
}

impl Players<'_> {
    /// Runs rounds for as long as there is to be another, one at least. The first round is the check, too: y is compared right after its
    /// call.
    ///
    /// # Errors
    ///
    /// If a call fails, or its y is wrong.
    pub fn run(&mut self, round: &Round, pace: &mut impl Pace) -> anyhow::Result<Rounds> {
        // Places of our calls as the backend counts them.
        let ours: Vec<usize> = round.ours().map(|(place, _)| place).collect();
        let mut times: Vec<Vec<Duration>> = Vec::new();
        while times.is_empty() || pace.goes_on() {
            let mut of_round = vec![Duration::ZERO; round.calls.len()];
            for place in alternating(round.calls.len(), times.len()) {
                of_round[place] = match round.calls[place] {
                    Call::Torch(method, rank) => {
                        let torch = self.torch.as_mut().context("a round with PyTorch without PyTorch")?;
                        torch.call(method, rank)?
                    }
                    Call::Bare | Call::BareAgain | Call::Adapted(_) => {
                        let backend_place = ours.iter().position(|&other| other == place);
                        self.ours.call(backend_place.context("a call of ours has a place")?)?
                    }
                };
                if times.is_empty() {
                    self.check(round, place)?;
                }
            }
            pace.ran(of_round.iter().sum::<Duration>() * self.passes as u32);
            times.push(of_round);
        }
        Ok(Rounds::new(times))
    }

    /// Compares y of the call that has just been made. PyTorch's is checked elsewhere: it would come through a file.
    fn check(&mut self, round: &Round, place: usize) -> anyhow::Result<()> {
        let Some((_, variant)) = round.ours().find(|&(other, _)| other == place) else { return Ok(()) };
        let references = self.references;
        self.ours.inspect(&mut |y| Ok(references.check(&variant.name(), round.size, variant, y)?))
    }

    /// Compares y of each of PyTorch's calls, which are made for that alone.
    ///
    /// # Errors
    ///
    /// If a call fails, or its y is wrong.
    pub fn check_torch(&mut self, round: &Round) -> anyhow::Result<()> {
        let Some(torch) = &mut self.torch else { return Ok(()) };
        for &call in &round.calls {
            let Call::Torch(method, rank) = call else { continue };
            torch.call(method, rank)?;
            let y = torch.output()?;
            self.references.check_f32(method.record_name(), round.size, method.variant(rank), y.view())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_records::Workload;
    use fused_lora_transformer::{Config, Method};
    use half::f16;
    use ndarray::{Array2, ArrayView2};

    use super::*;
    use crate::arguments::Arguments;
    use crate::layer::sequences::Sequences;
    use crate::layer::size::Size;
    use crate::layer::variant::Variant;
    use crate::layer::weights::Weights;
    use crate::settings::Settings;

    const CONFIG: Config = Config { d: 16, heads: 2, mlp: 32, layers: 1 };
    const SIZE: Size = Size { seq_len: 3, batch: 3 };

    /// Returns the reference for y, but where it is broken; its n-th call takes n microseconds.
    struct Fake {
        variants: Vec<Variant>,
        expected: Vec<Array2<f16>>,
        broken: Option<Variant>,
        calls: Vec<usize>,
        checked: usize,
    }

    impl Backend for Fake {
        fn furnish(&mut self, _: Size, _: &[Variant], _: &Weights, _: &Sequences) -> anyhow::Result<()> {
            Ok(())
        }

        fn call(&mut self, place: usize) -> anyhow::Result<Duration> {
            self.calls.push(place);
            Ok(Duration::from_micros(self.calls.len() as u64))
        }

        fn inspect(
            &mut self,
            check: &mut dyn FnMut(ArrayView2<'_, f16>) -> anyhow::Result<()>,
        ) -> anyhow::Result<()> {
            self.checked += 1;
            let place = *self.calls.last().unwrap();
            let mut y = self.expected[place].clone();
            if self.broken == Some(self.variants[place]) {
                y[[8, 2]] += f16::ONE;
            }
            check(y.view())
        }
    }

    /// So many rounds, and how long they took.
    struct Heard {
        most: usize,
        micros: Vec<u128>,
    }

    impl Pace for Heard {
        fn goes_on(&self) -> bool {
            self.micros.len() < self.most
        }

        fn ran(&mut self, time: Duration) {
            self.micros.push(time.as_micros());
        }
    }

    fn fake(broken: Option<Variant>) -> (Round, Fake, References) {
        let settings = Settings { workload: &Workload::LAYERS[0], ..Settings::default() };
        let round = Round::of(&settings, &Arguments::with_filter("r(0|10)/"), SIZE).unwrap();
        let mut weights = Weights::new(CONFIG).unwrap();
        let sequences = Sequences::new(SIZE.seq_len, CONFIG.d);
        let variants: Vec<Variant> = round.ours().map(|(_, variant)| variant).collect();
        variants.iter().for_each(|&variant| weights.ensure(variant).unwrap());
        let mut references = References::new(1);
        references.ensure(SIZE.seq_len, variants.iter().copied(), &weights, &sequences);
        let expected = variants.iter().map(|&variant| {
            let of = crate::layer::reference::forward(&weights, variant, &sequences, SIZE.seq_len);
            ndarray::concatenate![ndarray::Axis(0), of[0], of[1], of[0]].mapv(f16::from_f32)
        });
        let expected = expected.collect();
        (round, Fake { variants, expected, broken, calls: Vec::new(), checked: 0 }, references)
    }

    #[test]
    fn rounds_alternate_and_the_first_is_checked() {
        let (round, mut fake, references) = fake(None);
        let mut players = Players { ours: &mut fake, torch: None, references: &references, passes: 1 };
        let mut pace = Heard { most: 3, micros: Vec::new() };
        let rounds = players.run(&round, &mut pace).unwrap();
        assert_eq!((rounds.len(), round.calls.len()), (3, 6));
        assert_eq!(fake.calls, [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(fake.checked, 6);
        assert_eq!(rounds.nanos(0), [1e3, 12e3, 13e3]);
        assert_eq!(pace.micros, [21, 57, 93]);
    }

    #[test]
    fn a_broken_method_is_named_with_its_cell() {
        for method in Method::ALL {
            let rank = if method == Method::None { 0 } else { 10 };
            let broken = Variant { method, rank, ..Variant::NONE };
            let (round, mut fake, references) = fake(Some(broken));
            let mut players = Players { ours: &mut fake, torch: None, references: &references, passes: 1 };
            let error =
                players.run(&round, &mut Heard { most: 1, micros: Vec::new() }).unwrap_err().to_string();
            let expected = format!("{method} at seq3/batch3/r{rank} is wrong");
            assert!(error.starts_with(&expected) && error.contains("row 8"), "{error}");
        }
    }
}

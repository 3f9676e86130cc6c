//! Other libraries, each as a method: the base product, and base, shrink and expand as three calls.
//!
//! They get the operands as a user has them (W is [N, K], y is [M, N]) and all threads.

mod gemm_f16;
mod gemmkit_f16;
mod gemmkit_packed;

use std::collections::BTreeSet;

use fused_lora::Strategy;
use fused_lora_records::{Cell, grid};

use crate::check::Deviation;
use crate::method::Method;
use crate::model::Linear;
use crate::settings::{Selection, Settings};

/// The sizes of [`Selection::Sizes`]: M = 128, 512, 4096 and 16384.
const SIZES: [(usize, usize); 4] = [(128, 1), (128, 4), (128, 32), (512, 32)];

/// The cells that peers are measured in: those that are selected, of this host's shard.
#[must_use]
pub fn cells(settings: &Settings) -> Vec<Cell> {
    let selected = |cell: &Cell| match settings.selection {
        Selection::Full => true,
        // `Reduced` is another bench's.
        Selection::Sizes | Selection::Reduced => SIZES.contains(&(cell.seq_len, cell.batch)),
    };
    let cells = grid().filter(selected).enumerate();
    cells.filter(|&(ordinal, _)| settings.shard.holds(ordinal)).map(|(_, cell)| cell).collect()
}

/// The peers that are less exact than the reference asks for: timed all the same, and marked.
#[derive(Default)]
pub struct Inexact(BTreeSet<String>);

impl Inexact {
    /// Says of a peer that it is one of them; once.
    pub fn note(&mut self, method: String, deviation: Deviation) {
        if self.holds(&method) {
            return;
        }
        let Deviation { element, norm } = deviation;
        eprintln!(
            "{method} breaks the tolerance, and is timed all the same: its worst element is off by {element:.2} times \
             what is allowed, all of them together by {norm:.2} times"
        );
        self.0.insert(method);
    }

    /// Whether a peer is one of them.
    #[must_use]
    pub fn holds(&self, method: &str) -> bool {
        self.0.contains(method)
    }
}

/// A library that is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The crate `gemm`, f16.
    GemmF16,
    /// The crate `gemmkit`, f16.
    GemmkitF16,
    /// The crate `gemmkit`, f16, with W, A and B prepacked.
    GemmkitF16Packed,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 3] = [Peer::GemmF16, Peer::GemmkitF16, Peer::GemmkitF16Packed];

    /// The name in the records, before the strategy's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Peer::GemmF16 => "gemm-f16",
            Peer::GemmkitF16 => "gemmkit-f16",
            Peer::GemmkitF16Packed => "gemmkit-f16-packed",
        }
    }

    /// Its base product alone.
    #[must_use]
    pub fn base(self, slots: &[Vec<Linear>]) -> Box<dyn Method + '_> {
        self.method(Strategy::Base, slots, 0)
    }

    /// Its three calls.
    #[must_use]
    pub fn unfused(self, slots: &[Vec<Linear>], rank: usize) -> Box<dyn Method + '_> {
        self.method(Strategy::Unfused, slots, rank)
    }

    fn method(self, strategy: Strategy, slots: &[Vec<Linear>], rank: usize) -> Box<dyn Method + '_> {
        let name = format!("{}/{strategy}", self.name());
        match self {
            Peer::GemmF16 => Box::new(gemm_f16::Gemm::new(name, strategy, slots, rank)),
            Peer::GemmkitF16 => Box::new(gemmkit_f16::Gemmkit::new(name, strategy, slots, rank)),
            Peer::GemmkitF16Packed => Box::new(gemmkit_packed::Packed::new(name, strategy, slots, rank)),
        }
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::cpu::Simd;
    use fused_lora_records::Workload;

    use super::*;
    use crate::check::{Wrong, check};
    use crate::model::Model;
    use crate::normals::Normals;
    use crate::tokens;

    /// A peer may sum less exactly than the rule allows, but it must compute the same thing: a wrong operand,
    /// a missing scale or a swapped stride is off by orders of magnitude.
    #[test]
    fn peers_compute_the_operation() {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let mut model = Model::new(workload, Simd::detect().unwrap());
        model.ensure(1, 0).unwrap();
        model.ensure(1, 10).unwrap();
        let mut tokens = tokens::slot(workload, 9, &mut Normals::new(3));
        for peer in Peer::ALL {
            for (mut method, rank) in [(peer.base(model.slots()), 0), (peer.unfused(model.slots(), 10), 10)] {
                match check(&mut *method, &model.slots()[0], rank, &mut tokens) {
                    Ok(()) => (),
                    Err(Wrong::Mismatch { deviation, .. }) => {
                        println!("{}: {deviation:?}", method.name());
                        assert!(deviation.norm < 3.0, "{}: {deviation:?}", method.name());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

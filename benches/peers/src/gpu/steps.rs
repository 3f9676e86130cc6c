//! The products of one projection, one after the other, with what they work on.

use fused_lora_benches::linear::weights::SCALE;

use crate::gpu::matmul::Addresses;
use crate::gpu::product::Product;

/// Ranks are rounded up to this: 8 f16 are the 16 bytes that cuBLASLt's f16 kernels load at a time.
const RANK_GRANULE: usize = 8;

/// The rank that the peer's A, B and h have, with zeros behind the adapter's own.
#[must_use]
pub fn padded(rank: usize) -> usize {
    rank.next_multiple_of(RANK_GRANULE)
}

/// The sizes of one projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens.
    pub m: usize,
    /// Columns of y.
    pub n: usize,
    /// Columns of x.
    pub k: usize,
    /// The rank as it is stored, [`padded`]; 0 for the base alone.
    pub rank: usize,
}

/// Where the matrices of one projection are, on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// [m, k]
    pub x: u64,
    /// [n, k]
    pub w: u64,
    /// [rank, k]
    pub a: u64,
    /// [n, rank]
    pub b: u64,
    /// [m, rank]
    pub h: u64,
    /// [m, n]
    pub y: u64,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What it computes.
    pub product: Product,
    /// BLAS's α.
    pub alpha: f32,
    /// On what.
    pub addresses: Addresses,
}

/// y = x·Wᵀ; and with an adapter h = s·x·Aᵀ, y += h·Bᵀ.
#[must_use]
pub fn steps(sizes: Sizes, places: Places) -> Vec<Step> {
    let Sizes { m, n, k, rank } = sizes;
    let Places { x, w, a, b, h, y } = places;
    let base = Step { product: Product::dense(m, n, k), alpha: 1.0, addresses: Addresses { x, w, out: y } };
    if rank == 0 {
        return vec![base];
    }
    let shrink =
        Step { product: Product::dense(m, rank, k), alpha: SCALE, addresses: Addresses { x, w: a, out: h } };
    let expand = Step {
        product: Product::dense(m, n, rank).accumulating(),
        alpha: 1.0,
        addresses: Addresses { x: h, w: b, out: y },
    };
    vec![base, shrink, expand]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { x: 1, w: 2, a: 3, b: 4, h: 5, y: 6 };

    #[test]
    fn the_base_is_one_call() {
        let steps = steps(Sizes { m: 128, n: 3072, k: 1024, rank: 0 }, PLACES);
        let addresses = Addresses { x: 1, w: 2, out: 6 };
        assert_eq!(steps, [Step { product: Product::dense(128, 3072, 1024), alpha: 1.0, addresses }]);
    }

    #[test]
    fn an_adapter_is_two_more_the_last_of_which_adds() {
        let steps = steps(Sizes { m: 128, n: 3072, k: 1024, rank: 104 }, PLACES);
        let [_, shrink, expand] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((shrink.product, shrink.alpha), (Product::dense(128, 104, 1024), SCALE));
        assert_eq!(shrink.addresses, Addresses { x: 1, w: 3, out: 5 });
        assert_eq!((expand.product.m, expand.product.n, expand.product.k), (128, 3072, 104));
        assert_eq!((expand.product.beta(), expand.alpha), (1.0, 1.0));
        assert_eq!(expand.addresses, Addresses { x: 5, w: 4, out: 6 });
    }

    #[test]
    fn ranks_are_padded_to_sixteen_bytes() {
        assert_eq!([0, 1, 8, 10, 100, 250].map(padded), [0, 8, 8, 16, 104, 256]);
    }
}

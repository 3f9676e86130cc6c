//! What a product works on.

use super::{
    blocks::{KBlock, steps_of},
    buffer::Buffer,
    kernel::{
        Finishing, Input,
        levels::{Kernels, OutOf},
    },
    panels::{Bytes, Panels},
    sweep::Target,
    view::{Rows, RowsMut},
};

/// `y = round( activation(scale · (addend + x Wᵀ + h Bᵀ) + bias) + residuals )`, all in one pass over x and
/// y.
pub(crate) struct Product<'a, P: Kernels> {
    pub(crate) x: Rows<P::In>,
    pub(crate) weight: &'a Panels,
    pub(crate) lora: Option<Lora<'a>>,
    /// `[x.rows, weight.rows]`
    pub(crate) y: RowsMut<OutOf<P>>,
    pub(crate) scale: f32,
    pub(crate) bias: Option<&'a Buffer>,
    /// Where the sums start, `[x.rows, weight.rows]`; asks for scale 1. May be y itself.
    pub(crate) addend: Input<OutOf<P>>,
    /// Residuals are `[x.rows, weight.rows]`, and may be y itself.
    pub(crate) finishing: Finishing<OutOf<P>>,
}

/// `h = round( scale · x Aᵀ )` and `B`.
#[derive(Clone, Copy)]
pub(crate) struct Lora<'a> {
    pub(crate) a: &'a Panels,
    pub(crate) b: &'a Panels,
    pub(crate) scale: f32,
}

impl<'a, P: Kernels> Product<'a, P> {
    /// A and B, if there is an adapter.
    pub(crate) fn adapter(&self) -> Option<[&'a Panels; 2]> {
        self.lora.map(|lora| [lora.a, lora.b])
    }

    /// Panel `p` of W in this K block, and of B if it goes with it, to be fetched.
    pub(crate) fn panel_bytes(&self, p: usize, k: &KBlock) -> [Option<Bytes>; 2] {
        let b = self.lora.filter(|_| k.last).and_then(|lora| lora.b.bytes(p, 0..lora.b.steps()));
        [self.weight.bytes(p, steps_of::<P::Main>(k)), b]
    }

    /// All of y.
    pub(crate) fn target(&self) -> Target<OutOf<P>> {
        Target {
            y: self.y,
            scale: self.scale,
            bias: self.bias.map_or(std::ptr::null(), Buffer::as_ptr),
            addend: self.addend,
            finishing: self.finishing,
        }
    }
}

//! What a product works on.

use super::{
    blocks::{KBlock, steps_of},
    buffer::Buffer,
    kernel::{
        Finishing, Input,
        levels::{Kernels, OutOf},
    },
    loras::Loras,
    panels::{Bytes, Panels},
    sweep::{Columns, Target},
    view::{Rows, RowsMut},
};

/// `y = round( activation(scale · (addend + x Wᵀ + h Bᵀ) + bias) + residuals )`, all in one pass over x and
/// y.
pub(crate) struct Product<'a, P: Kernels> {
    pub(crate) x: Rows<P::In>,
    pub(crate) weight: &'a Panels,
    /// Packed for P, and fitting x and W.
    pub(crate) loras: &'a Loras,
    /// Without it, only adapters are added to the addend.
    pub(crate) base: bool,
    /// `[x.rows, weight.rows]`
    pub(crate) y: RowsMut<OutOf<P>>,
    pub(crate) scale: f32,
    pub(crate) bias: Option<&'a Buffer>,
    /// Where the sums start, `[x.rows, weight.rows]`; asks for scale 1. May be y itself.
    pub(crate) addend: Input<OutOf<P>>,
    /// Residuals are `[x.rows, weight.rows]`, and may be y itself.
    pub(crate) finishing: Finishing<OutOf<P>>,
}

impl<'a, P: Kernels> Product<'a, P> {
    /// W in the K block of a sweep of x; none where there is nothing to do for W.
    pub(crate) fn of_w(&self, k: &KBlock) -> Option<KBlock> {
        match (self.base, k.last) {
            (true, _) => Some(k.clone()),
            (false, true) => Some(KBlock { range: 0..0, first: true, last: true }),
            (false, false) => None,
        }
    }

    /// Panel `p` of W in this K block, to be fetched.
    pub(crate) fn panel_bytes(&self, p: usize, k: &KBlock) -> Option<Bytes> {
        self.weight.bytes(p, steps_of::<P::Main>(k))
    }

    /// W, and y from that row on.
    pub(crate) fn columns(&self, row: usize) -> Columns<'a, OutOf<P>> {
        Columns { panels: self.weight, to: self.target().at(row, 0) }
    }

    /// All of y.
    fn target(&self) -> Target<OutOf<P>> {
        Target {
            y: self.y,
            scale: self.scale,
            bias: self.bias.map_or(std::ptr::null(), Buffer::as_ptr),
            addend: self.addend,
            finishing: self.finishing,
        }
    }
}

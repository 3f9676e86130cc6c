//! x and y of one size on the host, once for each slot of a ring; and methods that are called on them.

use std::cell::RefCell;
use std::rc::Rc;

use clap::ValueEnum;
use fused_lora::Element;
use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use crate::method::Call;
use crate::time::Time;

/// State of the caches when a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    /// W, A, B, x and y all come from buffers that have left the caches.
    Cold,
    /// One W, A and B for all calls; x and y come from buffers that have left the caches.
    WarmW,
}

impl Cache {
    /// The name in the records.
    pub fn name(self) -> &'static str {
        if self == Cache::Cold { "cold" } else { "warm-w" }
    }
}

/// How a method wants y to lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A row of y after the other, as the operation has it.
    RowMajor,
    /// A column of y after the other: what prepacked weights of some peers demand.
    ColumnMajor,
}

/// Input and output of one product, of M tokens.
pub struct Tokens<'a, T = f16> {
    /// [M, K]
    pub x: ArrayView2<'a, T>,
    /// M · N elements, laid out as the method that writes them likes it.
    pub y: &'a mut [T],
}

impl<T> Tokens<'_, T> {
    /// y as the matrix [M, N], a row after the other.
    pub fn y_rows(&mut self) -> ArrayViewMut2<'_, T> {
        let m = self.x.nrows();
        ArrayViewMut2::from_shape((m, self.y.len() / m), self.y).expect("y has M · N elements")
    }
}

/// All slots, in memory that all sizes share: the large sizes' few slots take as much as the small ones'
/// many.
#[derive(Default)]
pub struct Operands<T = f16> {
    m: usize,
    /// K and N of each product.
    widths: Vec<(usize, usize)>,
    slots: usize,
    x: Vec<T>,
    y: Vec<T>,
}

impl<T: Element> Operands<T> {
    /// Makes slots of M tokens; `fill` gets the x of one after another: all its products', in a row.
    pub fn resize(&mut self, m: usize, widths: &[(usize, usize)], slots: usize, fill: impl FnMut(&mut [T])) {
        (self.m, self.slots) = (m, slots);
        self.widths = widths.to_vec();
        let (x, y) = self.lengths();
        self.x.resize(self.x.len().max(slots * x), T::default());
        self.x[..slots * x].chunks_exact_mut(x).for_each(fill);
        // Written, so that its pages are there.
        self.y.resize(self.y.len().max(slots * y), T::from_f32(f32::NAN));
    }

    /// Tokens of a slot.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Elements of x and of y of a slot.
    fn lengths(&self) -> (usize, usize) {
        self.widths.iter().fold((0, 0), |(x, y), (k, n)| (x + self.m * k, y + self.m * n))
    }

    /// Input and output of each product of a slot.
    pub fn tokens(&mut self, slot: usize) -> Vec<Tokens<'_, T>> {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let lengths = self.lengths();
        let (mut x, mut y) = (&self.x[slot * lengths.0..], &mut self.y[slot * lengths.1..]);
        let of_product = |&(k, n): &(usize, usize)| {
            let of_x = x.split_off(..self.m * k).expect("a slot has x of each product");
            let y = y.split_off_mut(..self.m * n).expect("a slot has y of each product");
            let x = ArrayView2::from_shape((self.m, k), of_x).expect("x has M · K elements");
            Tokens { x, y }
        };
        self.widths.iter().map(of_product).collect()
    }
}

/// Bytes of x and y of one slot.
pub fn slot_bytes(m: usize, widths: &[(usize, usize)]) -> usize {
    m * widths.iter().map(|(k, n)| k + n).sum::<usize>() * size_of::<f16>()
}

/// A method of this host: `run` gets the number of the weights' slot, and the tokens of each product.
pub fn on_host<T, F>(
    operands: &Rc<RefCell<Operands<T>>>,
    cache: Cache,
    layout: Layout,
    run: F,
) -> Box<dyn Call>
where
    T: Element,
    F: FnMut(usize, &mut [Tokens<'_, T>]) -> anyhow::Result<()> + 'static,
{
    Box::new(OnHost { operands: Rc::clone(operands), cache, layout, run })
}

struct OnHost<T, F> {
    operands: Rc<RefCell<Operands<T>>>,
    cache: Cache,
    layout: Layout,
    run: F,
}

impl<T, F> Call for OnHost<T, F>
where
    T: Element,
    F: FnMut(usize, &mut [Tokens<'_, T>]) -> anyhow::Result<()>,
{
    fn call(&mut self, slot: usize) -> anyhow::Result<Time> {
        let weights = match self.cache {
            Cache::Cold => slot,
            Cache::WarmW => 0,
        };
        let mut operands = self.operands.borrow_mut();
        let mut tokens = operands.tokens(slot);
        Time::of(|| (self.run)(weights, &mut tokens))
    }

    fn poison(&mut self) -> anyhow::Result<()> {
        let nan = T::from_f32(f32::NAN);
        self.operands.borrow_mut().tokens(0).iter_mut().for_each(|tokens| tokens.y.fill(nan));
        Ok(())
    }

    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        let mut operands = self.operands.borrow_mut();
        let of = |tokens: &Tokens<'_, T>| {
            let (m, n) = (tokens.x.nrows(), tokens.y.len() / tokens.x.nrows());
            let y = match self.layout {
                Layout::RowMajor => ArrayView2::from_shape((m, n), tokens.y)?,
                Layout::ColumnMajor => ArrayView2::from_shape((n, m), tokens.y)?.reversed_axes(),
            };
            Ok(y.mapv(T::to_f32))
        };
        operands.tokens(0).iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [(usize, usize); 2] = [(3, 2), (4, 5)];

    fn operands(m: usize, slots: usize) -> Operands {
        let mut operands = Operands::default();
        let mut next = 0u16..;
        let mut number = || f16::from_f32(f32::from(next.next().unwrap_or(0)));
        operands.resize(m, &WIDTHS, slots, |x| x.fill_with(&mut number));
        operands
    }

    #[test]
    fn each_product_of_each_slot_has_tokens_of_its_own() {
        let mut operands = operands(2, 3);
        let mut first = Vec::new();
        for slot in 0..3 {
            let mut tokens = operands.tokens(slot);
            assert_eq!((tokens[0].x.dim(), tokens[1].x.dim()), ((2, 3), (2, 4)));
            assert_eq!((tokens[0].y_rows().dim(), tokens[1].y_rows().dim()), ((2, 2), (2, 5)));
            first.push([0, 1].map(|product| tokens[product].x[[0, 0]].to_f32()));
            tokens.iter_mut().for_each(|tokens| tokens.y.fill(f16::from_f32(slot as f32)));
        }
        // 14 elements of x a slot, 6 of them of the first product.
        assert_eq!(first, [[0.0, 6.0], [14.0, 20.0], [28.0, 34.0]]);
        assert!((0..3).all(|slot| operands.tokens(slot)[1].y.iter().all(|y| y.to_f32() == slot as f32)));
        assert_eq!(slot_bytes(2, &WIDTHS), 2 * 2 * (3 + 2 + 4 + 5));
    }

    #[test]
    fn memory_is_shared_by_sizes_and_every_slot_is_filled() {
        let mut operands = operands(2, 3);
        for (m, slots, length) in [(6, 1, 2 * 3 * 7), (7, 1, 7 * 7), (3, 2, 7 * 7)] {
            let mut filled = 0;
            operands.resize(m, &WIDTHS, slots, |x| {
                assert_eq!(x.len(), 7 * m);
                x.fill(f16::from_f32(filled as f32));
                filled += 1;
            });
            assert_eq!((filled, operands.x.len()), (slots, length));
            for slot in 0..slots {
                assert!(operands.tokens(slot)[1].x.iter().all(|&x| x.to_f32() == slot as f32));
            }
        }
    }

    #[test]
    fn a_call_runs_on_its_slot_with_its_weights() {
        for (cache, weights) in [(Cache::Cold, [0, 2, 1]), (Cache::WarmW, [0, 0, 0])] {
            let operands = Rc::new(RefCell::new(operands(2, 3)));
            let seen = Rc::new(RefCell::new(Vec::new()));
            let log = Rc::clone(&seen);
            let mut call = on_host(&operands, cache, Layout::ColumnMajor, move |weights, tokens| {
                log.borrow_mut().push(weights);
                tokens[0].y[1] = tokens[0].x[[0, 0]] + f16::ONE;
                Ok(())
            });
            call.poison().unwrap();
            for slot in [0, 2, 1] {
                call.call(slot).unwrap();
            }
            assert_eq!(*seen.borrow(), weights);
            let y = call.output().unwrap().remove(0);
            assert_eq!(y[[1, 0]], 1.0, "the second element is in the second row: columns follow each other");
            assert_eq!(y.iter().filter(|y| y.is_nan()).count(), 3);
        }
    }
}

//! Libraries on the CPU: the base product, and base, shrink and expand as three calls.
//!
//! They get the operands as a user has them (W is [N, K], y is [M, N]) and all threads, in f16, bf16 or f32,
//! as far as they know these types.

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora_benches::executor::LinearSetup;
use fused_lora_benches::linear::weights::SCALE;
use fused_lora_benches::linear::{Library, theirs, this_library};
use fused_lora_benches::number::Number;
use fused_lora_benches::operands::{Layout, on_host};
use fused_lora_benches::processor::Processor;
use gemmkit::{
    GemmScalar, MatMut, MatRef, PackedRhs, Parallelism, Workspace, gemm_packed_b_with, gemm_with, prepack_rhs,
};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, ShapeBuilder as _};

use crate::weights::{Kept, Weights, weights};

type In<'a, T> = ArrayView2<'a, T>;
type Out<'a, T> = ArrayViewMut2<'a, T>;
type Shared<T> = Rc<Array2<T>>;

/// An element type that other libraries know: `gemmkit` each.
pub trait Peer: Number + GemmScalar {
    /// Whether `gemm` knows it.
    const HAS_GEMM: bool;
}

impl Peer for f16 {
    const HAS_GEMM: bool = true;
}

impl Peer for bf16 {
    const HAS_GEMM: bool = false;
}

impl Peer for f32 {
    const HAS_GEMM: bool = true;
}

/// out ← alpha · x · wᵀ + beta · out, with W, A or B as the library takes them; beta = 0 does not read `out`.
type Product<T, W> = fn(&mut Workspace, T, In<'_, T>, &W, T, Out<'_, T>);

/// All that run in `peers`, this library first.
#[must_use]
pub fn libraries<T: Peer>() -> Vec<Library<Processor<T>>> {
    let fused = |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused] } };
    let packed = |w: &Shared<T>| Rc::new(prepack_rhs(operand(w.t())));
    let mut libraries = vec![this_library("fused-lora/", fused)];
    if T::HAS_GEMM {
        libraries.push(library(format!("gemm-{}", T::DTYPE), Layout::RowMajor, Rc::clone, gemm));
    }
    let name = format!("gemmkit-{}", T::DTYPE);
    libraries.push(library(name.clone(), Layout::RowMajor, Rc::clone, gemmkit));
    libraries.push(library(format!("{name}-packed"), Layout::ColumnMajor, packed, gemmkit_packed));
    libraries
}

/// The library of that name, which wants y and h to lie in memory so. Clones of its weights share the matrix.
fn library<T: Peer, W: Clone + 'static>(
    name: String,
    layout: Layout,
    take: fn(&Shared<T>) -> W,
    product: Product<T, W>,
) -> Library<Processor<T>> {
    fn matrix<T>(layout: Layout, rows: usize, columns: usize, elements: &mut [T]) -> Out<'_, T> {
        let shape = (rows, columns).set_f(layout == Layout::ColumnMajor);
        Out::from_shape(shape, elements).expect("as many elements as the matrix has")
    }
    let kept: Kept<W> = Kept::default();
    let make = move |setup: &LinearSetup<Processor<T>>, strategy, rank| {
        let slots = weights(
            &kept,
            setup.weights.slots(setup.weight_slots),
            (strategy != Strategy::Base).then_some(rank),
            |w| Ok(take(w)),
            |lora| Ok((take(&lora.a), take(&lora.b))),
        )?;
        let (mut workspace, mut h) = (Workspace::new(), Vec::new());
        let [zero, one, scale] = [0.0, 1.0, SCALE].map(T::from_f32);
        Ok(on_host(&setup.operands, setup.cache, layout, move |slot, tokens| {
            for (Weights { n, w, adapter, .. }, tokens) in slots[slot].iter().zip(tokens) {
                let (x, m) = (tokens.x, tokens.x.nrows());
                product(&mut workspace, one, x, w, zero, matrix(layout, m, *n, tokens.y));
                let Some((a, b)) = adapter else { continue };
                h.resize(m * rank, zero);
                product(&mut workspace, scale, x, a, zero, matrix(layout, m, rank, &mut h));
                let h = matrix(layout, m, rank, &mut h);
                product(&mut workspace, one, h.view(), b, one, matrix(layout, m, *n, tokens.y));
            }
            Ok(())
        }))
    };
    Library {
        name: Box::new(move |strategy| format!("{name}/{strategy}")),
        strategies: theirs,
        make: Box::new(make),
    }
}

/// The crate `gemm`: operands packed anew in each call.
fn gemm<T: Peer>(_: &mut Workspace, alpha: T, x: In<'_, T>, w: &Shared<T>, beta: T, mut out: Out<'_, T>) {
    let ((m, k), n) = (x.dim(), w.nrows());
    assert_eq!((out.dim(), w.ncols()), ((m, n), k));
    let [(out_rs, out_cs), (x_rs, x_cs), (w_rs, w_cs)] =
        [out.strides(), x.strides(), w.strides()].map(|strides| (strides[0], strides[1]));
    // SAFETY: pointers and strides are those of views, whose shapes were compared; `out` is borrowed mutably,
    // so it is neither x nor w. wᵀ has the strides of w, swapped.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            out_cs,
            out_rs,
            beta != T::from_f32(0.0),
            x.as_ptr(),
            x_cs,
            x_rs,
            w.as_ptr(),
            w_rs,
            w_cs,
            beta,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// The crate `gemmkit`: f32 sums, operands packed anew in each call.
fn gemmkit<T: Peer>(
    workspace: &mut Workspace,
    alpha: T,
    x: In<'_, T>,
    w: &Shared<T>,
    beta: T,
    out: Out<'_, T>,
) {
    let threads = Parallelism::Rayon(0);
    gemm_with(workspace, alpha, operand(x), operand(w.t()), beta, output(out), threads);
}

/// The crate `gemmkit` with W, A and B packed once.
///
/// Its prepacked right operand demands an output in column order, so y is written as [N, M] in memory: what a
/// user of it would have to accept, and no disadvantage to it.
fn gemmkit_packed<T: Peer>(
    workspace: &mut Workspace,
    alpha: T,
    x: In<'_, T>,
    w: &Rc<PackedRhs<T>>,
    beta: T,
    out: Out<'_, T>,
) {
    gemm_packed_b_with(workspace, alpha, operand(x), w, beta, output(out), Parallelism::Rayon(0));
}

/// An input of `gemmkit`, as it lies.
fn operand<T>(matrix: In<'_, T>) -> MatRef<'_, T> {
    let elements = matrix.to_slice_memory_order().expect("operands have no gaps");
    MatRef::new(elements, matrix.nrows(), matrix.ncols(), matrix.strides()[0], matrix.strides()[1])
}

/// Its output, as it lies.
fn output<T>(matrix: Out<'_, T>) -> MatMut<'_, T> {
    let ((rows, columns), row, column) = (matrix.dim(), matrix.strides()[0], matrix.strides()[1]);
    let elements = matrix.into_slice_memory_order().expect("outputs have no gaps");
    MatMut::new(elements, rows, columns, row, column)
}

#[cfg(test)]
mod tests {
    use fused_lora::cpu::Simd;
    use fused_lora_benches::check::{Wrong, check};
    use fused_lora_benches::linear::Linears;
    use fused_lora_benches::method::{Suite as _, Task};
    use fused_lora_benches::settings::Settings;
    use fused_lora_benches::size::Size;
    use fused_lora_records::Workload;

    use super::*;

    /// A peer may sum less exactly than the rule allows, but it must compute the same thing: a wrong operand,
    /// a missing scale or a swapped stride is off by orders of magnitude.
    #[test]
    fn peers_compute_the_operation() {
        of::<f16>("gemm-f16 gemmkit-f16 gemmkit-f16-packed");
        of::<bf16>("gemmkit-bf16 gemmkit-bf16-packed");
        of::<f32>("gemm-f32 gemmkit-f32 gemmkit-f32-packed");
    }

    fn of<T: Peer>(peers: &str) {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let processor = Processor::new(Simd::detect().unwrap(), 0);
        let settings = Settings { workload, dtype: T::DTYPE, ..Settings::default() };
        let mut cpu = Linears::new(processor, &settings, libraries::<T>(), None);
        let size = Size { seq_len: 9, batch: 1 };
        let mut methods = cpu.methods(size);
        methods.retain(|method| method.rank <= 10 && matches!(method.task, Task::Linear(..)));
        let names: Vec<&str> = methods.iter().map(|method| method.names[0].as_str()).collect();
        let all = |own: &str, theirs: &str| {
            let theirs = peers.split(' ').map(|peer| format!("{peer}/{theirs}"));
            [format!("fused-lora/{own}")].into_iter().chain(theirs).collect::<Vec<_>>()
        };
        assert_eq!(names, [all("base", "base"), all("fused", "unfused")].concat());
        let mut calls = cpu.prepare(size, 2, &methods).unwrap();
        for (method, call) in methods.iter().zip(&mut calls) {
            let call = call.as_mut().unwrap();
            // Another slot in between: what is kept from call to call must not be that of the first.
            call.call(1).unwrap();
            let expected = cpu.expected(size, method).unwrap();
            match check(method, &mut **call, &expected) {
                Ok(()) => (),
                Err(Wrong::Mismatch { deviation, .. }) if !method.is_ours() => {
                    println!("{}: {deviation:?}", method.names[0]);
                    assert!(deviation.norm < 3.0, "{}: {deviation:?}", method.names[0]);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

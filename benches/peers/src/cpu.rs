//! Libraries on the CPU: the base product, and base, shrink and expand as three calls.
//!
//! They get the operands as a user has them (W is [N, K], y is [M, N]) and all threads.

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora_benches::executor::LinearSetup;
use fused_lora_benches::linear::weights::SCALE;
use fused_lora_benches::linear::{Library, theirs, this_library};
use fused_lora_benches::operands::{Layout, on_host};
use fused_lora_benches::processor::Processor;
use gemmkit::{
    MatMut, MatRef, PackedRhs, Parallelism, Workspace, gemm_packed_b_with, gemm_with, prepack_rhs,
};
use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, ShapeBuilder as _};

use crate::weights::{Kept, Weights, weights};

type In<'a> = ArrayView2<'a, f16>;
type Out<'a> = ArrayViewMut2<'a, f16>;
type Shared = Rc<Array2<f16>>;

/// out ← alpha · x · wᵀ + beta · out, with W, A or B as the library takes them; beta = 0 does not read `out`.
type Product<W> = fn(&mut Workspace, f16, In<'_>, &W, f16, Out<'_>);

/// All that run in `peers`, this library first.
#[must_use]
pub fn libraries() -> Vec<Library<Processor>> {
    let fused = |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused] } };
    let packed = |w: &Shared| Rc::new(prepack_rhs(operand(w.t())));
    vec![
        this_library("fused-lora/", fused),
        library("gemm-f16", Layout::RowMajor, Rc::clone, gemm),
        library("gemmkit-f16", Layout::RowMajor, Rc::clone, gemmkit),
        library("gemmkit-f16-packed", Layout::ColumnMajor, packed, gemmkit_packed),
    ]
}

/// The library of that name, which wants y and h to lie in memory so. Clones of its weights share the matrix.
fn library<W: Clone + 'static>(
    name: &'static str,
    layout: Layout,
    take: fn(&Shared) -> W,
    product: Product<W>,
) -> Library<Processor> {
    fn matrix(layout: Layout, rows: usize, columns: usize, elements: &mut [f16]) -> Out<'_> {
        let shape = (rows, columns).set_f(layout == Layout::ColumnMajor);
        Out::from_shape(shape, elements).expect("as many elements as the matrix has")
    }
    let kept: Kept<W> = Kept::default();
    let make = move |setup: &LinearSetup<Processor>, strategy, rank| {
        let slots = weights(
            &kept,
            setup.weights.slots(setup.weight_slots),
            (strategy != Strategy::Base).then_some(rank),
            |w| Ok(take(w)),
            |lora| Ok((take(&lora.a), take(&lora.b))),
        )?;
        let (mut workspace, mut h) = (Workspace::new(), Vec::new());
        let [zero, one, scale] = [0.0, 1.0, SCALE].map(f16::from_f32);
        Ok(on_host(&setup.operands, setup.cache, layout, move |slot, tokens| {
            for (Weights { n, w, adapter, .. }, tokens) in slots[slot].iter().zip(tokens) {
                let (x, m) = (tokens.x, tokens.x.nrows());
                product(&mut workspace, one, x, w, zero, matrix(layout, m, *n, tokens.y));
                let Some((a, b)) = adapter else { continue };
                h.resize(m * rank, f16::ZERO);
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

/// The crate `gemm`: f16 in and out, operands packed anew in each call.
fn gemm(_: &mut Workspace, alpha: f16, x: In<'_>, w: &Shared, beta: f16, mut out: Out<'_>) {
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
            beta != f16::ZERO,
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

/// The crate `gemmkit`: f16 in and out with f32 sums, operands packed anew in each call.
fn gemmkit(workspace: &mut Workspace, alpha: f16, x: In<'_>, w: &Shared, beta: f16, out: Out<'_>) {
    let threads = Parallelism::Rayon(0);
    gemm_with(workspace, alpha, operand(x), operand(w.t()), beta, output(out), threads);
}

/// The crate `gemmkit` with W, A and B packed once.
///
/// Its prepacked right operand demands an output in column order, so y is written as [N, M] in memory: what a
/// user of it would have to accept, and no disadvantage to it.
fn gemmkit_packed(
    workspace: &mut Workspace,
    alpha: f16,
    x: In<'_>,
    w: &Rc<PackedRhs<f16>>,
    beta: f16,
    out: Out<'_>,
) {
    gemm_packed_b_with(workspace, alpha, operand(x), w, beta, output(out), Parallelism::Rayon(0));
}

/// An input of `gemmkit`, as it lies.
fn operand(matrix: In<'_>) -> MatRef<'_, f16> {
    let elements = matrix.to_slice_memory_order().expect("operands have no gaps");
    MatRef::new(elements, matrix.nrows(), matrix.ncols(), matrix.strides()[0], matrix.strides()[1])
}

/// Its output, as it lies.
fn output(matrix: Out<'_>) -> MatMut<'_, f16> {
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
    use fused_lora_benches::settings::Cache;
    use fused_lora_benches::size::Size;
    use fused_lora_records::Workload;

    use super::*;

    /// A peer may sum less exactly than the rule allows, but it must compute the same thing: a wrong operand,
    /// a missing scale or a swapped stride is off by orders of magnitude.
    #[test]
    fn peers_compute_the_operation() {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let processor = Processor::new(Simd::detect().unwrap(), 0);
        let mut cpu = Linears::new(processor, workload, Cache::Cold, libraries(), None);
        let size = Size { seq_len: 9, batch: 1 };
        let mut methods = cpu.methods(size);
        methods.retain(|method| method.rank <= 10 && matches!(method.task, Task::Linear(..)));
        let names: Vec<&str> = methods.iter().map(|method| method.names[0].as_str()).collect();
        assert_eq!(
            names.join(" "),
            "fused-lora/base gemm-f16/base gemmkit-f16/base gemmkit-f16-packed/base \
             fused-lora/fused gemm-f16/unfused gemmkit-f16/unfused gemmkit-f16-packed/unfused"
        );
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

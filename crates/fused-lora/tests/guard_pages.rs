//! x and y lie against a page that nobody may touch, before or behind: one element too far is a fault.

#![cfg(unix)]

mod common;

use common::{Operands, normal, poison, rng};
use fused_lora::{
    AdapterElement, Element, Residual, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, ShapeBuilder};

/// A matrix between two forbidden pages, its first or its last element flush with one of them.
struct Guarded<T> {
    map: *mut libc::c_void,
    length: usize,
    matrix: *mut T,
    dim: (usize, usize),
    ld: usize,
}

#[derive(Clone, Copy)]
enum Flush {
    Front,
    Back,
}

impl<T> Guarded<T> {
    fn new(dim: (usize, usize), gap: usize, flush: Flush) -> Self {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let ld = dim.1 + gap;
        let bytes = ((dim.0 - 1) * ld + dim.1) * size_of::<T>();
        let body = bytes.next_multiple_of(page);
        let length = body + 2 * page;
        // SAFETY: an anonymous mapping at no fixed address, of which the body is opened; `matrix` lies in the
        // body.
        unsafe {
            let map = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let open = map.byte_add(page);
            assert_eq!(libc::mprotect(open, body, libc::PROT_READ | libc::PROT_WRITE), 0);
            let offset = match flush {
                Flush::Front => 0,
                Flush::Back => body - bytes,
            };
            Self { map, length, matrix: open.byte_add(offset).cast(), dim, ld }
        }
    }

    fn view_mut(&mut self) -> ArrayViewMut2<'_, T> {
        // SAFETY: the mapping holds that many elements, zero at first, and is borrowed for as long as the
        // view.
        unsafe { ArrayViewMut2::from_shape_ptr(self.dim.strides((self.ld, 1)), self.matrix) }
    }

    fn view(&self) -> ArrayView2<'_, T> {
        // SAFETY: as above.
        unsafe { ArrayView2::from_shape_ptr(self.dim.strides((self.ld, 1)), self.matrix) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; views of it borrow self.
        assert_eq!(unsafe { libc::munmap(self.map, self.length) }, 0);
    }
}

#[test]
fn nothing_is_touched_beyond_x_and_y() {
    untouched::<f16>();
    untouched::<bf16>();
    untouched::<f32>();
}

fn untouched<T: Element + AdapterElement<T>>() {
    for [m, n, k] in [[1, 1, 1], [1, 49, 7], [7, 17, 9], [9, 47, 15], [67, 97, 31], [70, 33, 1030]] {
        let operands = Operands::<T>::random(1, m, n, k, 5);
        for simd in Simd::available() {
            let adapter = Adapter::with_simd(simd, operands.a.view(), operands.b.view(), 1.0).unwrap();
            let layer = Layer::with_simd(simd, operands.w.view()).unwrap().with_adapter(adapter).unwrap();
            for strategy in Strategy::ALL {
                let residual = normal(&mut rng(2), m, n, 1.0);
                let with_residual =
                    |x: ArrayView2<'_, T>, residual: Residual<ArrayView2<'_, T>>, y: ArrayViewMut2<'_, T>| {
                        layer
                            .call(x)
                            .residual(residual)
                            .strategy(strategy)
                            .run(y, &mut Workspace::new())
                            .unwrap();
                    };
                let mut expected = Array2::from_elem((m, n), poison());
                layer
                    .call(operands.x.view())
                    .strategy(strategy)
                    .run(expected.view_mut(), &mut Workspace::new())
                    .unwrap();
                let mut expected_sum = Array2::from_elem((m, n), poison());
                with_residual(operands.x.view(), Residual::Matrix(residual.view()), expected_sum.view_mut());
                for (flush, gap) in [(Flush::Front, 0), (Flush::Back, 0), (Flush::Front, 3), (Flush::Back, 3)]
                {
                    let (mut x, mut y) = (Guarded::new((m, k), gap, flush), Guarded::new((m, n), gap, flush));
                    x.view_mut().assign(&operands.x);
                    layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut Workspace::new()).unwrap();
                    assert_eq!(
                        y.view(),
                        expected,
                        "{} {simd} {strategy} m {m} n {n} k {k} gap {gap}",
                        T::DTYPE
                    );
                    // The residual in y, and in a matrix of its own.
                    y.view_mut().assign(&residual);
                    with_residual(x.view(), Residual::Output, y.view_mut());
                    assert_eq!(
                        y.view(),
                        expected_sum,
                        "{} {simd} {strategy} m {m} n {n} k {k} gap {gap}",
                        T::DTYPE
                    );
                    let mut apart = Guarded::new((m, n), gap, flush);
                    apart.view_mut().assign(&residual);
                    with_residual(x.view(), Residual::Matrix(apart.view()), y.view_mut());
                    assert_eq!(
                        y.view(),
                        expected_sum,
                        "{} {simd} {strategy} m {m} n {n} k {k} gap {gap}",
                        T::DTYPE
                    );
                }
            }
        }
    }
}

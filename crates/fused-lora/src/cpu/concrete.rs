//! From code that is generic over the element type to functions of one type. The kernels are then compiled once,
//! into this library, and not again into each crate that calls it.

use ndarray::ArrayView2;

use crate::element::Element;

/// A view whose elements turn out to be `C`.
///
/// # Panics
///
/// They are not.
pub(crate) fn view<T: Element, C: Element>(view: ArrayView2<'_, T>) -> ArrayView2<'_, C> {
    assert_eq!(T::DTYPE, C::DTYPE);
    // SAFETY: both are the type of this DTYPE, of which there is one: `Element` is sealed.
    unsafe { view.raw_view().cast::<C>().deref_into_view() }
}

/// A value of a type that is generic over its elements, `Of<T>`, as `Of<C>`.
///
/// # Safety
///
/// `A` is `Of<T>` and `B` is `Of<C>` of the same generic type, with the same lifetimes.
///
/// # Panics
///
/// T is not C.
pub(crate) unsafe fn same<T: Element, C: Element, A, B>(value: &A) -> &B {
    assert_eq!(T::DTYPE, C::DTYPE);
    // SAFETY: T is C, as above, so A is B by the caller's contract.
    unsafe { &*std::ptr::from_ref(value).cast() }
}

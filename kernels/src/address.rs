//! Addresses in global memory, as parameters carry them.

use core::{fmt, marker::PhantomData};

/// The address of a `T` in global memory: a number that only the instructions of `device` follow. Null means
/// that the operand is not there.
///
/// On the host it is a device address and nothing can be done with it but pass it on.
#[repr(transparent)]
pub struct Global<T> {
    address: u64,
    marker: PhantomData<*const T>,
}

impl<T> Clone for Global<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Global<T> {}
// SAFETY: it is a number; what is behind it is touched by device instructions alone, whose callers answer for
// ordering.
unsafe impl<T> Send for Global<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Global<T> {}

impl<T> fmt::Debug for Global<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)
    }
}

impl<T> Default for Global<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> Global<T> {
    /// No operand.
    pub const NULL: Self = Self::from_address(0);

    /// From a device address.
    #[must_use]
    pub const fn from_address(address: u64) -> Self {
        Self { address, marker: PhantomData }
    }

    /// The device address.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Whether there is no operand.
    #[inline(always)]
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The address `elements` further. Wraps: nothing is checked before it is followed.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self, elements: u64) -> Self {
        Self::from_address(self.address.wrapping_add(elements.wrapping_mul(size_of::<T>() as u64)))
    }

    /// The same address as that of another type.
    #[inline(always)]
    #[must_use]
    pub const fn cast<U>(self) -> Global<U> {
        Global::from_address(self.address)
    }
}

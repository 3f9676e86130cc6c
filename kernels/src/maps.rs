//! Where the tensor maps of a launch are: among its parameters, by address.

use core::mem::offset_of;

use crate::tensor_map::TensorMaps;

/// The address of a map, generic, in the memory of parameters.
#[derive(Clone, Copy)]
pub struct TensorMapRef(u64);

impl TensorMapRef {
    /// As the instructions want it.
    #[inline(always)]
    pub(crate) const fn address(self) -> u64 {
        self.0
    }
}

/// The address of all maps of a launch.
#[derive(Clone, Copy)]
pub struct Maps(u64);

impl Maps {
    /// Those at the start of the entry's parameters.
    ///
    /// # Safety
    ///
    /// `address` is that of a [`TensorParams`](crate::tensor_map::TensorParams) in the memory of parameters,
    /// as a generic address.
    #[inline(always)]
    pub(crate) const unsafe fn at(address: u64) -> Self {
        Self(address)
    }
}

macro_rules! maps {
    ($($name:ident)*) => {
        impl Maps {
            $(
                #[inline(always)]
                pub(crate) const fn $name(self) -> TensorMapRef {
                    TensorMapRef(self.0 + offset_of!(TensorMaps, $name) as u64)
                }
            )*
        }
    };
}
maps! { x w y a b h }

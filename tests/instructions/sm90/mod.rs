//! Instructions of compute capability 9.0. Section and figure numbers are those of the PTX ISA manual,
//! version 9.0.

mod clusters;
mod dependents;
pub(crate) mod driver;
mod faults;
mod matrices;
mod mbarriers;
mod products;
mod registers;
pub(crate) mod swizzle;
mod tensor_copies;

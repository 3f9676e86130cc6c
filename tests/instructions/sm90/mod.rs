//! Instructions of compute capability 9.0. Section and figure numbers are those of the PTX ISA manual, version 9.0.

mod clusters;
mod dependents;
mod device;
mod driver;
mod faults;
mod launch;
mod matrices;
mod mbarriers;
mod products;
mod registers;
mod strict;
mod swizzle;
mod tensor_copies;

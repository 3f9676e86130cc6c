//! Every instruction of `kernels/src/device`, alone: what it gives must be what the PTX manual says, on the
//! strict machine, and bit for bit the same on a GPU where there is one. (Sums of tensor cores and
//! approximations by a bound: the manual leaves their rounding open. Which NaN a conversion gives, too.)
//!
//! Those of compute capability 9.0 alone are in `sm90`.
//!
//! Expected values are formulas from the manual, written here once more, without the machine or `half`.
//!
//! ```text
//! cargo test -p fused-lora-tests --test instructions -- --nocapture    # says which device was found
//! FUSED_LORA_REQUIRE_DEVICE=1 ...                                      # no device is a failure
//! ```

mod approximations;
mod barriers;
mod completeness;
mod conversions;
mod copies;
mod device;
mod entry;
mod inputs;
mod launch;
mod matrices;
mod memory;
mod order;
mod registers;
mod shuffles;
mod sm90;
mod strict;

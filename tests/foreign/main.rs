//! PTX of other compilers on the strict machine: each kernel is right and nothing is reported, each negative
//! control fails.
//!
//! ```text
//! cargo test -p fused-lora-tests --test foreign                           # one kernel of each family
//! FUSED_LORA_FOREIGN=all cargo test -p fused-lora-tests --test foreign    # all of it
//! FUSED_LORA_FOREIGN=lora,softmax cargo test …    # kernels whose names contain one of these
//! ```
//!
//! | file | what |
//! |---|---|
//! | `manifest.rs` | `manifest.json`, read |
//! | `values.rs`, `operands.rs` | elements and arrays |
//! | `reference.rs` | what the operations compute, in f64 |
//! | `subject.rs` | a kernel in a machine |
//! | `selection.rs` | which kernels and negative controls are run |
//! | `forbidden.rs` | what these compilers do that the strict reading forbids |
//! | `suite.rs` | the tests |

mod forbidden;
mod manifest;
mod operands;
mod reference;
mod selection;
mod subject;
mod suite;
mod values;

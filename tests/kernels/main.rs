//! GPU kernels, their PTX as it ships on the strict machine, held to the reference.
//!
//! Every case checks twice: the machine that nothing was left to chance (races, memory nobody wrote, waits
//! too short, deadlocks), the reference that the numbers are right. Kernels come from their table, so that a
//! new one is tested by itself. y and h are poisoned before every launch; counters are held to zero after it.
//!
//! ```text
//! cargo test -p fused-lora-tests --test kernels
//! FUSED_LORA_SCHEDULES=20 cargo test --release -p fused-lora-tests --test kernels   # the larger set
//! ```
//!
//! | file | what |
//! |---|---|
//! | `case.rs`, `operands.rs` | a product; its matrices and tables |
//! | `setup.rs`, `maps.rs`, `check.rs` | it in a machine's memory, launches, tensor maps; what is expected |
//! | `suite.rs`, `tried.rs` | cases × kernels × schedules; what they have tried of the PTX |
//! | `tails.rs` | M, N, K and r around the sizes of tiles |
//! | `strides.rs` | leading dimensions, unaligned operands, bias, residual |
//! | `epilogues.rs` | activation, two residuals; GELU against f64 |
//! | `segments.rs` | adapter tables |
//! | `rings.rs` | K of more steps than a ring has slots |
//! | `planned.rs` | what the planner picks for the published grids, at its true K |
//! | `coverage.rs` | that every instruction, loop and wait of the shipped PTX is executed |
//! | `grids.rs` | groups of row tiles, numbers of CTAs |
//! | `values.rs` | NaN, infinities, overflow |
//! | `dependent.rs` | a launch that begins before the one ahead has ended |
//! | `workspace.rs` | one workspace for many launches, two streams, launches that were aborted |
//! | `cost.rs` | how many `mma` a launch executes |
//! | `unfused.rs` | base, shrink and expand one after another |
//! | `random.rs` | random cases |
//! | `faults.rs` | seeded faults |
//! | `attention.rs`, `layer_norm.rs`, `layer.rs` | the kernels that are no products; what their tests share |
//! | `layer_faults.rs` | seeded faults in those |

mod attention;
mod case;
mod check;
mod cost;
mod coverage;
mod dependent;
mod epilogues;
mod faults;
mod grids;
mod layer;
mod layer_faults;
mod layer_norm;
mod maps;
mod operands;
mod planned;
mod random;
mod rings;
mod segments;
mod setup;
mod strides;
mod suite;
mod tails;
mod tried;
mod unfused;
mod values;
mod workspace;

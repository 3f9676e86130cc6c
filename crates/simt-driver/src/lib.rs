//! A CUDA driver without a GPU: a `libcuda` whose device memory lies on the strict machine of
//! `fused-lora-simt`, and whose kernel launches run PTX there, lane by lane.
//!
//! For tests. Library, command line, tests and benches run their CUDA code end to end, through the same
//! binaries as with a GPU, on a machine without one. Results are exact; time means nothing.
//!
//! # Using it
//!
//! `fused-lora` loads the driver that `FUSED_LORA_LIBCUDA` names; so does `fused-lora-libcuda`, for `cust`:
//!
//! ```text
//! cargo build -p fused-lora-simt-driver        # after every change: `cargo test` does not renew this file
//! FUSED_LORA_LIBCUDA=$PWD/target/debug/libfused_lora_simt_driver.so cargo test -p fused-lora
//! ```
//!
//! The path is absolute since Cargo runs tests in the folder of their package. The variables below are read
//! at the first call of a process. A value that cannot be understood is named on standard error, and every
//! call fails with `CUDA_ERROR_UNKNOWN`.
//!
//! | variable | what | without it |
//! |---|---|---|
//! | `FUSED_LORA_SIMT_SEED` | of all random choices; run n of the process takes seed + n | 0 |
//! | `FUSED_LORA_SIMT_SLOTS` | how many CTAs are resident at a time | drawn for each run |
//! | `FUSED_LORA_SIMT_CAPABILITY` | compute capability, with its limits | 8.0 |
//! | `FUSED_LORA_SIMT_DRIVER_VERSION` | of CUDA; PTX newer than it knows is rejected | 12.4 |
//! | `FUSED_LORA_SIMT_DEVICES` | how many devices, all alike; with 0 `cuInit` finds none | 1 |
//! | `FUSED_LORA_SIMT_MEMORY` | bytes of a device | 2 GiB |
//! | `FUSED_LORA_SIMT_MULTIPROCESSORS` | of a device; few: kernels must persist | 4; from 9.0 on 8 |
//! | `FUSED_LORA_SIMT_SHARED` | bytes of shared memory that a CTA can opt in to | the capability's |
//! | `FUSED_LORA_SIMT_FAIL` | failures, see below | none |
//! | `FUSED_LORA_SIMT_BROKEN` | kernels that fail when they run, see below | none |
//! | `FUSED_LORA_SIMT_ALLOW` | what is not reported of others' kernels, see below | nothing |
//! | `FUSED_LORA_SIMT_TRACE` | 1 writes a line for each run to standard error | 0 |
//!
//! `FUSED_LORA_SIMT_FAIL` is a list by commas of `function:code`, where the function, with or without its
//! `_v2`, then returns that `CUresult` and does nothing, or `function:code@n` for its n-th call alone:
//! `cuMemAlloc:2@3` is a device whose memory is full at the third allocation. `FUSED_LORA_SIMT_BROKEN` is a
//! list by commas of `entry:fault`, which breaks the context when it runs, or `entry:hang`, which never ends.
//!
//! `FUSED_LORA_SIMT_ALLOW` is a list by commas of what the manual forbids and GPUs do not mind
//! (`tests/foreign/forbidden.rs` has the reasons). A run that needed any of it says so on standard error,
//! with how often.
//!
//! | name | what |
//! |---|---|
//! | `unfenced-init` | a tensor copy signals an mbarrier whose initialisation is not fenced (Triton) |
//! | `equal-stores` | lanes store the same to the same bytes of shared memory, without an order (Triton) |
//! | `concurrent-stores` | likewise what is not the same, but any of it does (Triton: sums) |
//! | `repeated-tensor-stores` | lanes of a CTA issue one tensor store, without an order (Triton, CuTe DSL) |
//! | `setmaxnreg-apart` | warps of a warpgroup execute `setmaxnreg` at several places (Gluon) |
//! | `first-of-pair` | an arrival at another CTA, at an own address with bit 24 cleared (Gluon) |
//! | `wide-parity` | a parity to wait for of which only the lowest bit counts (Triton) |
//!
//! # What makes it strict
//!
//! - *Device memory* starts poisoned, allocations are exact, addresses are never given twice. Reading what
//!   nobody wrote is a fault, for copies as for kernels.
//! - *Faults*: a report of the machine (race, poison, deadlock, bounds, …) is written to standard error in
//!   full. What waits for the work returns `CUDA_ERROR_ILLEGAL_ADDRESS` for an access out of bounds or a read
//!   of freed memory, `CUDA_ERROR_MISALIGNED_ADDRESS`, or `CUDA_ERROR_LAUNCH_FAILED` for the rest; and so
//!   does everything after, until the process ends.
//! - *Work is done as late as it may be*: when somebody waits for it, and no more than that. A host that
//!   forgets to wait reads what was there before. Host memory is read at the call, and a copy to it is waited
//!   for.
//! - *Streams* are ordered by events and the rules of the default stream alone. Launches that nothing orders
//!   run beside each other on the machine, which finds their races.
//! - *Programmatic launches* run beside the launch before them in their stream, or in their graph, if nothing
//!   lies between, and `griddepcontrol.wait` alone orders them: a kernel that does not wait races.
//! - *Capture* forbids what the driver's does, and one spoilt gives no graph. Graphs run their operations
//!   anew at every launch.
//! - *Launches* are checked against shared memory as opted in to, and against the launch bounds in the PTX. A
//!   cluster must fit the device. What a launch attribute asks for is done or is an error:
//!   `CUDA_ERROR_NOT_SUPPORTED` for those that are not here, and for all on a device that has no clusters.
//! - *Tensor maps* are of f16 in two dimensions, checked as the manual has it. What they hold is the
//!   machine's own: a map that was changed, or made elsewhere, is a fault of the launch that uses it.
//! - *Modules* are PTX: what is in the text is what runs. It is checked for its target (`sm_90a` is for
//!   compute capability 9.0 alone) and its version, and refused where the machine does not know an
//!   instruction, by line, column and name. Cubins are refused.
//! - *Registers* of a lane are as many as the launch bounds leave, at most 255: the machine counts none.
//! - *Functions* that came with a later CUDA than `FUSED_LORA_SIMT_DRIVER_VERSION` return
//!   `CUDA_ERROR_NOT_FOUND`.
//!
//! # What it does not do
//!
//! - Functions that neither this workspace nor cudarc's basic use calls are not exported; to the loaders of
//!   both they are `CUDA_ERROR_NOT_FOUND`. Among them: queries, host functions, page-locked memory, arrays
//!   and textures, 2-D copies except asynchronous ones on the device, 3-D copies, unified and pooled memory,
//!   peers, linking, cooperative launches, graphs built by hand, fat binaries.
//! - A kernel's *write* to freed memory is not found, and freed memory is not given back to the host: the
//!   machine has no way to remove a region.
//! - A programmatic launch that waits is ordered after *all* launches before it in the run. So it is not
//!   found that a chain of three is only as safe as its second is: where that ends without waiting, the third
//!   may overlap the first on a GPU. At most eight launches of a run overlap the one before them; later ones
//!   wait.
//! - Races between a launch and a copy of another stream are not found: copies are done between runs.
//! - An allocation is at most 4 GiB.
//! - Several devices share one address space: a kernel on one that reads another's memory is not found.
//! - Copies and fills that the host asks for out of bounds return `CUDA_ERROR_INVALID_VALUE` and break
//!   nothing, as on a GPU, where the driver knows its allocations.
//! - Work that nobody waits for before the process ends is never done.
//!
//! # How it is built
//!
//! | module | job |
//! |---|---|
//! | `entry` | lock, checks and panics of every exported function |
//! | `api` | the exported functions, thin, by chapters of the manual |
//! | `driver` | the state, contexts, how work gets done |
//! | `work` | operations and what each comes after: which is done next, which launches run together |
//! | `stream`, `graph` | streams and events, captures and graphs |
//! | `order`, `capture` | what they make an operation come after |
//! | `memory` | device memory |
//! | `device`, `module` | limits and attributes, images |
//! | `kernel`, `launch_config` | entries of modules and their parameters, launch attributes |
//! | `config`, `allow`, `code`, `fault` | settings, what is not reported, `CUresult`, what a report becomes |
#![deny(missing_docs)]

mod allow;
mod api;
mod capture;
mod code;
mod config;
mod current;
mod device;
mod driver;
mod entry;
mod fault;
mod graph;
mod kernel;
mod launch_config;
mod memory;
mod module;
mod order;
mod stream;
mod work;

//! What the benches write and the figure reads: the grid, the workloads, and the record of one
//! measured cell with its CSV.
//!
//! This crate knows nothing of how a number was measured, nor of how it will be drawn. The CSV is the
//! only bridge between the two, so that a figure can be drawn from numbers of another machine, another
//! backend, or another program.
//!
//! # The file
//!
//! ```text
//! # fused-lora-records 2
//! run,workload,backend,device,…,commit,dirty,measured_at
//! 20260101-120000,linear-1024x1024,cpu,"Xeon, 2 cores",…,0123abc,false,2026-01-01T12:00:00.000Z
//! ```
//!
//! The first line names the version, the second the columns, which are the fields of [`Record`]. [`RunFile`]
//! replaces the whole file for each finished cell, so that a kill loses only the cell under way. [`read()`]
//! is strict, since a figure is drawn from what it returns: only a torn last line is let pass, with a
//! warning.
//!
//! Version 1 is read as well, also together with version 2, but no longer written. It lacks five columns,
//! which are taken to be:
//!
//! | column | in a record of version 1 |
//! |---|---|
//! | `dtype` | `f32` or `bf16` where the method begins with `torch-fp32/` or `torch-bf16/`, else `f16` |
//! | `adapters` | 1 |
//! | `limit_ns` | none |
//! | `repeated` | 0 |
//! | `ratio_by` | `wall` |
//!
//! ```
//! use std::path::Path;
//! use fused_lora_records::{COLUMNS, VERSION_LINE, Workload, grid, parse};
//!
//! let gpt2 = Workload::by_name("gpt2-medium-linears")?;
//! let floor = gpt2.floor_pct(250);
//! assert!((32.5..32.7).contains(&floor));
//! assert_eq!(grid().last().unwrap().to_string(), "seq512/batch32/r250");
//!
//! let file = format!("{VERSION_LINE}\n{}\nsome-run,linear-1024x1024,c", COLUMNS.join(","));
//! let found = parse(Path::new("some-run.csv"), file.as_bytes())?;
//! assert_eq!(found.warnings[0].to_string(), "some-run.csv:3: the last line is cut off and was dropped");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod error;
mod field;
mod format;
mod grid;
mod lock;
mod newest;
mod read;
mod record;
mod run_file;
mod timestamp;
mod version;
mod workload;

pub use error::{BadField, Fault, RecordError, VERSION_LINE};
pub use field::Clock;
pub use format::to_csv;
pub use grid::{BATCHES, Cell, DECODE_BATCHES, DECODE_RANKS, ParseShardError, RANKS, SEQ_LENS, Shard, grid};
pub use newest::newest;
pub use read::{Records, Warning, parse, read};
pub use record::{COLUMNS, Record};
pub use run_file::{MEASUREMENTS, MEASUREMENTS_HELP, MEASUREMENTS_VARIABLE, RunFile, workspace_root};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use workload::{Projection, UnknownWorkload, Workload};

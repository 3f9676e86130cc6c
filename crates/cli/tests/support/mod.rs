//! What the tests of the command share: the PEFT cases and files made by hand, as in the library's tests, and
//! the command itself.

#![allow(dead_code)] // Each test uses its own part of this.

pub(crate) mod command;
#[path = "../../../fused-lora/tests/support/mod.rs"]
mod files;

pub(crate) use files::*;

//! The exported functions, by the driver's chapters. What they do is documented by the *CUDA Driver API*
//! manual; comments here say where they do something else.
#![allow(non_snake_case, reason = "the driver's names")]

mod context;
mod copy;
mod device;
mod error;
mod event;
mod function;
mod graph;
mod launch;
mod memory;
mod module;
mod occupancy;
mod stream;
mod tensor_map;

//! From a launch of a plan to a call of the driver.

use std::{ffi::c_void, ptr};

use fused_lora_kernels::{
    params::Params,
    table::Target,
    tensor_map::{TensorMap, TensorMaps, TensorParams},
};

use super::{
    driver::{self, structures::RawTensorMap},
    error::Error,
};
use crate::plan::{
    self, Launch, Unaddressable,
    params::Operands,
    tensor_maps::{Boxed, boxes},
};

/// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16`
const FLOAT16: u32 = 6;
/// `CU_TENSOR_MAP_INTERLEAVE_NONE`
const NO_INTERLEAVE: u32 = 0;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_128B`: a row of a box is a line of L2.
const PROMOTION_128_BYTES: u32 = 2;
/// `CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE`: what lies outside is read as zero.
const FILL_ZERO: u32 = 0;

/// The single parameter of an entry.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack, for a launch")]
pub(super) enum Arguments {
    Params(Params),
    TensorParams(TensorParams),
}

impl Arguments {
    pub(super) fn as_ptr(&self) -> *const c_void {
        match self {
            Self::Params(params) => ptr::from_ref(params).cast(),
            Self::TensorParams(params) => ptr::from_ref(params).cast(),
        }
    }
}

/// The parameter of a launch of a call.
///
/// # Errors
///
/// [`plan::Error::TensorMap`]; none for operands that the plan took into account.
pub(super) fn arguments(operands: &Operands<'_>, launch: &Launch) -> Result<Arguments, Error> {
    let params = operands.params(launch.kernel);
    Ok(match launch.kernel.target {
        Target::Sm80 => Arguments::Params(params),
        Target::Sm90a => {
            Arguments::TensorParams(TensorParams { maps: tensor_maps(launch, &params)?, params })
        }
    })
}

/// The maps that a launch needs. Those of operands that its kernel does not read stay empty.
///
/// All are made for every launch: encoding one is arithmetic on the host, and x and y are the caller's in any
/// case. What is made is part of the launch's parameter, so a captured graph keeps it.
fn tensor_maps(launch: &Launch, params: &Params) -> Result<TensorMaps, Error> {
    let mut maps = TensorMaps::default();
    let all = [&mut maps.x, &mut maps.w, &mut maps.y, &mut maps.a, &mut maps.b, &mut maps.h];
    for (map, boxed) in all.into_iter().zip(boxes(launch.kernel, launch.cluster, params)) {
        if let Some(boxed) = boxed {
            *map = encode(&boxed)?;
        }
    }
    Ok(maps)
}

/// Checks what the copy engine demands, and asks the driver for the map.
fn encode(boxed: &Boxed) -> Result<TensorMap, Error> {
    boxed.check()?;
    let mut map = RawTensorMap::default();
    // SAFETY: `map` is writable, at a multiple of 64; dimensions, boxes and element strides are two each,
    // strides one less. The address is not dereferenced.
    let encoded = unsafe {
        driver::tensor_map_encode_tiled(
            &mut map,
            FLOAT16,
            2,
            boxed.address as *mut c_void,
            [boxed.columns, boxed.rows].map(u64::from).as_ptr(),
            [boxed.stride_bytes()].as_ptr(),
            [boxed.box_columns, boxed.box_rows].as_ptr(),
            [1, 1].as_ptr(),
            NO_INTERLEAVE,
            boxed.swizzle() as u32,
            PROMOTION_128_BYTES,
            FILL_ZERO,
        )
    };
    match encoded {
        Ok(()) => Ok(TensorMap(map.0)),
        Err(Error::Driver { code, text, .. }) => {
            let reason = Unaddressable::Refused { code, text };
            Err(plan::Error::TensorMap { operand: boxed.operand, reason }.into())
        }
        Err(error) => Err(error),
    }
}

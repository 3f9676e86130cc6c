//! Tensor maps.

use fused_lora_simt::{Swizzle, TensorMap};

use crate::{
    code::{Code, Outcome},
    entry::exports,
};

/// `CUtensorMap`: opaque to everybody but the driver and, here, the strict machine.
type Opaque = [u64; 16];

/// What the address of a `CUtensorMap` is a multiple of.
const ALIGN: usize = 64;

/// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16`, and the last data type.
const FLOAT16: u32 = 6;
const LAST_DATA_TYPE: u32 = 15;
/// Bytes of an f16.
const ELEMENT: u32 = 2;

/// The arguments of `cuTensorMapEncodeTiled` that are numbers.
#[derive(Clone, Copy)]
struct Kind {
    data_type: u32,
    rank: u32,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
}

type Checked<T> = Result<T, (Code, String)>;

impl Kind {
    /// Checks them; which swizzle it is.
    fn check(self) -> Checked<Swizzle> {
        let Self { data_type, rank, interleave, swizzle, l2_promotion, oob_fill } = self;
        let invalid = |what: &str, value: u32| Err((Code::INVALID_VALUE, format!("{what} {value}")));
        let not_here =
            |what: &str, value: u32| Err((Code::NOT_SUPPORTED, format!("{what} {value}: not here")));
        match data_type {
            FLOAT16 => {}
            _ if data_type <= LAST_DATA_TYPE => return not_here("data type", data_type),
            _ => return invalid("data type", data_type),
        }
        match rank {
            2 => {}
            1 | 3..=5 => return not_here("rank", rank),
            _ => return invalid("rank", rank),
        }
        // Any interleave wants three dimensions at least.
        if interleave != 0 {
            return invalid("in two dimensions, interleave", interleave);
        }
        if l2_promotion > 3 {
            return invalid("L2 promotion", l2_promotion);
        }
        match oob_fill {
            0 => {}
            1 => return not_here("out-of-bounds fill", oob_fill),
            _ => return invalid("out-of-bounds fill", oob_fill),
        }
        match swizzle {
            0 => Ok(Swizzle::None),
            1 => Ok(Swizzle::B32),
            2 => Ok(Swizzle::B64),
            3 => Ok(Swizzle::B128),
            4..=6 => not_here("swizzle", swizzle),
            _ => invalid("swizzle", swizzle),
        }
    }
}

/// Checks how a box is stepped through. Its columns always are one by one, whatever is asked for.
fn check_element_strides(strides: [u32; 2]) -> Checked<()> {
    if strides.iter().any(|stride| !(1..=8).contains(stride)) {
        return Err((Code::INVALID_VALUE, format!("element strides {strides:?}, of 1 to 8")));
    }
    if strides[1] != 1 {
        return Err((Code::NOT_SUPPORTED, format!("element strides {strides:?}: not here")));
    }
    Ok(())
}

/// Checks a map as the driver does.
fn check(map: &TensorMap) -> Checked<()> {
    let row = map.box_dims[0].saturating_mul(ELEMENT);
    // The driver takes rows that are shorter than the swizzle's, the machine does not know where they lie.
    let is_short =
        map.swizzle != Swizzle::None && row < map.swizzle.span() && row.is_multiple_of(16) && row > 0;
    map.check().map_err(|reason| (if is_short { Code::NOT_SUPPORTED } else { Code::INVALID_VALUE }, reason))
}

/// An array of two.
///
/// # Safety
///
/// `from` is null or valid for reads of two elements.
unsafe fn pair<T>(from: *const T) -> Outcome<[T; 2]> {
    if from.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller's, and it is not null.
    Ok(unsafe { from.cast::<[T; 2]>().read_unaligned() })
}

exports! {
    /// Matrices of f16, as [`TensorMap`] has them. Whether the matrix lies in an allocation is for the copies to find
    /// out, as on a GPU.
    fn cuTensorMapEncodeTiled(
        driver,
        to: *mut Opaque,
        data_type: u32,
        rank: u32,
        address: u64,
        dims: *const u64,
        strides: *const u64,
        box_dims: *const u32,
        element_strides: *const u32,
        interleave: u32,
        swizzle: u32,
        l2_promotion: u32,
        oob_fill: u32,
    ) needs Context {
        let reject = |(code, reason): (Code, String)| {
            eprintln!("fused-lora-simt-driver: no tensor map: {reason}");
            code
        };
        if !driver.device.has_clusters() {
            let (major, minor) = driver.device.capability;
            return Err(reject((Code::NOT_SUPPORTED, format!("compute capability {major}.{minor}"))));
        }
        if to.is_null() || !to.addr().is_multiple_of(ALIGN) {
            let reason = format!("to {:#x}, no multiple of {ALIGN}", to.addr());
            return Err(reject((Code::INVALID_VALUE, reason)));
        }
        let kind = Kind { data_type, rank, interleave, swizzle, l2_promotion, oob_fill };
        let swizzle = kind.check().map_err(reject)?;
        // SAFETY: the caller's: as many elements as dimensions, of strides one less.
        let (dims, box_dims, element_strides) =
            unsafe { (pair(dims)?, pair(box_dims)?, pair(element_strides)?) };
        if strides.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's, and it is not null.
        let stride = unsafe { strides.read_unaligned() };
        check_element_strides(element_strides).map_err(reject)?;
        let map = TensorMap { address, dims, stride, box_dims, swizzle };
        check(&map).map_err(reject)?;
        // SAFETY: the caller's, and it is not null.
        unsafe { to.write(map.encode()) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind =
        Kind { data_type: FLOAT16, rank: 2, interleave: 0, swizzle: 3, l2_promotion: 2, oob_fill: 0 };

    #[test]
    fn swizzles_have_their_numbers() {
        for (swizzle, expected) in
            [(0, Swizzle::None), (1, Swizzle::B32), (2, Swizzle::B64), (3, Swizzle::B128)]
        {
            assert_eq!(Kind { swizzle, ..KIND }.check(), Ok(expected));
        }
    }

    /// What no driver takes is invalid, what this one does not know is not supported.
    #[test]
    fn numbers_are_checked() {
        let (invalid, unsupported) = (Code::INVALID_VALUE, Code::NOT_SUPPORTED);
        for (kind, code) in [
            (Kind { data_type: 9, ..KIND }, unsupported),
            (Kind { data_type: 15, ..KIND }, unsupported),
            (Kind { data_type: 16, ..KIND }, invalid),
            (Kind { rank: 0, ..KIND }, invalid),
            (Kind { rank: 1, ..KIND }, unsupported),
            (Kind { rank: 5, ..KIND }, unsupported),
            (Kind { rank: 6, ..KIND }, invalid),
            (Kind { interleave: 1, ..KIND }, invalid),
            (Kind { swizzle: 4, ..KIND }, unsupported),
            (Kind { swizzle: 7, ..KIND }, invalid),
            (Kind { l2_promotion: 4, ..KIND }, invalid),
            (Kind { oob_fill: 1, ..KIND }, unsupported),
            (Kind { oob_fill: 2, ..KIND }, invalid),
        ] {
            assert_eq!(kind.check().map_err(|(code, _)| code), Err(code));
        }
        for (strides, expected) in [
            ([1, 1], Ok(())),
            ([8, 1], Ok(())),
            ([0, 1], Err(invalid)),
            ([1, 9], Err(invalid)),
            ([1, 2], Err(unsupported)),
        ] {
            assert_eq!(check_element_strides(strides).map_err(|(code, _)| code), expected, "{strides:?}");
        }
    }

    #[test]
    fn rows_shorter_than_the_swizzle_are_not_known_here_and_others_are_invalid() {
        let map = |columns| TensorMap {
            address: 1 << 32,
            dims: [100, 50],
            stride: 208,
            box_dims: [columns, 8],
            swizzle: Swizzle::B128,
        };
        let code = |columns| check(&map(columns)).map_err(|(code, _)| code);
        assert_eq!(code(64), Ok(()));
        assert_eq!(code(32), Err(Code::NOT_SUPPORTED));
        for columns in [0, 4, 72, u32::MAX] {
            assert_eq!(code(columns), Err(Code::INVALID_VALUE), "{columns}");
        }
    }
}

//! Tensor maps.

use fused_lora_simt::{Element, Swizzle, Tensor};

use crate::{
    code::{Code, Outcome},
    entry::exports,
};

/// `CUtensorMap`: opaque to everybody but the driver and, here, the strict machine.
type Opaque = [u64; 16];

/// What the address of a `CUtensorMap` is a multiple of.
const ALIGN: usize = 64;

/// The last data type. Those from that of [`Element::ALL`]'s end on are f32 in other clothes, or narrower
/// than a byte.
const LAST_DATA_TYPE: u32 = 15;
/// Most dimensions.
const RANK: u32 = 5;

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
    /// Checks them; which element and swizzle it is.
    fn check(self) -> Checked<(Element, Swizzle)> {
        let Self { data_type, rank, interleave, swizzle, l2_promotion, oob_fill } = self;
        let invalid = |what: &str, value: u32| Err((Code::INVALID_VALUE, format!("{what} {value}")));
        let not_here =
            |what: &str, value: u32| Err((Code::NOT_SUPPORTED, format!("{what} {value}: not here")));
        let element = match Element::ALL.get(data_type as usize) {
            Some(&element) => element,
            None if data_type <= LAST_DATA_TYPE => return not_here("data type", data_type),
            None => return invalid("data type", data_type),
        };
        if !(1..=RANK).contains(&rank) {
            return invalid("rank", rank);
        }
        match interleave {
            0 => {}
            // Any interleave wants three dimensions at least.
            1 | 2 if rank >= 3 => return not_here("interleave", interleave),
            _ => return invalid("interleave", interleave),
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
            0 => Ok((element, Swizzle::None)),
            1 => Ok((element, Swizzle::B32)),
            2 => Ok((element, Swizzle::B64)),
            3 => Ok((element, Swizzle::B128)),
            4..=6 => not_here("swizzle", swizzle),
            _ => invalid("swizzle", swizzle),
        }
    }
}

/// Checks how a box is stepped through. Its columns always are one by one, whatever is asked for.
fn check_element_strides(strides: &[u32]) -> Checked<()> {
    if strides.iter().any(|stride| !(1..=8).contains(stride)) {
        return Err((Code::INVALID_VALUE, format!("element strides {strides:?}, of 1 to 8")));
    }
    if strides[1..].iter().any(|&stride| stride != 1) {
        return Err((Code::NOT_SUPPORTED, format!("element strides {strides:?}: not here")));
    }
    Ok(())
}

/// Checks a map as the driver does.
fn check(map: &Tensor) -> Checked<()> {
    let row = map.box_dims[0].saturating_mul(map.element.bytes());
    // The driver takes rows that are shorter than the swizzle's, the machine does not know where they lie.
    let is_short =
        map.swizzle != Swizzle::None && row < map.swizzle.span() && row.is_multiple_of(16) && row > 0;
    map.check().map_err(|reason| (if is_short { Code::NOT_SUPPORTED } else { Code::INVALID_VALUE }, reason))
}

/// An array of so many.
///
/// # Safety
///
/// `from` is null or valid for reads of so many elements.
unsafe fn array<T: Copy>(from: *const T, count: usize) -> Outcome<Vec<T>> {
    if from.is_null() && count > 0 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller's, and it is not null where there are elements.
    Ok((0..count).map(|index| unsafe { from.add(index).read_unaligned() }).collect())
}

exports! {
    /// Tensors as [`Tensor`] has them. Whether one lies in an allocation is for the copies to find
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
        let (element, swizzle) = kind.check().map_err(reject)?;
        let rank = rank as usize;
        // SAFETY: the caller's: as many elements as dimensions, of strides one less.
        let (dims, strides, box_dims, element_strides) = unsafe {
            let (dims, strides) = (array(dims, rank)?, array(strides, rank - 1)?);
            (dims, strides, array(box_dims, rank)?, array(element_strides, rank)?)
        };
        check_element_strides(&element_strides).map_err(reject)?;
        let map = Tensor { address, element, dims, strides, box_dims, swizzle };
        check(&map).map_err(reject)?;
        // SAFETY: the caller's, and it is not null.
        unsafe { to.write(map.encode()) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_simt::TensorMap;

    use super::*;

    const KIND: Kind =
        Kind { data_type: 6, rank: 2, interleave: 0, swizzle: 3, l2_promotion: 2, oob_fill: 0 };

    #[test]
    fn swizzles_have_their_numbers() {
        for (swizzle, expected) in
            [(0, Swizzle::None), (1, Swizzle::B32), (2, Swizzle::B64), (3, Swizzle::B128)]
        {
            assert_eq!(Kind { swizzle, ..KIND }.check(), Ok((Element::F16, expected)));
        }
    }

    /// What no driver takes is invalid, what this one does not know is not supported.
    #[test]
    fn numbers_are_checked() {
        let (invalid, unsupported) = (Code::INVALID_VALUE, Code::NOT_SUPPORTED);
        for (kind, code) in [
            (Kind { data_type: 10, ..KIND }, unsupported),
            (Kind { data_type: 15, ..KIND }, unsupported),
            (Kind { data_type: 16, ..KIND }, invalid),
            (Kind { rank: 0, ..KIND }, invalid),
            (Kind { rank: 3, interleave: 1, ..KIND }, unsupported),
            (Kind { rank: 3, interleave: 3, ..KIND }, invalid),
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
            assert_eq!(check_element_strides(&strides).map_err(|(code, _)| code), expected, "{strides:?}");
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
        let code = |columns| check(&map(columns).tensor()).map_err(|(code, _)| code);
        assert_eq!(code(64), Ok(()));
        assert_eq!(code(32), Err(Code::NOT_SUPPORTED));
        for columns in [0, 4, 72, u32::MAX] {
            assert_eq!(code(columns), Err(Code::INVALID_VALUE), "{columns}");
        }
    }
}

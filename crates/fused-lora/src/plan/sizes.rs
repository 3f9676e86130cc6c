//! Sizes as the kernels count them, and what they are rounded up to.

use fused_lora_kernels::tile::RANK_GRANULE;

use super::error::Error;

/// The largest size, stride or number of work items that the kernels take: they count with u32, and add a
/// tile or a grid to what they count.
const LIMIT: u64 = i32::MAX as u64;

/// What a pitch is a multiple of, in elements: 16 bytes, so that every row can be read so many at a time.
const PITCH_GRANULE: usize = 8;

/// A size as the kernels count it.
pub(crate) fn count(what: &'static str, value: usize) -> Result<u32, Error> {
    count_u64(what, value as u64)
}

/// The same for a product of sizes.
pub(crate) fn count_u64(what: &'static str, value: u64) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(counted) if value <= LIMIT => Ok(counted),
        _ => Err(Error::TooLarge { what, value, limit: LIMIT }),
    }
}

/// Elements from row to row for rows of `columns`.
pub(crate) fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(PITCH_GRANULE)
}

/// r rounded up to the granule.
pub(crate) fn rank16(rank: u32) -> u32 {
    rank.next_multiple_of(RANK_GRANULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pitches_and_ranks_are_whole_granules() {
        assert_eq!([pitch(1), pitch(8), pitch(9), pitch(1024)], [8, 8, 16, 1024]);
        assert_eq!([rank16(0), rank16(1), rank16(16), rank16(250)], [0, 16, 16, 256]);
    }

    #[test]
    fn the_limit_is_the_last_that_fits() {
        assert_eq!(count("M", i32::MAX as usize), Ok(i32::MAX as u32));
        for value in [1 << 31, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(count_u64("M", value), Err(Error::TooLarge { what: "M", value, limit: LIMIT }));
        }
    }
}

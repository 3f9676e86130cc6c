use super::error::Error;

/// The largest size, stride or number of work items that the kernels take: they count with u32, and add a
/// tile or a grid to what they count.
const LIMIT: u64 = i32::MAX as u64;

/// A size as the kernels count it.
pub(super) fn count(what: &'static str, value: usize) -> Result<u32, Error> {
    count_u64(what, value as u64)
}

/// The same for a product of sizes.
pub(super) fn count_u64(what: &'static str, value: u64) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(counted) if value <= LIMIT => Ok(counted),
        _ => Err(Error::TooLarge { what, value, limit: LIMIT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_last_that_fits() {
        assert_eq!(count("M", i32::MAX as usize), Ok(i32::MAX as u32));
        for value in [1 << 31, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(count_u64("M", value), Err(Error::TooLarge { what: "M", value, limit: LIMIT }));
        }
    }
}

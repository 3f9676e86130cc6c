//! `CUlaunchConfig`: a launch with attributes.

use crate::code::{Code, Handle, Outcome};

/// `CUlaunchConfig`.
#[repr(C)]
pub(crate) struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: *const Attribute,
    attribute_count: u32,
}

/// `CUlaunchAttribute`: its number, and a union of what it may be.
#[derive(Clone, Copy)]
#[repr(C)]
struct Attribute {
    id: u32,
    _reserved: u32,
    value: [u32; 16],
}

/// `CU_LAUNCH_ATTRIBUTE_IGNORE`, `..._CLUSTER_DIMENSION`, `..._PROGRAMMATIC_STREAM_SERIALIZATION`; and the
/// last that the manual of CUDA 13.0 has.
const IGNORE: u32 = 0;
const CLUSTER_DIMENSION: u32 = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION: u32 = 6;
const LAST: u32 = 18;

/// How a kernel is launched, whichever function does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    /// CTAs of a cluster, if it is asked for.
    pub(crate) cluster: Option<[u32; 3]>,
    /// Whether it may begin before the launch before it in its stream has ended.
    pub(crate) programmatic: bool,
}

/// How many there are in these dimensions.
pub(crate) fn product(dims: [u32; 3]) -> Option<u32> {
    dims[0].checked_mul(dims[1])?.checked_mul(dims[2])
}

impl LaunchConfig {
    /// Reads a configuration: the stream, and the rest.
    ///
    /// # Safety
    ///
    /// `config` is null or valid for reads, and so are its attributes, as many as it says.
    pub(crate) unsafe fn read(config: *const Self) -> Outcome<(Handle, Geometry)> {
        if config.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's, and it is not null.
        let Self { grid, block, shared_bytes, stream, attributes, attribute_count } =
            unsafe { config.read_unaligned() };
        let mut geometry = Geometry { grid, block, shared_bytes, cluster: None, programmatic: false };
        if attribute_count > 0 && attributes.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let mut seen = Vec::new();
        for i in 0..attribute_count as usize {
            // SAFETY: the caller's: one of its attributes.
            let Attribute { id, value, .. } = unsafe { attributes.add(i).read_unaligned() };
            let reject = |code: Code, what: &str| {
                eprintln!("fused-lora-simt-driver: launch attribute {id}: {what}");
                Err(code)
            };
            if id != IGNORE && seen.contains(&id) {
                return reject(Code::INVALID_VALUE, "given twice");
            }
            seen.push(id);
            match id {
                IGNORE => {}
                CLUSTER_DIMENSION => geometry.cluster = Some([value[0], value[1], value[2]]),
                PROGRAMMATIC_STREAM_SERIALIZATION => geometry.programmatic = value[0] != 0,
                _ if id <= LAST => return reject(Code::NOT_SUPPORTED, "not here"),
                _ => return reject(Code::INVALID_VALUE, "there is none"),
            }
        }
        Ok((stream, geometry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(id: u32, first: &[u32]) -> Attribute {
        let mut value = [0xdead_beef; 16];
        value[..first.len()].copy_from_slice(first);
        Attribute { id, _reserved: 0, value }
    }

    fn read(attributes: &[Attribute]) -> Result<Geometry, u32> {
        let config = LaunchConfig {
            grid: [8, 1, 2],
            block: [64, 3, 4],
            shared_bytes: 5,
            stream: 77,
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len() as u32,
        };
        // SAFETY: both are valid for reads.
        let (stream, geometry) = unsafe { LaunchConfig::read(&raw const config) }.map_err(|code| code.0)?;
        assert_eq!((stream, geometry.grid, geometry.block), (77, [8, 1, 2], [64, 3, 4]));
        assert_eq!(geometry.shared_bytes, 5);
        Ok(geometry)
    }

    #[test]
    fn the_layout_is_that_of_the_header() {
        assert_eq!(size_of::<LaunchConfig>(), 56);
        assert_eq!(std::mem::offset_of!(LaunchConfig, stream), 32);
        assert_eq!(std::mem::offset_of!(LaunchConfig, attribute_count), 48);
        assert_eq!(size_of::<Attribute>(), 72);
        assert_eq!(std::mem::offset_of!(Attribute, value), 8);
    }

    #[test]
    fn attributes_are_read() {
        let plain = read(&[]).expect("nothing wrong");
        assert_eq!((plain.cluster, plain.programmatic), (None, false));
        let all = [attribute(0, &[]), attribute(6, &[1]), attribute(0, &[]), attribute(4, &[8, 2, 1])];
        let both = read(&all).expect("nothing wrong");
        assert_eq!((both.cluster, both.programmatic), (Some([8, 2, 1]), true));
        assert!(!read(&[attribute(6, &[0])]).expect("nothing wrong").programmatic);
    }

    #[test]
    fn what_is_not_known_is_rejected() {
        for (attributes, code) in [
            (vec![attribute(2, &[1])], 801),
            (vec![attribute(18, &[0])], 801),
            (vec![attribute(19, &[0])], 1),
            (vec![attribute(u32::MAX, &[0])], 1),
            (vec![attribute(4, &[1, 1, 1]), attribute(4, &[1, 1, 1])], 1),
        ] {
            assert_eq!(read(&attributes), Err(code), "{}", attributes[0].id);
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { LaunchConfig::read(std::ptr::null()) }, Err(Code::INVALID_VALUE));
        let missing = LaunchConfig {
            grid: [1; 3],
            block: [1; 3],
            shared_bytes: 0,
            stream: 0,
            attributes: std::ptr::null(),
            attribute_count: 1,
        };
        // SAFETY: valid for reads; null attributes are allowed.
        assert_eq!(unsafe { LaunchConfig::read(&raw const missing) }, Err(Code::INVALID_VALUE));
    }
}

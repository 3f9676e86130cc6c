//! Module images: PTX text and cubins that name our kernels.

use std::ffi::{CStr, c_void};

use fused_lora_kernels::{
    params::Params,
    table::{KERNELS, Kernel},
};

use crate::{
    code::{Code, Outcome},
    device::Device,
};

/// Bytes of the header of a 64-bit ELF file.
const ELF_HEADER: usize = 64;

/// An image as `cuModuleLoadData` takes it.
pub(crate) enum Image<'a> {
    /// Text, up to its NUL.
    Ptx(&'a CStr),
    /// A cubin.
    Elf(&'a [u8]),
}

/// Why an image is not taken, for the error log.
pub(crate) struct Rejection {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl<'a> Image<'a> {
    /// Finds out what an image is, and how long.
    ///
    /// # Safety
    ///
    /// `image` is NUL-terminated text or a whole ELF file, and lives for `'a`.
    pub(crate) unsafe fn from_pointer(image: *const c_void) -> Outcome<Self> {
        if image.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's. Text that starts like an ELF file ends with a NUL at the first byte that is not.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        if !text.to_bytes().starts_with(b"\x7fELF\x02\x01") {
            return Ok(Self::Ptx(text));
        }
        // SAFETY: the caller's: it starts like a 64-bit ELF file, so that it is one.
        let header = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), ELF_HEADER) };
        let length = elf_length(header).ok_or(Code::INVALID_IMAGE)?;
        // SAFETY: the caller's; the file reaches to where its tables end.
        Ok(Self::Elf(unsafe { std::slice::from_raw_parts(image.cast::<u8>(), length) }))
    }

    /// The kernels in it that are ours.
    pub(crate) fn kernels(
        &self,
        device: &Device,
        driver_version: u32,
    ) -> Result<Vec<&'static Kernel>, Rejection> {
        let reject = |code, reason| Err(Rejection { code, reason });
        let (major, minor) = device.capability;
        match self {
            Self::Ptx(text) => {
                let text = text.to_string_lossy();
                let Some(version) = directive(&text, ".version ").and_then(tenths) else {
                    return reject(
                        Code::INVALID_PTX,
                        "neither PTX with a .version nor a 64-bit ELF file".to_owned(),
                    );
                };
                if version > Device::newest_ptx(driver_version) {
                    let reason = format!(
                        "PTX {}.{} is newer than driver {}.{}",
                        version / 10,
                        version % 10,
                        driver_version / 1000,
                        driver_version % 1000 / 10
                    );
                    return reject(Code::UNSUPPORTED_PTX_VERSION, reason);
                }
                let target = directive(&text, ".target ").and_then(|target| {
                    target.strip_prefix("sm_")?.trim_end_matches(['a', 'f']).parse::<u32>().ok()
                });
                match target {
                    Some(target) if target <= 10 * major + minor => {}
                    Some(target) => {
                        let reason = format!("PTX for sm_{target} on compute capability {major}.{minor}");
                        return reject(Code::INVALID_PTX, reason);
                    }
                    None => return reject(Code::INVALID_PTX, "PTX without .target".to_owned()),
                }
                ptx_kernels(&text)
            }
            Self::Elf(bytes) => {
                let target = elf_target(bytes);
                if target / 10 != major || target % 10 > minor {
                    let reason = format!("a cubin for sm_{target} on compute capability {major}.{minor}");
                    return reject(Code::NO_BINARY_FOR_GPU, reason);
                }
                let holds = |kernel: &&Kernel| {
                    let section = format!(".text.{}\0", kernel.name);
                    bytes.windows(section.len()).any(|window| window == section.as_bytes())
                };
                Ok(KERNELS.iter().filter(holds).collect())
            }
        }
    }
}

/// The word after the first `name`.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(name)?;
    rest.split(|c: char| c.is_whitespace() || c == ',' || c == '/').find(|word| !word.is_empty())
}

/// `8.0` is 80.
fn tenths(version: &str) -> Option<u32> {
    let (major, minor) = version.split_once('.')?;
    Some(10 * major.parse::<u32>().ok()? + minor.parse::<u32>().ok()?)
}

/// The entries of PTX that are ours. One whose parameter has another size was compiled from other sources.
fn ptx_kernels(text: &str) -> Result<Vec<&'static Kernel>, Rejection> {
    let mut kernels = Vec::new();
    for entry in text.split(".entry ").skip(1) {
        let name =
            entry.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next().unwrap_or_default();
        let Some(kernel) = KERNELS.iter().find(|kernel| kernel.name == name) else { continue };
        let parameters = entry.split(')').next().unwrap_or_default();
        let size = parameters
            .split_once("param_0[")
            .and_then(|(_, rest)| rest.split(']').next()?.trim().parse::<usize>().ok());
        if let Some(size) = size.filter(|&size| size != size_of::<Params>()) {
            let reason = format!(
                "{name} takes {size} bytes of parameters in the PTX and {} in its source: the PTX is of other sources",
                size_of::<Params>()
            );
            return Err(Rejection { code: Code::INVALID_PTX, reason });
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// Where an ELF file's section and program headers end: cubins have one of them last.
fn elf_length(header: &[u8]) -> Option<usize> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u64::from(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?)));
    let segments = u64_at(32)?.checked_add(u16_at(54)? * u16_at(56)?)?;
    let sections = u64_at(40)?.checked_add(u16_at(58)? * u16_at(60)?)?;
    usize::try_from(segments.max(sections)).ok().filter(|&length| length >= ELF_HEADER)
}

/// The `80` of `sm_80`: the lowest byte of the flags, and the next one from ELF ABI version 8 on.
fn elf_target(elf: &[u8]) -> u32 {
    let flags = u32::from_le_bytes([elf[48], elf[49], elf[50], elf[51]]);
    if elf[8] >= 8 { flags >> 8 & 0xff } else { flags & 0xff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::ffi::CString;

    fn load(
        text: &str,
        capability: (u32, u32),
        driver_version: u32,
    ) -> Result<Vec<&'static str>, (u32, String)> {
        let text = CString::new(text).expect("no NUL");
        let device = Device::new(&Config { capability, ..Config::default() });
        match Image::Ptx(&text).kernels(&device, driver_version) {
            Ok(kernels) => Ok(kernels.iter().map(|kernel| kernel.name).collect()),
            Err(Rejection { code, reason }) => Err((code.0, reason)),
        }
    }

    #[test]
    fn our_entries_are_found_in_ptx() {
        let ptx = format!(
            ".version 7.0\n.target sm_80\n.visible .entry gemm_64x64(\n.param .align 16 .b8 gemm_64x64_param_0[{}]\n)\n\
             .visible .entry of_others()\n.visible .entry gemm_64x64_any(.param .b32 x)",
            size_of::<Params>()
        );
        assert_eq!(load(&ptx, (8, 0), 12_000), Ok(vec!["gemm_64x64", "gemm_64x64_any"]));
        assert_eq!(load(&ptx, (9, 0), 11_000), Ok(vec!["gemm_64x64", "gemm_64x64_any"]));
    }

    #[test]
    fn what_the_driver_would_not_compile_is_rejected() {
        let code = |text: &str, capability, driver| load(text, capability, driver).expect_err(text).0;
        assert_eq!(code(".version 7.0\n.target sm_80", (7, 5), 12_000), 218);
        assert_eq!(code(".version 8.7\n.target sm_80", (8, 0), 12_060), 222);
        assert_eq!(load(".version 8.7\n.target sm_80", (8, 0), 12_080), Ok(vec![]));
        assert_eq!(code("no PTX", (8, 0), 12_000), 218);
        assert_eq!(code(".version 7.0\n", (8, 0), 12_000), 218);
        let stale = ".version 7.0\n.target sm_80\n.entry gemm_64x64(.param .b8 gemm_64x64_param_0[8])";
        assert!(load(stale, (8, 0), 12_000).expect_err("stale").1.contains("other sources"));
    }

    #[test]
    fn cubins_are_for_their_major_version() {
        let mut elf = vec![0; ELF_HEADER];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[8] = 7;
        elf[48] = 80;
        elf[40] = 64; // section headers: none, at the end
        elf.extend_from_slice(b"\0.text.gemm_64x64\0.text.gemm_64x64_anything\0");
        elf[40] = elf.len() as u8;
        // SAFETY: a whole file as far as its header says.
        let image = unsafe { Image::from_pointer(elf.as_ptr().cast()) };
        let Ok(image @ Image::Elf(bytes)) = image else { panic!("an ELF file") };
        assert_eq!(bytes.len(), elf.len());
        let kernels = |capability| {
            image
                .kernels(&Device::new(&Config { capability, ..Config::default() }), 12_000)
                .map(|kernels| kernels.iter().map(|kernel| kernel.name).collect::<Vec<_>>())
                .map_err(|rejection| rejection.code.0)
        };
        assert_eq!(kernels((8, 0)), Ok(vec!["gemm_64x64"]));
        assert_eq!(kernels((8, 6)), Ok(vec!["gemm_64x64"]));
        assert_eq!(kernels((9, 0)), Err(209));
        assert_eq!(kernels((7, 5)), Err(209));
    }
}

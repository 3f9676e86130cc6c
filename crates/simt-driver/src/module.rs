//! Module images: PTX text and cubins that name our kernels.

use std::ffi::{CStr, c_void};

use fused_lora_kernels::table::Target;

use crate::{
    code::{Code, Outcome},
    device::Device,
    kernel::{Entry, Parameter},
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

    /// The entries in it that are ours.
    pub(crate) fn entries(&self, device: &Device, driver_version: u32) -> Result<Vec<Entry>, Rejection> {
        match self {
            Self::Ptx(text) => {
                let text = text.to_string_lossy();
                let target = checked_target(&text, device, driver_version)?;
                ptx_entries(&text, target)
            }
            Self::Elf(bytes) => {
                let (major, minor) = device.capability;
                let target = elf_target(bytes);
                if target / 10 != major || target % 10 > minor {
                    let reason = format!("a cubin for sm_{target} on compute capability {major}.{minor}");
                    return Err(Rejection { code: Code::NO_BINARY_FOR_GPU, reason });
                }
                let holds = |entry: &Entry| {
                    let section = format!(".text.{}\0", entry.name());
                    bytes.windows(section.len()).any(|window| window == section.as_bytes())
                };
                Ok(Entry::all().filter(holds).collect())
            }
        }
    }
}

impl Rejection {
    fn invalid_ptx(reason: impl Into<String>) -> Self {
        Self { code: Code::INVALID_PTX, reason: reason.into() }
    }
}

/// What follows `sm_`: `90a` is 90 and [`Devices::One`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PtxTarget {
    number: u32,
    devices: Devices,
}

/// On which devices PTX of a target runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Devices {
    /// Its own and all later ones.
    Later,
    /// Its own and later ones of the same major version, `f`.
    Family,
    /// Its own, `a`.
    One,
}

impl PtxTarget {
    fn parse(target: &str) -> Option<Self> {
        let target = target.strip_prefix("sm_")?;
        let (number, devices) = match target.strip_suffix('a') {
            Some(number) => (number, Devices::One),
            None => match target.strip_suffix('f') {
                Some(number) => (number, Devices::Family),
                None => (target, Devices::Later),
            },
        };
        Some(Self { number: number.parse().ok()?, devices })
    }

    fn runs_on(self, (major, minor): (u32, u32)) -> bool {
        let device = 10 * major + minor;
        match self.devices {
            Devices::Later => self.number <= device,
            Devices::Family => self.number / 10 == major && self.number <= device,
            Devices::One => self.number == device,
        }
    }

    /// The first PTX ISA that has it, 10 times the version (PTX ISA, *.target*), if it is one of our kernels'.
    fn first_version(self) -> Option<u32> {
        match self {
            Self { number: 80, devices: Devices::Later } => Some(70),
            Self { number: 90, devices: Devices::Later } => Some(78),
            Self { number: 90, devices: Devices::One } => Some(80),
            _ => None,
        }
    }
}

/// The target of PTX that the driver compiles.
fn checked_target(text: &str, device: &Device, driver_version: u32) -> Result<PtxTarget, Rejection> {
    let version = directive(text, ".version ")
        .and_then(tenths)
        .ok_or_else(|| Rejection::invalid_ptx("neither PTX with a .version nor a 64-bit ELF file"))?;
    let (major, minor) = (version / 10, version % 10);
    if version > Device::newest_ptx(driver_version) {
        let driver = (driver_version / 1000, driver_version % 1000 / 10);
        let reason = format!("PTX {major}.{minor} is newer than driver {}.{}", driver.0, driver.1);
        return Err(Rejection { code: Code::UNSUPPORTED_PTX_VERSION, reason });
    }
    let name = directive(text, ".target ").unwrap_or_default();
    let target = PtxTarget::parse(name).ok_or_else(|| Rejection::invalid_ptx("PTX without .target"))?;
    if target.first_version().is_some_and(|first| version < first) {
        return Err(Rejection::invalid_ptx(format!("PTX {major}.{minor} has no target {name}")));
    }
    if !target.runs_on(device.capability) {
        let (major, minor) = device.capability;
        let reason = format!("PTX for {name} on compute capability {major}.{minor}");
        return Err(Rejection::invalid_ptx(reason));
    }
    Ok(target)
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

/// The entries of PTX that are ours. One whose parameter differs was compiled from other sources, and one that is not
/// aligned would do something undefined on a GPU.
fn ptx_entries(text: &str, target: PtxTarget) -> Result<Vec<Entry>, Rejection> {
    let mut entries = Vec::new();
    for declaration in text.split(".entry ").skip(1) {
        let name = declaration
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .next()
            .unwrap_or_default();
        let Some(entry) = Entry::all().find(|entry| entry.name() == name) else { continue };
        if entry.target() == Target::Sm90a && target != (PtxTarget { number: 90, devices: Devices::One }) {
            return Err(Rejection::invalid_ptx(format!("{name} is for sm_90a alone")));
        }
        let Parameter { bytes, align } = entry.parameter();
        let found = ptx_parameter(declaration).ok_or_else(|| {
            Rejection::invalid_ptx(format!("{name} takes other parameters than one of {bytes} bytes"))
        })?;
        if found.bytes != bytes {
            return Err(Rejection::invalid_ptx(format!(
                "{name} takes {} bytes of parameters in the PTX and {bytes} in its source: the PTX is of other sources",
                found.bytes
            )));
        }
        if !found.align.is_multiple_of(align) {
            return Err(Rejection::invalid_ptx(format!(
                "{name} has its parameter at a multiple of {} bytes, and needs one of {align}",
                found.align
            )));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The parameter of an entry that has one, an array of bytes: `name(.param .align 16 .b8 name_param_0[192])`.
fn ptx_parameter(declaration: &str) -> Option<Parameter> {
    let (parameters, _) = declaration.split_once('(')?.1.split_once(')')?;
    let mut words = parameters.trim().strip_prefix(".param ")?.split_whitespace();
    let mut word = words.next()?;
    let mut align = 1;
    if word == ".align" {
        align = words.next()?.parse().ok().filter(|&align: &usize| align.is_power_of_two())?;
        word = words.next()?;
    }
    let (_, bytes) = words.next().filter(|_| word == ".b8")?.strip_suffix(']')?.split_once('[')?;
    words.next().is_none().then_some(Parameter { bytes: bytes.parse().ok()?, align })
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
    use fused_lora_kernels::{params::Params, tensor_map::TensorParams};

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
        match Image::Ptx(&text).entries(&device, driver_version) {
            Ok(entries) => Ok(entries.into_iter().map(Entry::name).collect()),
            Err(Rejection { code, reason }) => Err((code.0, reason)),
        }
    }

    /// PTX with one entry.
    fn ptx(head: &str, name: &str, align: usize, bytes: usize) -> String {
        format!(
            "{head}\n.visible .entry {name}(\n\t.param .align {align} .b8 {name}_param_0[{bytes}]\n)\n{{ret;}}\n"
        )
    }

    const PARAMS: usize = size_of::<Params>();
    const TENSOR_PARAMS: usize = size_of::<TensorParams>();

    const SM80: &str = ".version 7.0\n.target sm_80\n.address_size 64";
    const SM90A: &str = ".version 8.0\n.target sm_90a\n.address_size 64";

    #[test]
    fn our_entries_are_found_in_ptx() {
        let ptx = ptx(SM80, "gemm_64x64", 16, PARAMS)
            + ".visible .entry of_others()\n.entry gemm_64(.param .b32 x)\n"
            + &ptx("", "gemm_64x64_any", 32, PARAMS)
            + &ptx("", "instruction_tap", 8, 24);
        let ours = vec!["gemm_64x64", "gemm_64x64_any", "instruction_tap"];
        assert_eq!(load(&ptx, (8, 0), 12_000), Ok(ours.clone()));
        assert_eq!(load(&ptx, (9, 0), 11_000), Ok(ours));
    }

    #[test]
    fn what_the_driver_would_not_compile_is_rejected() {
        let code = |text: &str, capability, driver| load(text, capability, driver).expect_err(text).0;
        assert_eq!(code(SM80, (7, 5), 12_000), 218);
        assert_eq!(code(".version 8.7\n.target sm_80", (8, 0), 12_060), 222);
        assert_eq!(load(".version 8.7\n.target sm_80", (8, 0), 12_080), Ok(vec![]));
        assert_eq!(code("no PTX", (8, 0), 12_000), 218);
        assert_eq!(code(".version 7.0\n", (8, 0), 12_000), 218);
        assert_eq!(code(".version 7.0\n.target compute_80", (8, 0), 12_000), 218);
        assert_eq!(code(".version 6.5\n.target sm_80", (8, 0), 12_000), 218);
    }

    #[test]
    fn code_for_one_device_runs_on_that_alone() {
        let ptx = ptx(SM90A, "sm90_gemm_64x64", 64, TENSOR_PARAMS);
        assert_eq!(load(&ptx, (9, 0), 12_000), Ok(vec!["sm90_gemm_64x64"]));
        let code = |text: &str, capability, driver| load(text, capability, driver).expect_err(text).0;
        for capability in [(8, 0), (8, 9), (10, 0), (12, 0)] {
            let (code, reason) = load(&ptx, capability, 13_000).expect_err("another device");
            assert_eq!(code, 218);
            let (major, minor) = capability;
            assert_eq!(reason, format!("PTX for sm_90a on compute capability {major}.{minor}"));
        }
        assert_eq!(code(&ptx, (9, 0), 11_080), 222, "a driver of before");
        assert_eq!(code(&ptx.replace("8.0", "7.8"), (9, 0), 12_000), 218, "PTX of before");
        // Such code would not compile for what it says.
        assert_eq!(code(&ptx.replace("sm_90a", "sm_90"), (9, 0), 12_000), 218);
        assert_eq!(code(&ptx.replace("sm_90a", "sm_80"), (9, 0), 12_000), 218);
        // By family: the same major version, from its own minor one on.
        let family = ".version 8.8\n.target sm_100f";
        assert_eq!(load(family, (10, 0), 13_000), Ok(vec![]));
        assert_eq!(load(family, (10, 3), 13_000), Ok(vec![]));
        assert_eq!(code(family, (12, 0), 13_000), 218);
        assert_eq!(code(&family.replace("100", "103"), (10, 0), 13_000), 218);
    }

    #[test]
    fn parameters_are_those_of_the_sources() {
        let rejected = |head: &str, name: &str, align, bytes| {
            load(&ptx(head, name, align, bytes), (9, 0), 12_000).expect_err("another parameter").1
        };
        assert!(rejected(SM80, "gemm_64x64", 16, 8).contains("other sources"));
        assert!(
            rejected(SM90A, "sm90_gemm_64x64", 64, PARAMS)
                .contains(&format!("{TENSOR_PARAMS} in its source"))
        );
        assert!(rejected(SM80, "instruction_tap", 8, 192).contains("24 in its source"));
        assert!(rejected(SM80, "gemm_64x64", 8, PARAMS).contains("needs one of 16"));
        let reason = rejected(SM90A, "sm90_gemm_64x64", 32, TENSOR_PARAMS);
        assert_eq!(
            reason,
            "sm90_gemm_64x64 has its parameter at a multiple of 32 bytes, and needs one of 64"
        );
        for parameters in [
            "",
            ".param .b32 x",
            ".param .b8 x[SIZE]",
            ".param .align 16 .b8 x[SIZE], .param .b32 y",
            ".param .align 16 .b8 x[SIZE] , .param .b32 y",
            ".param .align 16 .b16 x[SIZE]",
            ".param .align 3 .b8 x[SIZE]",
        ] {
            let parameters = parameters.replace("SIZE", &PARAMS.to_string());
            let text = format!("{SM80}\n.entry gemm_64x64({parameters})");
            assert_eq!(load(&text, (8, 0), 12_000).expect_err(&parameters).0, 218, "{parameters}");
        }
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
        let entries = |capability| {
            image
                .entries(&Device::new(&Config { capability, ..Config::default() }), 12_000)
                .map(|entries| entries.into_iter().map(Entry::name).collect::<Vec<_>>())
                .map_err(|rejection| rejection.code.0)
        };
        assert_eq!(entries((8, 0)), Ok(vec!["gemm_64x64"]));
        assert_eq!(entries((8, 6)), Ok(vec!["gemm_64x64"]));
        assert_eq!(entries((9, 0)), Err(209));
        assert_eq!(entries((7, 5)), Err(209));
    }
}

//! Module images: PTX text, which is read and checked as the driver's compiler would.

use std::{
    collections::HashMap,
    ffi::{CStr, c_void},
    sync::Arc,
};

use fused_lora_simt::ptx::Module;

use crate::{
    code::{Code, Outcome},
    device::Device,
};

/// An image as `cuModuleLoadData` takes it.
pub(crate) enum Image<'a> {
    /// Text, up to its NUL.
    Ptx(&'a CStr),
    /// A cubin.
    Elf,
}

/// Why an image is not taken, for the error log.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl<'a> Image<'a> {
    /// Finds out what an image is.
    ///
    /// # Safety
    ///
    /// `image` is NUL-terminated text or a whole ELF file, and lives for `'a`.
    pub(crate) unsafe fn from_pointer(image: *const c_void) -> Outcome<Self> {
        if image.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's. Text that starts like an ELF file ends with a NUL at the first byte that is
        // not.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        Ok(if text.to_bytes().starts_with(b"\x7fELF") { Self::Elf } else { Self::Ptx(text) })
    }
}

/// The modules that were read, by their text: a program may load one several times.
#[derive(Default)]
pub(crate) struct Images(HashMap<String, Arc<Module>>);

impl Images {
    /// Reads an image.
    pub(crate) fn load(
        &mut self,
        image: &Image<'_>,
        device: &Device,
        driver_version: u32,
    ) -> Result<Arc<Module>, Rejection> {
        let text = match image {
            Image::Ptx(text) => text.to_string_lossy(),
            Image::Elf => {
                let reason = "a cubin: it holds the code of a GPU, and this machine executes PTX".to_owned();
                return Err(Rejection { code: Code::NO_BINARY_FOR_GPU, reason });
            }
        };
        if let Some(known) = self.0.get(&*text) {
            return Ok(Arc::clone(known));
        }
        let name = format!("PTX {}", self.0.len());
        let module =
            Module::parse(&name, &text).map_err(|refused| Rejection::invalid_ptx(refused.to_string()))?;
        check(&module, device, driver_version)?;
        let module = Arc::new(module);
        self.0.insert(text.into_owned(), Arc::clone(&module));
        Ok(module)
    }
}

impl Rejection {
    fn invalid_ptx(reason: String) -> Self {
        Self { code: Code::INVALID_PTX, reason }
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

    /// The first PTX ISA that has it, 10 times the version (PTX ISA, *.target*), if it is one of our
    /// kernels'.
    fn first_version(self) -> Option<u32> {
        match self {
            Self { number: 80, devices: Devices::Later } => Some(70),
            Self { number: 90, devices: Devices::Later } => Some(78),
            Self { number: 90, devices: Devices::One } => Some(80),
            _ => None,
        }
    }
}

/// Whether the driver would compile it for the device.
fn check(module: &Module, device: &Device, driver_version: u32) -> Result<(), Rejection> {
    let version = tenths(module.version())
        .ok_or_else(|| Rejection::invalid_ptx(format!("PTX of version {}", module.version())))?;
    let (major, minor) = (version / 10, version % 10);
    if version > Device::newest_ptx(driver_version) {
        let driver = (driver_version / 1000, driver_version % 1000 / 10);
        let reason = format!("PTX {major}.{minor} is newer than driver {}.{}", driver.0, driver.1);
        return Err(Rejection { code: Code::UNSUPPORTED_PTX_VERSION, reason });
    }
    let name = module.target();
    let target = PtxTarget::parse(name)
        .ok_or_else(|| Rejection::invalid_ptx(format!("PTX for {name}, which is no target")))?;
    if target.first_version().is_some_and(|first| version < first) {
        return Err(Rejection::invalid_ptx(format!("PTX {major}.{minor} has no target {name}")));
    }
    if !target.runs_on(device.capability) {
        let (major, minor) = device.capability;
        let reason = format!("PTX for {name} on compute capability {major}.{minor}");
        return Err(Rejection::invalid_ptx(reason));
    }
    Ok(())
}

/// `8.0` is 80.
fn tenths(version: &str) -> Option<u32> {
    let (major, minor) = version.split_once('.')?;
    Some(10 * major.parse::<u32>().ok()? + minor.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use crate::config::Config;

    fn load(text: &str, capability: (u32, u32), driver_version: u32) -> Result<Vec<String>, (u32, String)> {
        let text = CString::new(text).expect("no NUL");
        let device = Device::new(&Config { capability, ..Config::default() });
        match Images::default().load(&Image::Ptx(&text), &device, driver_version) {
            Ok(module) => Ok(module.entries().iter().map(|entry| entry.name().to_owned()).collect()),
            Err(Rejection { code, reason }) => Err((code.0, reason)),
        }
    }

    const SM80: &str = ".version 7.0\n.target sm_80\n.address_size 64\n";
    const SM90A: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";
    const KERNEL: &str = ".visible .entry a()\n{\nret;\n}\n";
    const OF_HOPPER: &str = ".visible .entry h()\n{\nwgmma.fence.sync.aligned;\nret;\n}\n";

    #[test]
    fn entries_are_found_and_a_text_is_read_once() {
        let text = format!("{SM80}{KERNEL}.entry b(.param .u64 x) {{ ret; }}");
        assert_eq!(load(&text, (8, 0), 12_000), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(load(&text, (9, 0), 11_000).map(|names| names.len()), Ok(2));
        let (mut images, device) = (Images::default(), Device::new(&Config::default()));
        let text = CString::new(text).expect("no NUL");
        let [first, second] = [(); 2].map(|()| images.load(&Image::Ptx(&text), &device, 12_000));
        let (Ok(first), Ok(second)) = (first, second) else { panic!("it is PTX") };
        assert!(Arc::ptr_eq(&first, &second));
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
        let (code, reason) = load(&format!("{SM80}{}", KERNEL.replace("ret", "wat.u32")), (8, 0), 12_000)
            .expect_err("unknown");
        assert_eq!(code, 218);
        assert!(reason.contains("line 6, column 1") && reason.contains("wat.u32"), "{reason}");
    }

    #[test]
    fn code_for_one_device_runs_on_that_alone() {
        let ptx = format!("{SM90A}{OF_HOPPER}");
        assert_eq!(load(&ptx, (9, 0), 12_000), Ok(vec!["h".to_owned()]));
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
    fn cubins_are_refused_with_the_reason() {
        // SAFETY: it ends with a NUL before the header of an ELF file does.
        let image = unsafe { Image::from_pointer(c"\x7fELF\x02\x01".as_ptr().cast()) };
        let Ok(image) = image else { panic!("it is an ELF file") };
        let device = Device::new(&Config::default());
        let rejection = Images::default().load(&image, &device, 12_000).expect_err("a cubin");
        assert_eq!(rejection.code.0, 209);
        assert!(rejection.reason.contains("executes PTX"), "{}", rejection.reason);
    }
}

//! What the numbers were measured on, as records name it.
//!
//! Not read through `sysinfo`, which knows no caches and rounds the clock to MHz.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use fused_lora::cpu::Simd;
use fused_lora::{DType, Granule};

/// Assumed where the system does not tell: more than most desktops have, so that cold stays cold.
const ASSUMED_CACHE: usize = 64 << 20;

/// A processor or a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its name.
    pub device: String,
    /// Threads that rayon uses, on a CPU.
    pub threads: Option<usize>,
    /// SIMD level, on a CPU; else empty.
    pub simd: String,
    /// The CUDA version of a GPU's driver; else empty.
    pub driver: String,
    /// Clock now, where it can be read.
    pub clock_mhz: Option<f64>,
    /// All last-level caches together, in bytes.
    pub last_level_cache: usize,
    /// What this library's kernels round a rank up to.
    pub granule: Granule,
}

impl Machine {
    /// This host's processor, used with a SIMD level in a type, as far as the system tells.
    pub fn cpu(simd: Simd, dtype: DType) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let sysctl = |name: &str| output("sysctl", &["-n", name]);
        // Arm's /proc/cpuinfo has no model name; lscpu knows one.
        let device = cpuinfo_field(&cpuinfo, "model name")
            .map(str::to_owned)
            .or_else(|| cpuinfo_field(&output("lscpu", &[])?, "Model name").map(str::to_owned))
            .or_else(|| sysctl("machdep.cpu.brand_string"));
        let cache = caches(Path::new("/sys/devices/system/cpu")).or_else(|| {
            ["hw.l3cachesize", "hw.perflevel0.l2cachesize"].iter().find_map(|name| sysctl(name)?.parse().ok())
        });
        Machine {
            device: device.unwrap_or_else(|| "unknown cpu".to_owned()),
            threads: Some(rayon::current_num_threads()),
            // What computes, which is not what a machine has at best.
            simd: simd.serving(dtype).to_string(),
            driver: String::new(),
            clock_mhz: cpuinfo_field(&cpuinfo, "cpu MHz").and_then(|text| text.parse().ok()),
            last_level_cache: cache.unwrap_or(ASSUMED_CACHE),
            granule: simd.granule(dtype),
        }
    }
}

/// What a program prints; None if there is no such program, or nothing to print.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The first `name : value` of a /proc/cpuinfo.
fn cpuinfo_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find_map(|(key, value)| Some(value.trim()).filter(|value| key.trim() == name && !value.is_empty()))
}

/// The sum of the highest-level caches below a folder such as /sys/devices/system/cpu. A cache that several
/// cores share is listed by each of them and counted once.
fn caches(cpus: &Path) -> Option<usize> {
    let mut by_level: BTreeMap<u32, BTreeMap<String, usize>> = BTreeMap::new();
    for cpu in folders(cpus, "cpu").ok()? {
        for index in folders(&cpu.join("cache"), "index").unwrap_or_default() {
            let read = |name: &str| Some(fs::read_to_string(index.join(name)).ok()?.trim().to_owned());
            let cache =
                (|| Some((read("level")?.parse().ok()?, read("shared_cpu_list")?, bytes(&read("size")?)?)))();
            if let Some((level, sharers, size)) = cache {
                by_level.entry(level).or_default().insert(sharers, size);
            }
        }
    }
    by_level.pop_last().map(|(_, caches)| caches.values().sum())
}

/// Folders named by a prefix and a number.
fn folders(parent: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let numbered = |name: &str| name.strip_prefix(prefix).is_some_and(|n| n.parse::<u32>().is_ok());
    let paths = fs::read_dir(parent)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(numbered));
    Ok(paths)
}

/// `32768K`, `32M`, or plain bytes.
fn bytes(text: &str) -> Option<usize> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let with_unit = units.iter().find_map(|&(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_is_read_by_its_keys() {
        let text = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU @ 2.6GHz: v2\n\
                    cpu MHz\t\t: 2596.096\n\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(cpuinfo_field(text, "model name"), Some("Some CPU @ 2.6GHz: v2"));
        assert_eq!(cpuinfo_field(text, "cpu MHz"), Some("2596.096"));
        assert_eq!(cpuinfo_field(text, "flags"), None);
        assert_eq!(cpuinfo_field("", "model name"), None);
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("32768K", 32 << 20), ("1M", 1 << 20), ("1G", 1 << 30), ("512", 512)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "K", "0K", "x", "-1K", "99999999999999999G"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn shared_caches_count_once_and_only_the_last_level() {
        let root = tempfile::tempdir().unwrap();
        let put = |cpu: u32, index: u32, level: &str, sharers: &str, size: &str| {
            let folder = root.path().join(format!("cpu{cpu}/cache/index{index}"));
            fs::create_dir_all(&folder).unwrap();
            for (name, text) in [("level", level), ("shared_cpu_list", sharers), ("size", size)] {
                fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        };
        assert_eq!(caches(root.path()), None);
        assert_eq!(caches(&root.path().join("absent")), None);
        // Four cores, two chiplets of 32 MiB each.
        for cpu in 0..4 {
            put(cpu, 2, "2", &cpu.to_string(), "1024K");
            put(cpu, 3, "3", if cpu < 2 { "0-1" } else { "2-3" }, "32768K");
        }
        fs::create_dir_all(root.path().join("cpufreq/cache/index0")).unwrap();
        assert_eq!(caches(root.path()), Some(64 << 20));
    }

    #[test]
    fn this_host_has_threads_and_a_name() {
        let simd = Simd::detect().unwrap();
        for dtype in DType::ALL {
            let machine = Machine::cpu(simd, dtype);
            let serving = simd.serving(dtype);
            assert_eq!((machine.simd.as_str(), machine.granule), (serving.name(), simd.granule(dtype)));
        }
        let machine = Machine::cpu(simd, DType::F16);
        assert!(machine.threads.is_some_and(|threads| threads >= 1), "{machine:?}");
        assert!(!machine.device.is_empty() && machine.driver.is_empty(), "{machine:?}");
        assert!(machine.last_level_cache >= 1 << 18, "{machine:?}");
    }
}

//! What Linux says about the processor. Elsewhere nothing is known. Not read through `sysinfo`, which knows
//! no caches.

use std::{fs, path::Path};

/// The processor's name.
pub(crate) fn cpu_model() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Name and size of the first core's caches: `("L1d", "32K")`.
pub(crate) fn caches() -> Vec<(String, String)> {
    caches_in(Path::new("/sys/devices/system/cpu/cpu0/cache"))
}

fn caches_in(folder: &Path) -> Vec<(String, String)> {
    let mut caches = Vec::new();
    for index in 0.. {
        let read = |name: &str| {
            let text = fs::read_to_string(folder.join(format!("index{index}")).join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else {
            break;
        };
        let kind = match kind.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        caches.push((format!("L{level}{kind}"), size));
    }
    caches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_until_one_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for (index, level, kind, size) in
            [(0, "1", "Data", "48K"), (1, "1", "Instruction", "32K"), (2, "2", "Unified", "2M")]
        {
            let entry = folder.path().join(format!("index{index}"));
            fs::create_dir(&entry).unwrap();
            for (name, text) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(entry.join(name), format!("{text}\n")).unwrap();
            }
        }
        let expected = [("L1d", "48K"), ("L1i", "32K"), ("L2", "2M")];
        assert_eq!(caches_in(folder.path()), expected.map(|(name, size)| (name.to_owned(), size.to_owned())));
        assert_eq!(caches_in(&folder.path().join("index7")), []);
    }
}

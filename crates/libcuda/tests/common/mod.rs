//! What the tests share: a process of their own, and a driver to call.
//!
//! The library is chosen once in a process. So a test runs its body in a child: the same test binary, told to
//! run this one test, with the environment that the test wants.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fused_lora_libcuda::LIBRARY_VARIABLE;

const CHILD_VARIABLE: &str = "FUSED_LORA_LIBCUDA_TEST_CHILD";

/// Runs `body` in a child process that `prepare` gave its environment. `test` is the name of the calling
/// test.
pub(crate) fn in_child(test: &str, prepare: impl FnOnce(&mut Command), body: impl FnOnce()) {
    if std::env::var_os(CHILD_VARIABLE).is_some() {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().expect("a test knows its path"));
    child.args(["--exact", test, "--nocapture"]).env_remove(LIBRARY_VARIABLE).env(CHILD_VARIABLE, "1");
    prepare(&mut child);
    let output = child.output().expect("a test binary can be run again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A misspelt name would run no test and succeed.
    let ran = stdout.contains("1 passed");
    assert!(output.status.success() && ran, "child of {test}: {}\n{stdout}\n{stderr}", output.status);
}

/// As [`in_child`], with the fake driver as the library.
pub(crate) fn with_driver(test: &str, driver: Driver, body: impl FnOnce()) {
    let prepare = |child: &mut Command| {
        child.env(LIBRARY_VARIABLE, driver.library());
    };
    in_child(test, prepare, body);
}

/// The fake driver, `fake_driver/driver.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Driver {
    /// With all functions that the tests call.
    Current,
    /// Without `cuLaunchKernel`.
    Old,
}

impl Driver {
    /// The shared library, compiled by the first call in a process. Needs `rustc`, or the path of one in
    /// `RUSTC`.
    pub(crate) fn library(self) -> &'static Path {
        static CURRENT: OnceLock<PathBuf> = OnceLock::new();
        static OLD: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Driver::Current => CURRENT.get_or_init(|| compile("current", &[])),
            Driver::Old => OLD.get_or_init(|| compile("old", &["--cfg", "old"])),
        }
    }
}

fn compile(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join(format!("fake-driver-{name}.so"));
    let unfinished = folder.join(format!("fake-driver-{name}-{}.so", std::process::id()));
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "fake_driver", "-O"])
        .args(["--check-cfg", "cfg(old)"])
        .args(arguments)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_driver/driver.rs"))
        .arg("-o")
        .arg(&unfinished)
        .output()
        .expect("rustc, which built this test, is there when it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // In one step: another test binary may be opening the one that is there.
    std::fs::rename(&unfinished, &library).expect("both are in one folder");
    library
}

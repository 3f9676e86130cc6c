//! `--device` and what `info` says of CUDA devices: with no driver, with a library that is none, and, where
//! there is a device, on it.

mod support;

use std::{fs, path::PathBuf};

use serde_json::Value;
use support::command::{Case, assert_success, fused_lora, stderr};

const LIBRARY: &str = "FUSED_LORA_LIBCUDA";

/// A driver's library that is not there.
fn missing() -> PathBuf {
    PathBuf::from("no-such-folder/libcuda.so.1")
}

/// What a GPU's kernels cannot compute is computed on the CPU, and said, or refused where a GPU was asked
/// for.
#[test]
fn other_types_than_f16_are_computed_on_the_cpu() {
    let case = Case::new("r10");
    let output = case.command_anywhere(&["--dtype", "bf16"]).output().unwrap();
    assert!(output.status.success() && stderr(&output).contains("compute in f16, not in bf16"), "{output:?}");
    let output = case.command_anywhere(&["--dtype", "f32", "--device", "cuda"]).output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("give --dtype f16"), "{output:?}");
}

#[test]
fn auto_falls_back_to_the_cpu_and_says_so() {
    for more in [&[][..], &["--device", "auto"]] {
        let case = Case::new("r10");
        assert_success(&case.apply(&[]));
        let on_cpu = fs::read(&case.output).unwrap();
        fs::remove_file(&case.output).unwrap();

        let output = case.command_anywhere(more).env(LIBRARY, missing()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(output.stdout, b"");
        let said = stderr(&output);
        assert!(said.starts_with("computed on the CPU: ") && said.lines().count() == 1, "{said}");
        assert_eq!(fs::read(&case.output).unwrap(), on_cpu);
    }
}

#[test]
fn a_device_that_is_asked_for_and_not_there_is_an_error() {
    for device in ["cuda", "cuda:0", "cuda:3"] {
        let case = Case::new("r10");
        fs::write(&case.output, "as it was").unwrap();
        let files = case.files();
        let output = case.command_anywhere(&["--device", device]).env(LIBRARY, missing()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_eq!(output.stdout, b"");
        let said = stderr(&output);
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
        assert_eq!(fs::read(&case.output).unwrap(), b"as it was");
        assert_eq!(case.files(), files);
    }
}

#[test]
fn a_wrong_word_is_a_wrong_command_line() {
    for device in ["gpu", "cuda:x", "cuda:-1", ""] {
        let case = Case::new("r10");
        let output = case.command_anywhere(&["--device", device]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{device}");
        assert!(
            stderr(&output).contains("--device") && stderr(&output).contains("cuda:0"),
            "{}",
            stderr(&output)
        );
    }
}

fn info(args: &[&str], library: &std::path::Path) -> String {
    let output = fused_lora().arg("info").args(args).env(LIBRARY, library).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn info_says_in_one_line_why_there_is_no_device() {
    let text = info(&[], &missing());
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("cuda")).collect();
    let [line] = lines[..] else { panic!("{text}") };
    assert!(line.starts_with("cuda: none: "), "{line}");
    let object: Value = serde_json::from_str(&info(&["--json"], &missing())).unwrap();
    assert_eq!(format!("cuda: {}", object["cuda"].as_str().unwrap()), line);
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod with_cuda {
    use super::*;
    use fused_lora::cuda::Device;
    use ndarray::s;

    use super::support::{CASES, fixture, read_matrix, relative_error};

    #[test]
    fn the_reason_names_the_library() {
        assert!(info(&[], &missing()).contains("no-such-folder/libcuda.so.1"));
        let case = Case::new("r10");
        let output = case.command_anywhere(&["--device", "cuda:0"]).env(LIBRARY, missing()).output().unwrap();
        assert!(stderr(&output).contains("no CUDA driver"), "{}", stderr(&output));
    }

    #[test]
    fn a_library_that_is_no_driver_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("libcuda.so.1");
        fs::write(&text, "not a library\n").unwrap();
        assert!(info(&[], &text).contains("cuda: none: no CUDA driver: "));
        // A library, without a single function of the driver.
        let other = info(&[], std::path::Path::new("libm.so.6"));
        assert!(other.contains("cuda: none: cuInit failed with 500"), "{other}");
    }

    /// The rest needs a device, real or simulated: [`LIBRARY`] of this process says which.
    fn library() -> Option<std::ffi::OsString> {
        match Device::open(0) {
            Ok(_) => Some(std::env::var_os(LIBRARY).unwrap_or_default()),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// The simulated driver, whose GPU the environment chooses.
    fn simulated() -> Option<std::ffi::OsString> {
        let found = library()?;
        let simulated = found.to_string_lossy().contains("simt_driver");
        if !simulated {
            eprintln!("skipped: what a GPU is and lacks cannot be chosen");
        }
        simulated.then_some(found)
    }

    /// Fails unless y is what PEFT computed.
    #[track_caller]
    fn assert_peft(case: &Case, name: &str, said: &str) {
        let expected = read_matrix(&fixture(name).join("expected.safetensors"), "y");
        let error = relative_error(&read_matrix(&case.output, "y"), &expected);
        assert!(error <= 1e-3, "{name}, {said}: {error:e}");
    }

    #[test]
    fn a_device_computes_what_peft_computed() {
        let Some(library) = library() else { return };
        for (name, strategy) in CASES.iter().flat_map(|name| ["fused", "unfused"].map(|s| (name, s))) {
            for device in ["cuda:0", "auto"] {
                let case = Case::new(name);
                let mut command = case.command_anywhere(&["--device", device, "--strategy", strategy]);
                assert_success(&command.env(LIBRARY, &library).output().unwrap());
                assert_peft(&case, name, &format!("{strategy}, {device}"));
            }
        }
    }

    /// Each row as its adapter alone gives it, or the base: near, since a batch may be summed in another order.
    #[test]
    fn a_device_computes_a_batch_of_several_adapters() {
        let Some(library) = library() else { return };
        let case = Case::new("r10");
        let folder = case.adapter.to_str().unwrap();
        let run = |options: &[&str]| {
            let mut command = case.command_anywhere(&[&["--device", "cuda:0"], options].concat());
            assert_success(&command.env(LIBRARY, &library).output().unwrap());
            read_matrix(&case.output, "y")
        };
        let (fused, base) = (run(&[]), run(&["--strategy", "base"]));
        for strategy in ["fused", "unfused"] {
            let rows = ["--rows", "0..1", "--adapter", folder, "--rows", "2..4", "--strategy", strategy];
            let mixed = run(&rows);
            for row in 0..mixed.nrows() {
                let expected = if [0, 2, 3].contains(&row) { &fused } else { &base };
                let [found, expected] = [&mixed, expected].map(|y| y.slice(s![row..=row, ..]).to_owned());
                let error = relative_error(&found, &expected);
                assert!(error <= 1e-3, "{strategy}, row {row}: {error:e}");
            }
        }
    }

    #[test]
    fn info_lists_devices() {
        let Some(library) = library() else { return };
        let text = info(&[], std::path::Path::new(&library));
        let devices = Device::list().unwrap();
        for device in &devices {
            assert!(
                text.contains(&format!("\ncuda:{}: ", device.ordinal)) && text.contains(&device.name),
                "{text}"
            );
        }
        let object: Value = serde_json::from_str(&info(&["--json"], std::path::Path::new(&library))).unwrap();
        assert_eq!(object["cuda:0"]["uuid"], devices[0].uuid_text());
        assert_eq!(object["cuda:0"]["multiprocessors"], devices[0].multiprocessors);
    }

    #[test]
    fn a_number_beyond_the_last_is_refused() {
        let Some(library) = library() else { return };
        let case = Case::new("r10");
        let output = case.command_anywhere(&["--device", "cuda:99"]).env(LIBRARY, library).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("there is no CUDA device 99"), "{}", stderr(&output));
    }

    /// Settings of the simulated driver, and what `apply --device cuda:0` says then.
    #[test]
    fn what_keeps_a_device_from_being_used_is_said_and_auto_falls_back() {
        let Some(library) = simulated() else { return };
        for (variable, value, part) in [
            ("FUSED_LORA_SIMT_DEVICES", "0", "the CUDA driver finds no device"),
            ("FUSED_LORA_SIMT_CAPABILITY", "7.5", "has compute capability 7.5, the kernels need 8.0"),
            (
                "FUSED_LORA_SIMT_DRIVER_VERSION",
                "10.2",
                "the driver is for CUDA 10.2, the kernels need CUDA 11.",
            ),
            ("FUSED_LORA_SIMT_MEMORY", "20000", "out of device memory: "),
            ("FUSED_LORA_SIMT_FAIL", "cuMemAlloc:2@2", "out of device memory: "),
            ("FUSED_LORA_SIMT_FAIL", "cuInit:803", "cuInit failed with 803: "),
            (
                "FUSED_LORA_SIMT_FAIL",
                "cuDevicePrimaryCtxRetain:101",
                "cuDevicePrimaryCtxRetain failed with 101: ",
            ),
            (
                "FUSED_LORA_SIMT_FAIL",
                "cuModuleLoadDataEx:222",
                "the driver is for CUDA 12.4, the kernels need CUDA 11.",
            ),
            ("FUSED_LORA_SIMT_FAIL", "cuModuleLoadDataEx:218", "the driver cannot load the kernels: "),
            (
                "FUSED_LORA_SIMT_FAIL",
                "cuModuleGetFunction:500@5",
                "the driver cannot load the kernels: it has no entry ",
            ),
            ("FUSED_LORA_SIMT_FAIL", "cuLaunchKernel:701", "cuLaunchKernel failed with 701: "),
        ] {
            let case = Case::new("r10");
            let run = |device| {
                let mut command = case.command_anywhere(&["--device", device]);
                command.env(LIBRARY, &library).env(variable, value).output().unwrap()
            };
            let refused = run("cuda:0");
            let said = stderr(&refused);
            assert_eq!(refused.status.code(), Some(1), "{variable}={value}: {said}");
            assert!(said.starts_with("error: ") && said.contains(part), "{variable}={value}: {said}");
            assert!(!case.output.exists());

            let fell_back = run("auto");
            let said = stderr(&fell_back);
            assert!(fell_back.status.success(), "{variable}={value}: {said}");
            assert!(
                said.starts_with("computed on the CPU: ") && said.contains(part),
                "{variable}={value}: {said}"
            );
            assert!(case.output.exists());
        }
    }

    /// On compute capability 9.0: where its own kernels cannot be had, those for 8.0 serve; what fails later
    /// is said.
    #[test]
    fn hopper_without_its_own_kernels_uses_those_for_8_0() {
        let Some(library) = simulated() else { return };
        let run = |variable: &str, value: &str| {
            let case = Case::new("r10");
            let mut command = case.command_anywhere(&["--device", "cuda:0"]);
            command.env(LIBRARY, &library).env("FUSED_LORA_SIMT_CAPABILITY", "9.0").env(variable, value);
            let output = command.output().unwrap();
            (case, output)
        };
        for (variable, value) in [
            ("FUSED_LORA_SIMT_DRIVER_VERSION", "11.8"),
            ("FUSED_LORA_SIMT_FAIL", "cuModuleLoadDataEx:218@2"),
            // Without clusters, not without the kernels.
            ("FUSED_LORA_SIMT_FAIL", "cuOccupancyMaxActiveClusters:912"),
        ] {
            let (case, output) = run(variable, value);
            assert_success(&output);
            assert_peft(&case, "r10", &format!("{variable}={value}"));
        }
        for (value, part) in [
            ("cuTensorMapEncodeTiled:1", "no tensor map for x: the driver refuses it with 1: "),
            ("cuLaunchKernelEx:701", "cuLaunchKernelEx failed with 701: "),
        ] {
            let (case, output) = run("FUSED_LORA_SIMT_FAIL", value);
            assert_eq!(output.status.code(), Some(1), "{value}");
            assert!(stderr(&output).contains(part) && !case.output.exists(), "{value}: {}", stderr(&output));
        }
    }

    #[test]
    fn info_tells_which_kernels_a_device_is_given() {
        let Some(library) = simulated() else { return };
        for (capability, driver, kernels) in [
            ("8.0", "12.4", "sm_80"),
            ("9.0", "11.8", "sm_80"),
            ("9.0", "12.0", "sm_80 and sm_90a"),
            ("10.0", "13.0", "sm_80"),
        ] {
            let mut command = fused_lora();
            command.args(["info", "--json"]).env(LIBRARY, &library);
            command
                .env("FUSED_LORA_SIMT_CAPABILITY", capability)
                .env("FUSED_LORA_SIMT_DRIVER_VERSION", driver);
            let object: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
            assert_eq!(object["cuda:0"]["kernels"], kernels, "{capability} {driver}");
        }
    }

    #[test]
    fn every_generation_computes_what_peft_computed() {
        let Some(library) = simulated() else { return };
        for capability in ["8.6", "8.9", "9.0", "10.0", "12.0"] {
            let case = Case::new("r100-rslora");
            let mut command = case.command_anywhere(&["--device", "cuda:0"]);
            let output =
                command.env(LIBRARY, &library).env("FUSED_LORA_SIMT_CAPABILITY", capability).output();
            assert_success(&output.unwrap());
            assert_peft(&case, "r100-rslora", capability);
        }
    }
}

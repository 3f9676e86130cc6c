//! Running the command on files in a folder of its own.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::fixture;

/// The command, with nothing of the environment that would change what it does.
pub(crate) fn fused_lora() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fused-lora"));
    command.env_remove("FUSED_LORA_SIMD").env_remove("RAYON_NUM_THREADS").env_remove("FUSED_LORA_LIBCUDA");
    command
}

/// A writable copy of a PEFT case, and the options of `apply` for it.
pub(crate) struct Case {
    folder: TempDir,
    pub(crate) module: String,
    pub(crate) base: PathBuf,
    pub(crate) adapter: PathBuf,
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
}

impl Case {
    pub(crate) fn new(case: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let adapter = folder.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        let path = |name: &str| folder.path().join(name);
        // Read and written instead of copied, which would copy a read-only mode.
        let copy =
            |name: &str, to: PathBuf| fs::write(to, fs::read(fixture(case).join(name)).unwrap()).unwrap();
        copy("base.safetensors", path("base.safetensors"));
        copy("input.safetensors", path("input.safetensors"));
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            copy(name, adapter.join(name));
        }
        Case {
            module: "proj".into(),
            base: path("base.safetensors"),
            input: path("input.safetensors"),
            output: path("y.safetensors"),
            adapter,
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.adapter.join("adapter_config.json")
    }

    pub(crate) fn weights(&self) -> PathBuf {
        self.adapter.join("adapter_model.safetensors")
    }

    /// `apply` on the CPU, with `more` options.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = self.command_anywhere(more);
        command.args(["--device", "cpu"]);
        command
    }

    /// `apply` where it likes, with `more` options.
    pub(crate) fn command_anywhere(&self, more: &[&str]) -> Command {
        self.command_of(&[&self.module], more)
    }

    /// `apply` where it likes, of these modules, with `more` options.
    pub(crate) fn command_of(&self, modules: &[&str], more: &[&str]) -> Command {
        let mut command = fused_lora();
        command.arg("apply");
        modules.iter().for_each(|module| _ = command.arg("--module").arg(module));
        for (option, path) in [
            ("--base", &self.base),
            ("--adapter", &self.adapter),
            ("--input", &self.input),
            ("--output", &self.output),
        ] {
            command.arg(option).arg(path);
        }
        command.args(more).current_dir(self.folder());
        command
    }

    pub(crate) fn apply(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Every file below the folder, to see what a run has left behind.
    pub(crate) fn files(&self) -> BTreeSet<OsString> {
        let mut files = BTreeSet::new();
        for folder in [self.folder(), &self.adapter] {
            files.extend(
                fs::read_dir(folder)
                    .into_iter()
                    .flatten()
                    .map(|entry| entry.unwrap().path().into_os_string()),
            );
        }
        files
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Fails the test unless the run was silent and successful.
#[track_caller]
pub(crate) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    // Progress is for terminals only, and data goes to the file.
    assert_eq!((stderr(output).as_str(), output.stdout.len()), ("", 0));
}

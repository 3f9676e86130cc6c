//! A file that appears whole or not at all.

use std::{
    fs::{self, Metadata},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// How the names of temporary files begin.
const PREFIX: &str = ".fused-lora-";

/// Where to write, checked.
pub(crate) struct Output {
    /// As the user spelled it, for messages.
    shown: PathBuf,
    /// The file itself, behind any symbolic link.
    path: PathBuf,
    /// What is there already.
    existing: Option<Metadata>,
}

impl Output {
    /// Checks that `path` can be written and is none of `inputs` (option and file). Nothing is created.
    pub(crate) fn check(path: &Path, inputs: &[(&str, &Path)]) -> Result<Output> {
        let shown = path.to_owned();
        match fs::metadata(path) {
            Ok(metadata) => {
                // Renaming over a device or a pipe would replace it by a file: /dev/null must survive.
                if !metadata.is_file() {
                    bail!("cannot write {}: it exists and is not a regular file", path.display());
                }
                for (option, input) in inputs {
                    // Under whatever names. An input that is not there is not the same.
                    if same_file::is_same_file(path, input).unwrap_or(false) {
                        bail!(
                            "cannot write {}: it is the same file as {} of {option}",
                            path.display(),
                            input.display()
                        );
                    }
                }
                // A rename would not ask.
                if metadata.permissions().readonly() {
                    bail!("cannot write {}: it is read-only", path.display());
                }
                let path =
                    path.canonicalize().with_context(|| format!("cannot write {}", shown.display()))?;
                Ok(Output { shown, path, existing: Some(metadata) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.is_symlink() {
                    bail!("cannot write {}: it is a symbolic link to nothing", path.display());
                }
                if path.file_name().is_none() {
                    bail!("cannot write {:?}: it names no file", path.display());
                }
                let folder = folder(path);
                if !folder.is_dir() {
                    bail!("cannot write {}: there is no folder {}", path.display(), folder.display());
                }
                Ok(Output { path: shown.clone(), shown, existing: None })
            }
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Writes a file without a name, or a temporary one, and puts that in its place. On failure, and where the
    /// process is killed, what was there is as it was.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let unnamed = || {
            #[cfg(target_os = "linux")]
            return self.write_unnamed(bytes);
            #[cfg(not(target_os = "linux"))]
            Ok(false)
        };
        unnamed()
            .and_then(|is_done| if is_done { Ok(()) } else { self.write_temporary(bytes) })
            .with_context(|| format!("cannot write {}", self.shown.display()))
    }

    /// Through a file that has no name until it is whole; false where the file system has no such files.
    #[cfg(target_os = "linux")]
    fn write_unnamed(&self, bytes: &[u8]) -> io::Result<bool> {
        use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
        use std::os::fd::AsRawFd;

        let (folder, mode) = (folder(&self.path), Mode::from_raw_mode(0o666));
        let Ok(file) = open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) else {
            return Ok(false);
        };
        let mut file = fs::File::from(file);
        if let Some(existing) = &self.existing {
            file.set_permissions(existing.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |to: &Path| linkat(CWD, &unnamed, CWD, to, AtFlags::SYMLINK_FOLLOW);
        if self.existing.is_none() && link(&self.path).is_ok() {
            return Ok(true);
        }
        // A link replaces nothing, so by way of a name beside it.
        let made = tempfile::Builder::new().prefix(PREFIX).make_in(folder, |path| Ok(link(path)?));
        match made {
            Ok(named) => named.persist(&self.path).map(|()| true).map_err(|error| error.error),
            Err(_) => Ok(false),
        }
    }

    fn write_temporary(&self, bytes: &[u8]) -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // tempfile's own choice is 0600; this is what any other new file gets, less the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder(&self.path))?;
        if let Some(existing) = &self.existing {
            file.as_file().set_permissions(existing.permissions())?;
        }
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// The folder of `path`; `.` for a bare name.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

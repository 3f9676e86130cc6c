//! Which file of a base model holds which tensor: a folder's files, an index of shards, or one file.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::{base_error::BaseError, files, foreign};

/// What the files of a model are.
pub(super) enum Files {
    /// The names of the tensors and of the shard of each.
    Indexed { index: PathBuf, map: BTreeMap<String, String> },
    /// Whole files, whose headers say what they hold.
    Listed(Vec<PathBuf>),
    /// A shard, of which others are missing; why they are thought to be.
    Shard { file: PathBuf, missing: String },
}

const INDEX: &str = ".safetensors.index.json";
/// What is looked for in a folder, in the order in which transformers and diffusers do.
const NAMES: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
];

/// Finds the files of the model at `path`: a file, a folder, or an index.
pub(super) fn files(path: &Path) -> Result<Files, BaseError> {
    if path.is_dir() {
        return folder(path);
    }
    if !path.exists() {
        let hint = if foreign::is_hub_name(path) {
            "there is no such file or folder; a model of a hub must be downloaded first: give its local folder"
        } else {
            "there is no such file or folder"
        };
        return Err(BaseError::NotThere { path: path.to_owned(), hint });
    }
    match path.extension() {
        Some(end) if end == "json" => indexed(path),
        _ => file(path),
    }
}

fn folder(folder: &Path) -> Result<Files, BaseError> {
    let names = names(folder)?;
    let known = NAMES.iter().copied().find(|name| names.iter().any(|n| n == name));
    let ending = |end: &str| names.iter().filter(|name| name.ends_with(end)).collect::<Vec<_>>();
    let (indices, weights) = (ending(INDEX), ending(".safetensors"));
    let chosen = match (known, &indices[..], &weights[..]) {
        (Some(name), ..) => name,
        (None, [index], _) => index,
        (None, [], [only]) => only,
        (None, [], [first, ..]) if shard(first).is_some_and(|(_, of)| of == weights.len()) => first,
        _ => {
            let fail = |problem: String| Err(BaseError::Folder { folder: folder.to_owned(), problem });
            if let (None, [], []) = (known, &indices[..], &weights[..]) {
                return fail(empty(&names));
            }
            let shown: Vec<_> =
                indices.iter().chain(&weights).take(4).map(|name| format!("{name:?}")).collect();
            return fail(format!("several files may be the model, such as {}: give one", shown.join(", ")));
        }
    };
    let chosen = folder.join(chosen);
    if chosen.extension() == Some(OsStr::new("json")) { indexed(&chosen) } else { file(&chosen) }
}

/// What a folder without safetensors files holds instead.
fn empty(names: &[String]) -> String {
    let has = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    let (what, name) = if let Some(name) = has(&[".bin", ".bin.index.json", ".pt", ".pth", ".ckpt"]) {
        ("a pickle of PyTorch: save the model as safetensors", name)
    } else if let Some(name) = has(&[".gguf"]) {
        ("a GGUF file: give the model's original safetensors files", name)
    } else if let Some(name) = has(&[".h5", ".msgpack", ".npz"]) {
        ("of another framework: save the model as safetensors", name)
    } else if let Some(name) = has(&["snapshots"]) {
        ("of a hub's cache: give the folder of one revision in it", name)
    } else {
        return "the folder holds no .safetensors file".to_owned();
    };
    format!("the folder holds no .safetensors file, but {name:?}, which is {what}")
}

fn names(folder: &Path) -> Result<Vec<String>, BaseError> {
    let io_error = |source| BaseError::Io { file: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error)? {
        if let Ok(name) = entry.map_err(io_error)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A file of a model: it alone, unless an index beside it lists it, or its name says that it is a shard.
fn file(path: &Path) -> Result<Files, BaseError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        return Ok(Files::Listed(vec![path.to_owned()]));
    };
    let shard = shard(name).filter(|(_, of)| *of > 1);
    let all = names(folder)?;
    for index in all.iter().filter(|name| name.ends_with(INDEX)) {
        match indexed(&folder.join(index)) {
            Ok(Files::Indexed { index, map }) if map.values().any(|file| file == name) => {
                return Ok(Files::Indexed { index, map });
            }
            // The index of another model beside a whole file does not matter.
            Err(error) if shard.is_some() => return Err(error),
            _ => {}
        }
    }
    let Some((start, of)) = shard else { return Ok(Files::Listed(vec![path.to_owned()])) };
    let parts: Vec<_> = (1..=of).map(|i| format!("{start}-{i:05}-of-{of:05}.safetensors")).collect();
    match parts.iter().find(|part| !all.contains(part)) {
        None => Ok(Files::Listed(parts.iter().map(|part| folder.join(part)).collect())),
        Some(missing) => {
            let missing =
                format!("it is one of {of} shards, and neither an index nor {missing} is beside it");
            Ok(Files::Shard { file: path.to_owned(), missing })
        }
    }
}

/// `model` and 14 of `model-00002-of-00014.safetensors`.
fn shard(name: &str) -> Option<(&str, usize)> {
    let (start, of) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (start, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(of)).then(|| Some((start, of.parse().ok()?))).flatten()
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn indexed(index: &Path) -> Result<Files, BaseError> {
    let fail = |problem: String| BaseError::Index { file: index.to_owned(), problem };
    let text = files::read_text(index).map_err(|source| BaseError::Io { file: index.to_owned(), source })?;
    let parsed: Result<Index, _> = serde_json::from_slice(&text);
    let map = match parsed {
        Ok(parsed) => parsed.weight_map,
        Err(error) => {
            let what = files::foreign_text(&text);
            return Err(fail(match what {
                Some(what) => format!("it is {what}"),
                None => format!("it is no index of shards: {error}"),
            }));
        }
    };
    if let Some(pickle) = map.values().find(|file| file.ends_with(".bin")) {
        return Err(fail(format!(
            "it lists pickles of PyTorch, such as {pickle:?}: save the model as safetensors"
        )));
    }
    for file in map.values() {
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if file.is_empty() || !inside {
            return Err(fail(format!("it lists a file outside of its folder: {file:?}")));
        }
    }
    Ok(Files::Indexed { index: index.to_owned(), map })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_known_by_their_names() {
        for (name, expected) in [
            ("model-00002-of-00014.safetensors", Some(("model", 14))),
            ("a-b-00001-of-00002.safetensors", Some(("a-b", 2))),
            ("model.safetensors", None),
            ("model-2-of-14.safetensors", None),
            ("model-00002-of-00014.bin", None),
        ] {
            assert_eq!(shard(name), expected, "{name}");
        }
    }
}

//! Files that people give instead of a safetensors file: what they are, and what to do.

/// The bytes of a file's beginning that [`recognise`] needs.
pub(super) const HEAD: usize = 64;

const PICKLE: &str = "a pickle of PyTorch (.bin, .pt), which is not read since it could run code: load it with \
                      transformers and save it with save_pretrained(..., safe_serialization=True)";
const HTML: &str = "an HTML page, not weights: a download saved the page of the file; fetch the file itself";
const JSON: &str = "JSON text, not weights: give the .safetensors file, or the folder of the model";

/// How each kind begins, what it is, and what to do.
const KINDS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", PICKLE),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"GGUF", "a GGUF file of llama.cpp: give the model's original safetensors files"),
    (b"ggml", "a GGML file of llama.cpp: give the model's original safetensors files"),
    (b"lmgg", "a GGML file of llama.cpp: give the model's original safetensors files"),
    (b"tjgg", "a GGML file of llama.cpp: give the model's original safetensors files"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository",
    ),
    (b"\x89HDF", "an HDF5 file of Keras or TensorFlow: save the model as safetensors"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"{", JSON),
    (b"[", JSON),
];

/// What a file that is no safetensors file is, by its first bytes.
pub(super) fn recognise(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if let Some((_, what)) = KINDS.iter().find(|(start, _)| head.starts_with(start)) {
        return Some(what);
    }
    let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
    let html = ["<!doctype", "<html", "<head", "<?xml"].iter().any(|start| text.starts_with(start));
    html.then_some(HTML)
}

/// Whether `path` looks like the name of a model on a hub: `org/name`.
pub(super) fn is_hub_name(path: &std::path::Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text.split_once('/').is_some_and(|(org, name)| part(org) && part(name) && !name.ends_with(".safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn files_are_known_by_their_beginning() {
        for (head, part) in [
            (&b"PK\x03\x04\0\0\x08\x08"[..], Some("pickle")),
            (b"\x80\x02}q", Some("pickle")),
            (b"GGUF\x03\0\0\0", Some("GGUF")),
            (b"version https://git-lfs.github.com/spec/v1\noid", Some("git lfs pull")),
            (b"\n <!DOCTYPE html><html>", Some("HTML")),
            (b"\xef\xbb\xbf<HTML>", Some("HTML")),
            (b"{\"weight_map\": {", Some("JSON")),
            (b"\x28\0\0\0\0\0\0\0{\"x\":", None),
            (b"", None),
        ] {
            let found = recognise(head);
            assert_eq!(found.is_some(), part.is_some(), "{head:?}: {found:?}");
            assert!(part.is_none_or(|part| found.unwrap().contains(part)), "{head:?}: {found:?}");
        }
    }

    #[test]
    fn names_on_a_hub() {
        for (path, expected) in [
            ("meta-llama/Llama-3.2-1B", true),
            ("org/my_adapter", true),
            ("adapter", false),
            ("./adapter", false),
            ("../adapter", false),
            ("/tmp/adapter", false),
            ("a/b/c", false),
            ("models/base.safetensors", false),
        ] {
            assert_eq!(is_hub_name(Path::new(path)), expected, "{path}");
        }
    }
}

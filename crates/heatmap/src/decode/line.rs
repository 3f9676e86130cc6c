//! What one line of the figure shows.

use fused_lora_records::Record;

use crate::select::is_base;

/// A method at a rank, in the order of the legend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// The layer without an adapter.
    Base,
    /// The layer with an adapter of this rank, fused.
    Fused(usize),
    /// A peer, or any other method, under a name that is the same for all element types.
    Other(String, usize),
}

impl Line {
    pub(crate) fn of(record: &Record) -> Line {
        match record.method.as_str() {
            _ if is_base(record) => Line::Base,
            "fused" => Line::Fused(record.rank),
            method => Line::Other(without_dtype(method, &record.dtype), record.rank),
        }
    }

    /// Whether it is base or fused.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Line::Other(..))
    }

    /// What the legend says.
    pub(crate) fn label(&self) -> String {
        match self {
            Line::Base => "base".to_owned(),
            Line::Fused(rank) => format!("fused, r = {rank}"),
            Line::Other(name, 0) => name.clone(),
            Line::Other(name, rank) => format!("{name}, r = {rank}"),
        }
    }

    /// The method and rank, as records have them.
    pub(crate) fn method_and_rank(&self) -> (&str, usize) {
        match self {
            Line::Base => ("base", 0),
            Line::Fused(rank) => ("fused", *rank),
            Line::Other(name, rank) => (name, *rank),
        }
    }
}

/// `torch-bf16/base` → `torch` in bf16, `gemmkit-f16-packed` → `gemmkit-packed` in f16: panels say the type,
/// and a peer has one line of the legend for all of its types.
fn without_dtype(method: &str, dtype: &str) -> String {
    // PyTorch says fp16 and fp32.
    let names = [dtype.to_owned(), dtype.replacen('f', "fp", 1)];
    let is_dtype = |word: &&str| names.iter().any(|name| name == word);
    let part = |part: &str| part.split('-').filter(|word| !is_dtype(word)).collect::<Vec<_>>().join("-");
    let method = method.strip_suffix("/base").unwrap_or(method);
    method.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_name_for_all_types() {
        for (method, dtype, name) in [
            ("torch-fp16/base", "f16", "torch"),
            ("torch-bf16/base", "bf16", "torch"),
            ("torch-fp32/base", "f32", "torch"),
            ("torch-bf16/peft-f32", "bf16", "torch/peft-f32"),
            ("gemmkit-f16-packed/base", "f16", "gemmkit-packed"),
            ("gemm-f32", "f32", "gemm"),
            ("gemm-f32", "f16", "gemm-f32"),
            ("ggml", "bf16", "ggml"),
            ("unfused", "f16", "unfused"),
        ] {
            assert_eq!(without_dtype(method, dtype), name, "{method} in {dtype}");
        }
    }
}

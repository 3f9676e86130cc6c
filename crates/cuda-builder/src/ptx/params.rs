//! Alignment of parameters. rustc 1.96 crashes on a kernel parameter whose type is `align(64)`, so it is
//! raised in the text.

use super::{PtxError, entry_name};

/// What a tensor map's address must be a multiple of, in bytes: CUDA driver API, `CUtensorMap`; PTX ISA,
/// "Tensor-map".
const TENSOR_MAP_ALIGN: u32 = 64;

/// The size of a tensor map, in bytes.
const TENSOR_MAP_BYTES: u32 = 128;

/// Raises the alignment of the first parameter of each entry in `entries` to that of a tensor map. The struct
/// that is passed there has its maps at multiples of as many bytes.
///
/// Its place among the parameters moves with it, and the driver knows: it passes a parameter by its number.
///
/// # Errors
///
/// [`PtxError::NoEntry`] if there is no such entry, [`PtxError::NoTensorMaps`] if its first parameter is no
/// array of bytes into which a map would fit.
pub(crate) fn align(ptx: &str, entries: &[String]) -> Result<String, PtxError> {
    if let Some(missing) = entries.iter().find(|entry| super::entries(ptx).all(|name| name != entry.as_str()))
    {
        return Err(PtxError::NoEntry { entry: missing.clone() });
    }
    let mut out = String::with_capacity(ptx.len());
    // The entry whose first parameter is still to come.
    let mut open: Option<&str> = None;
    for line in ptx.lines() {
        match open {
            Some(entry) => {
                let none = || PtxError::NoTensorMaps { entry: entry.to_owned() };
                out.push_str(&raise(line, entry).ok_or_else(none)?);
                open = None;
            }
            None => {
                out.push_str(line);
                open = entry_name(line).filter(|name| entries.iter().any(|entry| entry == name));
            }
        }
        out.push('\n');
    }
    match open {
        Some(entry) => Err(PtxError::NoTensorMaps { entry: entry.to_owned() }),
        None => Ok(out),
    }
}

/// The line `.param .align 8 .b8 gemm_param_0[200]` with at least a tensor map's alignment; `None` if it is
/// another.
fn raise(line: &str, entry: &str) -> Option<String> {
    let (before, after) = line.split_once(".param .align ")?;
    let (align, after) = after.split_once(' ')?;
    let bytes = after.strip_prefix(".b8 ")?.strip_prefix(entry)?.strip_prefix("_param_0[")?;
    let bytes: u32 = bytes.trim_end_matches(',').strip_suffix(']')?.parse().ok()?;
    let align = align.parse::<u32>().ok()?.max(TENSOR_MAP_ALIGN);
    (bytes >= TENSOR_MAP_BYTES).then(|| format!("{before}.param .align {align} {after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.version 8.0
.target sm_90a
.visible .entry gemm(
\t.param .align 8 .b8 gemm_param_0[320]
)
{
\tmov.b64 \t%rd1, gemm_param_0;
\tret;
}
.visible .entry gemm_64(
\t.param .align 8 .b8 gemm_64_param_0[128],
\t.param .align 8 .b8 gemm_64_param_1[128]
)
{
\tret;
}
.visible .entry shrink(
\t.param .u64 shrink_param_0
)
{
\tret;
}
.visible .entry nothing()
{
\tret;
}
";

    fn aligned(ptx: &str, entries: &[&str]) -> Result<String, PtxError> {
        align(ptx, &entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_parameter_of_the_named_entries_is_raised_and_nothing_else() {
        let expected = PTX.replace(".align 8 .b8 gemm_64_param_0", ".align 64 .b8 gemm_64_param_0");
        assert_eq!(aligned(PTX, &["gemm_64"]), Ok(expected.clone()));
        let both = expected.replace(".align 8 .b8 gemm_param_0", ".align 64 .b8 gemm_param_0");
        assert_eq!(aligned(PTX, &["gemm_64", "gemm"]), Ok(both));
        assert_eq!(aligned(PTX, &[]), Ok(PTX.to_owned()));
    }

    #[test]
    fn alignment_is_never_lowered() {
        let wide = PTX.replace(".align 8 .b8 gemm_param_0", ".align 256 .b8 gemm_param_0");
        assert_eq!(aligned(&wide, &["gemm"]), Ok(wide.clone()));
    }

    #[test]
    fn an_entry_that_is_not_there_is_named() {
        assert_eq!(aligned(PTX, &["gem"]), Err(PtxError::NoEntry { entry: "gem".to_owned() }));
    }

    #[test]
    fn parameters_without_room_for_a_map_are_refused() {
        let small = PTX.replace("gemm_param_0[320]", "gemm_param_0[127]");
        let cut = PTX.split_once("\t.param .u64").expect("the last parameter").0;
        for (ptx, entry) in [(PTX, "shrink"), (PTX, "nothing"), (&small, "gemm"), (cut, "shrink")] {
            assert_eq!(aligned(ptx, &[entry]), Err(PtxError::NoTensorMaps { entry: entry.to_owned() }));
        }
    }
}

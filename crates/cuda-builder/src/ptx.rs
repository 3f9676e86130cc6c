//! The compiler's PTX made into what is checked in: noise taken away, launch bounds and alignments put in,
//! leftovers refused.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};

use crate::spec::KernelSpec;

/// What a tensor map's address must be a multiple of, in bytes: CUDA driver API, `CUtensorMap`; PTX ISA,
/// "Tensor-map".
const TENSOR_MAP_ALIGN: u32 = 64;

/// The size of a tensor map, in bytes.
const TENSOR_MAP_BYTES: u32 = 128;

/// From LLVM's text to what is checked in, without the header. Without `specs`, entries stay as they are.
///
/// # Errors
///
/// All [`leftovers`]; rows that do not name each entry exactly once; parameters that cannot be read, or have
/// no room for the tensor maps of their row.
pub(crate) fn finish(raw: &str, specs: Option<&[KernelSpec]>) -> Result<String> {
    let text = tidy(raw);
    let leftovers = leftovers(&text);
    if !leftovers.is_empty() {
        bail!("{}", leftovers.join("\n"));
    }
    specs.map_or(Ok(text.clone()), |specs| with_directives(&text, specs))
}

/// Without comments, debug information, blank lines and blanks at the end of lines. What is left depends on
/// the program alone.
fn tidy(ptx: &str) -> String {
    let mut out = String::with_capacity(ptx.len());
    let mut is_in_section = false;
    for line in ptx.lines() {
        let line = without_comment(line).trim_end();
        let word = line.trim_start();
        is_in_section |= word.starts_with(".section");
        if is_in_section {
            is_in_section = word != "}";
            continue;
        }
        let is_debug = [".loc\t", ".loc ", ".file", "$L__tmp", "$L__func_", "$L__sec_"];
        if word.is_empty() || is_debug.iter().any(|start| word.starts_with(start)) {
            continue;
        }
        out.push_str(if line.starts_with(".target") { line.trim_end_matches(", debug") } else { line });
        out.push('\n');
    }
    out
}

/// The part of a line before `//`, unless that is inside a string.
fn without_comment(line: &str) -> &str {
    let is_outside = |at: &usize| line[..*at].matches('"').count().is_multiple_of(2);
    let start = line.match_indices("//").map(|(at, _)| at).find(is_outside);
    &line[..start.unwrap_or(line.len())]
}

/// All that must not be left over: functions that are no entries, and local memory.
#[must_use]
pub fn leftovers(ptx: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut entry = "";
    for line in ptx.lines() {
        if let Some(name) = entry_name(line) {
            entry = name;
        } else if let Some((_, after)) = line.split_once(".func") {
            // `.func (.param .b32 result) name(..)`
            let after = after.trim_start();
            let after = after.strip_prefix('(').and_then(|a| a.split_once(')')).map_or(after, |(_, a)| a);
            found.push(format!(
                "function `{}` is left over in the PTX. Everything must be inlined into its entry; most \
                 often a panic is left, of an index, a division or an overflow that the compiler cannot rule \
                 out",
                name(after)
            ));
        } else if line.trim_start().starts_with(".local") {
            found.push(format!(
                "entry `{entry}` has local memory: `{}`. Most often an array is indexed at run time, or a \
                 loop over it is not unrolled",
                line.trim()
            ));
        }
    }
    found
}

/// The entry that is declared on this line, such as `.visible .entry gemm(`.
fn entry_name(line: &str) -> Option<&str> {
    line.split_once(".entry ").map(|(_, after)| name(after))
}

/// The identifier that `text` starts with.
fn name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_$%".contains(c)));
    &text[..end.unwrap_or(text.len())]
}

/// The directives of a row, a line each. rustc has no attribute for them.
#[must_use]
pub fn directives(spec: &KernelSpec) -> String {
    format!(".maxntid {}, 1, 1\n.minnctapersm {}\n", spec.threads, spec.min_ctas)
}

/// Puts [`directives`] after the parameters of each entry, and raises the alignment of its first parameter
/// where that holds tensor maps: rustc 1.96 crashes on a kernel parameter whose type is `align(64)`.
///
/// The parameter's place among the others moves with its alignment, and the driver knows: it passes a
/// parameter by its number.
fn with_directives(ptx: &str, specs: &[KernelSpec]) -> Result<String> {
    for (at, KernelSpec { name, .. }) in specs.iter().enumerate() {
        let is_first = specs[..at].iter().all(|other| other.name != *name);
        ensure!(is_first, "the table of kernels has more than one row for `{name}`");
        let is_there = ptx.lines().filter_map(entry_name).any(|entry| entry == name);
        ensure!(is_there, "the table of kernels has a row for `{name}`, and the PTX has no such entry");
    }
    let mut out = String::with_capacity(ptx.len() + 64 * specs.len());
    // The row of the entry whose parameters are being read, and of that whose first one is still to come.
    let (mut open, mut first): (Option<&KernelSpec>, Option<&KernelSpec>) = (None, None);
    for line in ptx.lines() {
        let raised = first.take().map(|spec| raise(line, &spec.name)).transpose()?;
        out.push_str(&raised.unwrap_or(Cow::Borrowed(line)));
        out.push('\n');
        if let Some(entry) = entry_name(line) {
            let row = specs.iter().find(|spec| spec.name == entry);
            open = Some(row.with_context(|| format!("entry `{entry}` has no row in the table of kernels"))?);
            first = open.filter(|spec| spec.tensor_maps);
        }
        let Some(spec) = open else { continue };
        ensure!(!line.contains('{'), "cannot read the parameters of entry `{}`", spec.name);
        if line.ends_with(')') {
            out.push_str(&directives(spec));
            open = None;
        }
    }
    if let Some(spec) = open.or(first) {
        bail!("cannot read the parameters of entry `{}`", spec.name);
    }
    Ok(out)
}

/// The line `.param .align 8 .b8 gemm_param_0[200]` with at least a tensor map's alignment.
fn raise<'a>(line: &str, entry: &str) -> Result<Cow<'a, str>> {
    let raised = || {
        let (before, after) = line.split_once(".param .align ")?;
        let (align, after) = after.split_once(' ')?;
        let bytes = after.strip_prefix(".b8 ")?.strip_prefix(entry)?.strip_prefix("_param_0[")?;
        let bytes: u32 = bytes.trim_end_matches(',').strip_suffix(']')?.parse().ok()?;
        let align = align.parse::<u32>().ok()?.max(TENSOR_MAP_ALIGN);
        (bytes >= TENSOR_MAP_BYTES).then(|| format!("{before}.param .align {align} {after}").into())
    };
    raised().with_context(|| {
        format!(
            "entry `{entry}` has no struct of 128 bytes or more as its first parameter, where tensor \
             maps could be"
        )
    })
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

    /// Rows for all entries of [`PTX`], with tensor maps in those that are named.
    fn rows(tensor_maps: &[&str]) -> Vec<KernelSpec> {
        let row = |&(name, threads): &(&str, u32)| KernelSpec {
            name: name.to_owned(),
            threads,
            min_ctas: threads / 64,
            tensor_maps: tensor_maps.contains(&name),
            ..KernelSpec::default()
        };
        [("gemm", 256), ("shrink", 64), ("nothing", 128), ("gemm_64", 384)].iter().map(row).collect()
    }

    fn refused(ptx: &str, specs: &[KernelSpec]) -> String {
        finish(ptx, Some(specs)).unwrap_err().to_string()
    }

    #[test]
    fn comments_blank_lines_and_debug_information_go() {
        let llvm = "//\n// Generated by LLVM NVPTX Back-End\n//\n\n.version 7.0\n.target sm_80, debug\n\n\
            \t// .globl\tgemm\n$L__func_begin0:\n$L__tmp0:\n\
            $L__BB0_1:                              // =>This Inner Loop Header: Depth=1\n\
            \t.loc\t1 2 3\n.file 1 \"a.rs\"\n\t.pragma \"a//b\"; // c\n\tret;  \n\
            \t.section\t.debug_info\n\t{\n.b8 1\n\t}\n}\n";
        let tidy = ".version 7.0\n.target sm_80\n$L__BB0_1:\n\t.pragma \"a//b\";\n\tret;\n}\n";
        assert_eq!(finish(llvm, None).expect("nothing is left over"), tidy);
        assert_eq!(finish(PTX, None).expect("nothing is left over"), PTX);
    }

    #[test]
    fn leftovers_are_refused_by_name() {
        let local = ".local .align 4 .b8 __local_depot0[512];";
        let ptx = format!(
            ".func _ZN4core9panicking5panicE(\n)\n.visible .func  (.param .b32 func_retval0) helper(\n)\n\
             .extern .func memcpy(\n)\n{}",
            PTX.replacen("\tret;", local, 1)
        );
        let text = finish(&ptx, None).unwrap_err().to_string();
        for (line, part) in text.lines().zip([
            "function `_ZN4core9panicking5panicE` ",
            "function `helper` ",
            "function `memcpy` ",
            &format!("entry `gemm` has local memory: `{local}`"),
        ]) {
            assert!(line.starts_with(part), "{line}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn bounds_go_after_the_parameters_and_maps_are_aligned_where_there_are_any() {
        let bounded = PTX
            .replace("[320]\n)\n", "[320]\n)\n.maxntid 256, 1, 1\n.minnctapersm 4\n")
            .replace("1[128]\n)\n", "1[128]\n)\n.maxntid 384, 1, 1\n.minnctapersm 6\n")
            .replace("shrink_param_0\n)\n", "shrink_param_0\n)\n.maxntid 64, 1, 1\n.minnctapersm 1\n")
            .replace("nothing()\n", "nothing()\n.maxntid 128, 1, 1\n.minnctapersm 2\n");
        let found = |maps: &[&str]| finish(PTX, Some(&rows(maps))).expect("rows fit");
        assert_eq!(found(&[]), bounded);
        let one = bounded.replace(".align 8 .b8 gemm_64_param_0", ".align 64 .b8 gemm_64_param_0");
        assert_eq!(found(&["gemm_64"]), one);
        let both = one.replace(".align 8 .b8 gemm_param_0", ".align 64 .b8 gemm_param_0");
        assert_eq!(found(&["gemm", "gemm_64"]), both);
        // Alignment is never lowered.
        let wide = PTX.replace(".align 8 .b8 gemm_param_0", ".align 256 .b8 gemm_param_0");
        assert!(
            finish(&wide, Some(&rows(&["gemm"]))).expect("rows fit").contains(".align 256 .b8 gemm_param_0")
        );
    }

    #[test]
    fn each_entry_has_one_row() {
        let all = rows(&[]);
        assert_eq!(refused(PTX, &all[1..]), "entry `gemm` has no row in the table of kernels");
        let twice = [&all[..], &all[1..2]].concat();
        assert_eq!(refused(PTX, &twice), "the table of kernels has more than one row for `shrink`");
        let cut = PTX.replace(".visible .entry nothing()\n{\n\tret;\n}\n", "");
        let missing = "the table of kernels has a row for `nothing`, and the PTX has no such entry";
        assert_eq!(refused(&cut, &all), missing);
    }

    #[test]
    fn parameters_that_cannot_be_read_are_refused() {
        for (entry, old, new) in [
            ("gemm", "[320]\n)\n{", "[320]\n) .reqntid 3 {"),
            ("nothing", "nothing()\n{", "nothing() .reqntid 3 {"),
            ("nothing", "nothing()\n{\n\tret;\n}\n", "nothing(\n"),
        ] {
            let expected = format!("cannot read the parameters of entry `{entry}`");
            assert_eq!(refused(&PTX.replace(old, new), &rows(&[])), expected);
        }
    }

    #[test]
    fn parameters_without_room_for_a_map_are_refused() {
        let small = PTX.replace("gemm_param_0[320]", "gemm_param_0[127]");
        for (ptx, entry) in [(PTX, "shrink"), (PTX, "nothing"), (&small, "gemm")] {
            let expected =
                format!("entry `{entry}` has no struct of 128 bytes or more as its first parameter");
            let found = refused(ptx, &rows(&[entry]));
            assert!(found.starts_with(&expected), "{found}");
        }
    }
}

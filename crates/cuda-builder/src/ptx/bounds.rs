//! Launch bounds. rustc has no attribute for them, so they are put into the text.

use super::{PtxError, entries, entry_name};

/// How an entry is launched. PTX ISA 11.4, `.maxntid` and `.minnctapersm`; 11.5, `.maxclusterrank`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchBounds {
    /// The entry's name.
    pub entry: String,
    /// Threads of a CTA, in x alone.
    pub threads: u32,
    /// CTAs that must fit into a multiprocessor at once: with `threads`, this bounds the registers of a thread.
    pub min_ctas: u32,
    /// The most CTAs of a cluster, where that is to be fixed. It does not make clusters: the launch does.
    pub max_cluster: Option<u32>,
}

impl LaunchBounds {
    /// The directives, a line each.
    #[must_use]
    pub fn directives(&self) -> String {
        let cluster = self.max_cluster.map(|ctas| format!(".maxclusterrank {ctas}\n")).unwrap_or_default();
        format!(".maxntid {}, 1, 1\n.minnctapersm {}\n{cluster}", self.threads, self.min_ctas)
    }
}

/// Puts [`LaunchBounds::directives`] after the parameters of each entry.
///
/// # Errors
///
/// [`PtxError::NoBounds`], [`PtxError::NoEntry`] and [`PtxError::Twice`] if `bounds` does not name each entry exactly once;
/// [`PtxError::Malformed`].
pub(crate) fn insert(ptx: &str, bounds: &[LaunchBounds]) -> Result<String, PtxError> {
    for (at, row) in bounds.iter().enumerate() {
        if bounds[..at].iter().any(|other| other.entry == row.entry) {
            return Err(PtxError::Twice { entry: row.entry.clone() });
        }
        if !entries(ptx).any(|entry| entry == row.entry) {
            return Err(PtxError::NoEntry { entry: row.entry.clone() });
        }
    }

    let mut out = String::with_capacity(ptx.len() + 64 * bounds.len());
    // The entry whose parameters are being read.
    let mut open: Option<&str> = None;
    for line in ptx.lines() {
        open = entry_name(line).or(open);
        out.push_str(line);
        out.push('\n');
        let Some(entry) = open else { continue };
        if line.contains('{') {
            return Err(PtxError::Malformed { entry: entry.to_owned() });
        }
        if line.ends_with(')') {
            let row = bounds
                .iter()
                .find(|row| row.entry == entry)
                .ok_or_else(|| PtxError::NoBounds { entry: entry.to_owned() })?;
            out.push_str(&row.directives());
            open = None;
        }
    }
    match open {
        Some(entry) => Err(PtxError::Malformed { entry: entry.to_owned() }),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.version 7.0
.visible .entry gemm(
\t.param .align 8 .b8 gemm_param_0[200]
)
{
\tret;
}
.visible .entry shrink()
{
\tret;
}
";

    fn row(entry: &str, threads: u32, min_ctas: u32) -> LaunchBounds {
        LaunchBounds { entry: entry.to_owned(), threads, min_ctas, max_cluster: None }
    }

    #[test]
    fn bounds_go_after_each_parameter_list() {
        let out = insert(PTX, &[row("shrink", 64, 4), row("gemm", 256, 1)]).expect("both are there");
        assert!(out.contains("gemm_param_0[200]\n)\n.maxntid 256, 1, 1\n.minnctapersm 1\n{\n"), "{out}");
        assert!(out.contains(".entry shrink()\n.maxntid 64, 1, 1\n.minnctapersm 4\n{\n"), "{out}");
        assert_eq!(out.lines().count(), PTX.lines().count() + 4);
    }

    #[test]
    fn the_largest_cluster_goes_in_where_it_is_given() {
        let clustered = LaunchBounds { max_cluster: Some(8), ..row("gemm", 384, 1) };
        let out = insert(PTX, &[row("shrink", 64, 4), clustered]).expect("both are there");
        assert!(out.contains(".maxntid 384, 1, 1\n.minnctapersm 1\n.maxclusterrank 8\n{\n"), "{out}");
        assert!(out.contains(".maxntid 64, 1, 1\n.minnctapersm 4\n{\n"), "{out}");
    }

    #[test]
    fn every_entry_needs_a_row() {
        let error = insert(PTX, &[row("gemm", 256, 1)]);
        assert_eq!(error, Err(PtxError::NoBounds { entry: "shrink".to_owned() }));
    }

    #[test]
    fn every_row_needs_an_entry() {
        let error = insert(PTX, &[row("gemm", 256, 1), row("shrink", 64, 1), row("expand", 64, 1)]);
        assert_eq!(error, Err(PtxError::NoEntry { entry: "expand".to_owned() }));
    }

    #[test]
    fn no_row_twice() {
        let error = insert(PTX, &[row("gemm", 256, 1), row("shrink", 64, 1), row("gemm", 64, 1)]);
        assert_eq!(error, Err(PtxError::Twice { entry: "gemm".to_owned() }));
    }

    #[test]
    fn directives_between_parameters_and_body_are_refused() {
        let rows = [row("gemm", 1, 1), row("shrink", 1, 1)];
        for (entry, old, new) in [
            ("gemm", "[200]\n)\n{", "[200]\n) .reqntid 3 {"),
            ("shrink", "shrink()", "shrink() .reqntid 3 {"),
        ] {
            let error = insert(&PTX.replace(old, new), &rows);
            assert_eq!(error, Err(PtxError::Malformed { entry: entry.to_owned() }));
        }
    }
}

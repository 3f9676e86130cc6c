//! Instructions by their place in the kernels' source: file, function, and which of its kind it is there.
//! Line numbers would move with every edit.

use std::{fmt, path::Path};

use fused_lora_simt::{Op, Site, SiteInfo};

use fused_lora_tests::functions::function_at;

/// One instruction of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Folder in `kernels/src`.
    pub(super) folder: &'static str,
    /// Name of the file.
    pub(super) file: &'static str,
    /// Function, or `Type::method`.
    pub(super) function: &'static str,
    pub(super) op: Op,
    /// Which of the function's instructions of this kind, from 0, in the order of the source.
    pub(super) nth: usize,
}

/// Shorthand for tables: a place in `sm80/`.
pub(super) const fn sm80(file: &'static str, function: &'static str, op: Op, nth: usize) -> Place {
    Place { folder: "sm80", file, function, op, nth }
}

/// A place in `sm90/`.
pub(super) const fn sm90(file: &'static str, function: &'static str, op: Op, nth: usize) -> Place {
    Place { folder: "sm90", ..sm80(file, function, op, nth) }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, file, function, op, nth } = self;
        write!(f, "{op} {nth} in {function} of {folder}/{file}")
    }
}

/// The sites that runs have met, with their functions.
pub(super) struct Located {
    /// In the order of the source.
    sites: Vec<(SiteInfo, Function)>,
}

/// A function of the kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    folder: String,
    file: String,
    /// Its name, or `Type::method`.
    name: String,
}

impl Located {
    /// Finds the functions of sites. Those outside of `sm80/` and `sm90/` are left out.
    pub(super) fn new(mut sites: Vec<SiteInfo>) -> Self {
        sites.sort();
        sites.dedup_by_key(|site| (site.file, site.line, site.column, site.op));
        let sites = sites
            .into_iter()
            .filter_map(|site| {
                let path = Path::new(site.file);
                let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
                let (folder, file) = (name(path.parent()?)?, name(path)?);
                if folder != "sm80" && folder != "sm90" {
                    return None;
                }
                let function = function_at(site.file, site.line);
                let name = function.unwrap_or_else(|| panic!("{site} is in no function")).name.clone();
                Some((site, Function { folder, file, name }))
            })
            .collect();
        Self { sites }
    }

    /// The name of an instruction's place.
    pub(super) fn name(&self, info: &SiteInfo) -> Option<String> {
        let same = |site: &SiteInfo| {
            (site.file, site.line, site.column, site.op) == (info.file, info.line, info.column, info.op)
        };
        let (site, function) = self.sites.iter().find(|(site, _)| same(site))?;
        let nth = self.alike(site.op, |f| f == function).position(|other| other == site)?;
        let Function { folder, file, name } = function;
        Some(format!("{} {nth} in {name} of {folder}/{file}", site.op))
    }

    /// The site of a place, if it was met.
    pub(super) fn find(&self, place: &Place) -> Option<Site> {
        let Place { folder, file, function, op, nth } = *place;
        self.alike(op, |f| f.folder == folder && f.file == file && f.name == function)
            .nth(nth)
            .map(everywhere)
    }

    fn alike(&self, op: Op, wanted: impl Fn(&Function) -> bool) -> impl Iterator<Item = &SiteInfo> {
        self.sites.iter().filter(move |(site, f)| site.op == op && wanted(f)).map(|(site, _)| site)
    }
}

/// All copies of an instruction in the PTX.
fn everywhere(site: &SiteInfo) -> Site {
    Site { ptx: None, ..Site::at(site) }
}

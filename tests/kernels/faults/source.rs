//! Instructions by their place in the kernels' source: file, function, and which of its kind it is there.
//! Line numbers would move with every edit.

use std::{collections::HashMap, fmt, fs, path::Path};

use fused_lora_simt::{Op, Site, SiteInfo};
use syn::{
    ImplItemFn, ItemFn, ItemImpl, Type,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// One instruction of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Name of the file in `kernels/src/sm80`.
    pub(super) file: &'static str,
    /// Function, or `Type::method`.
    pub(super) function: &'static str,
    pub(super) op: Op,
    /// Which of the function's instructions of this kind, from 0, in the order of the source.
    pub(super) nth: usize,
}

/// Shorthand for tables.
pub(super) const fn at(file: &'static str, function: &'static str, op: Op, nth: usize) -> Place {
    Place { file, function, op, nth }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {} of {}", self.op, self.nth, self.function, self.file)
    }
}

/// The sites that runs have met, with their functions.
pub(super) struct Located {
    /// In the order of the source.
    sites: Vec<(SiteInfo, String, String)>,
}

impl Located {
    /// Finds the functions of sites. Those outside of `sm80/` (taps have names of their own) are left out.
    pub(super) fn new(mut sites: Vec<SiteInfo>) -> Self {
        sites.sort();
        sites.dedup_by_key(|site| (site.file, site.line, site.column, site.op));
        let mut functions = HashMap::new();
        let sites = sites
            .into_iter()
            .filter(|site| site.file.contains("sm80"))
            .map(|site| {
                let file = Path::new(site.file).file_name().unwrap().to_string_lossy().into_owned();
                let functions = functions.entry(site.file).or_insert_with(|| functions_of(&file));
                // The innermost one begins last.
                let function = functions.iter().filter(|f| f.lines.contains(&(site.line as usize)));
                let function = function.max_by_key(|f| *f.lines.start());
                let name = function.unwrap_or_else(|| panic!("{site} is in no function")).name.clone();
                (site, file, name)
            })
            .collect();
        Self { sites }
    }

    /// All instructions of some kinds, each with a mutation's site and its place.
    pub(super) fn all<'a>(&'a self, ops: &'a [Op]) -> impl Iterator<Item = (Op, Site, String)> + 'a {
        self.sites.iter().filter(|(site, ..)| ops.contains(&site.op)).map(|(site, file, function)| {
            let nth = self.alike(site.op, file, function).position(|other| other == site).unwrap();
            (site.op, Site::at(site), format!("{} {nth} in {function} of {file}", site.op))
        })
    }

    /// The site of a place, if it was met.
    pub(super) fn find(&self, place: &Place) -> Option<Site> {
        self.alike(place.op, place.file, place.function).nth(place.nth).map(Site::at)
    }

    fn alike<'a>(&'a self, op: Op, file: &'a str, function: &'a str) -> impl Iterator<Item = &'a SiteInfo> {
        self.sites
            .iter()
            .filter(move |(s, f, name)| s.op == op && f == file && name == function)
            .map(|(s, ..)| s)
    }
}

struct Function {
    name: String,
    lines: std::ops::RangeInclusive<usize>,
}

#[derive(Default)]
struct Functions {
    found: Vec<Function>,
    of: Option<String>,
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_impl(&mut self, node: &'ast ItemImpl) {
        if let Type::Path(path) = &*node.self_ty {
            self.of = path.path.segments.last().map(|segment| segment.ident.to_string());
        }
        visit::visit_item_impl(self, node);
        self.of = None;
    }

    fn visit_impl_item_fn(&mut self, node: &'ast ImplItemFn) {
        let of = self.of.as_deref().unwrap_or_default();
        let name = format!("{of}::{}", node.sig.ident);
        self.found.push(Function { name, lines: node.span().start().line..=node.span().end().line });
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_item_fn(&mut self, node: &'ast ItemFn) {
        let name = node.sig.ident.to_string();
        self.found.push(Function { name, lines: node.span().start().line..=node.span().end().line });
        visit::visit_item_fn(self, node);
    }
}

fn functions_of(file: &str) -> Vec<Function> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("kernels/src/sm80").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(&text).expect("it compiles"));
    functions.found
}

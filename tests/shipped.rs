//! The PTX that ships, on the strict machine.

use std::{collections::HashMap, fs, ops::RangeInclusive, path::Path, sync::LazyLock};

use fused_lora_kernels::ptx;
use fused_lora_simt::{
    Launch, Place,
    ptx::{Lines, Module},
};
use syn::{
    Attribute, ImplItemFn, ItemFn,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// The modules, each read once: the kernels', and those of single instructions.
static MODULES: LazyLock<[Module; 4]> = LazyLock::new(|| {
    [
        ("sm_80.ptx", ptx::SM80, include_str!("../kernels/ptx/sm_80.lines")),
        ("sm_90a.ptx", ptx::SM90A, include_str!("../kernels/ptx/sm_90a.lines")),
        (
            "sm_80_instructions.ptx",
            ptx::SM80_INSTRUCTIONS,
            include_str!("../kernels/ptx/sm_80_instructions.lines"),
        ),
        (
            "sm_90a_instructions.ptx",
            ptx::SM90A_INSTRUCTIONS,
            include_str!("../kernels/ptx/sm_90a_instructions.lines"),
        ),
    ]
    .map(|(name, text, lines)| {
        let lines = Lines::parse(lines).unwrap_or_else(|line| panic!("line {line} of the lines of {name}"));
        let module = Module::parse(name, text).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        module.with_lines(lines, speaks_for_its_caller)
    })
});

/// A launch of an entry with one parameter, of so many CTAs, threads of each, and bytes of shared memory.
pub(crate) fn launch<T: Copy>(name: &str, params: &T, [grid, threads, shared_bytes]: [u32; 3]) -> Launch {
    let find = |module: &'static Module| Some((module, module.entry(name)?));
    let (module, entry) = MODULES.iter().find_map(find).unwrap_or_else(|| panic!("no entry {name}"));
    let bytes = entry.parameter_bytes() as usize;
    assert!(bytes <= size_of::<T>(), "{name} takes {bytes} bytes");
    // SAFETY: `params` is a live value of at least so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast::<u8>(), bytes) };
    module.launch(entry, bytes, grid, threads, shared_bytes)
}

/// Whether a place is in the standard library, among the wrappers of instructions in `src/device`, or in another function of the kernels
/// that is marked `#[track_caller]`: reports and faults name where it is called.
fn speaks_for_its_caller(place: &Place) -> bool {
    let line = place.line as usize;
    place.file.starts_with("library/")
        || place.file.contains("/src/device/")
        || TRACKED
            .get(place.file)
            .is_some_and(|functions| functions.iter().any(|lines| lines.contains(&line)))
}

/// By file, the lines of the functions that are marked.
static TRACKED: LazyLock<HashMap<String, Vec<RangeInclusive<usize>>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut tracked = HashMap::new();
    let mut folders = vec![root.join("kernels/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut functions = Tracked::default();
            functions.visit_file(&syn::parse_file(&text).expect("it compiles"));
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            tracked.insert(name, functions.0);
        }
    }
    tracked
});

#[derive(Default)]
struct Tracked(Vec<RangeInclusive<usize>>);

impl Tracked {
    fn see(&mut self, attributes: &[Attribute], lines: RangeInclusive<usize>) {
        let is_tracked = |attribute: &Attribute| match &attribute.meta {
            syn::Meta::Path(path) => path.is_ident("track_caller"),
            syn::Meta::List(list) => {
                list.path.is_ident("cfg_attr") && list.tokens.to_string().contains("track_caller")
            }
            syn::Meta::NameValue(_) => false,
        };
        if attributes.iter().any(is_tracked) {
            self.0.push(lines);
        }
    }
}

impl<'ast> Visit<'ast> for Tracked {
    fn visit_item_fn(&mut self, node: &'ast ItemFn) {
        self.see(&node.attrs, node.span().start().line..=node.span().end().line);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast ImplItemFn) {
        self.see(&node.attrs, node.span().start().line..=node.span().end().line);
        visit::visit_impl_item_fn(self, node);
    }
}

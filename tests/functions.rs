//! The functions of the kernels' source, by their lines.

use std::{collections::HashMap, fs, ops::RangeInclusive, path::Path, sync::LazyLock};

use syn::{
    Attribute, ImplItemFn, ItemFn, ItemImpl, Type,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Its name, or `Type::method`.
    pub name: String,
    lines: RangeInclusive<usize>,
    /// Whether it is marked `#[track_caller]`: it speaks for its caller.
    pub is_tracked: bool,
}

/// The innermost function that has a line of a file, by the file's path in the workspace.
pub fn function_at(file: &str, line: u32) -> Option<&'static Function> {
    let holds = |function: &&Function| function.lines.contains(&(line as usize));
    // The innermost one begins last.
    FUNCTIONS.get(file)?.iter().filter(holds).max_by_key(|function| *function.lines.start())
}

static FUNCTIONS: LazyLock<HashMap<String, Vec<Function>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut all = HashMap::new();
    let mut folders = vec![root.join("kernels/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let mut functions = Functions::default();
                functions.visit_file(&syn::parse_file(&text).expect("it compiles"));
                let name =
                    path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
                all.insert(name, functions.found);
            }
        }
    }
    all
});

#[derive(Default)]
struct Functions {
    found: Vec<Function>,
    of: Option<String>,
}

impl Functions {
    fn see(&mut self, name: String, attributes: &[Attribute], lines: RangeInclusive<usize>) {
        let is_tracked = attributes.iter().any(|attribute| attribute.path().is_ident("track_caller"));
        self.found.push(Function { name, lines, is_tracked });
    }
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
        let lines = node.span().start().line..=node.span().end().line;
        self.see(format!("{of}::{}", node.sig.ident), &node.attrs, lines);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_item_fn(&mut self, node: &'ast ItemFn) {
        let lines = node.span().start().line..=node.span().end().line;
        self.see(node.sig.ident.to_string(), &node.attrs, lines);
        visit::visit_item_fn(self, node);
    }
}

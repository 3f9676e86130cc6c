//! No files import each other in a circle: each can be read before the files that need it.
//!
//! A file *imports* another if it names an item that is defined there: in a `use`, in a path, or among the
//! arguments of a macro. A name that comes by way of a re-export or a glob counts for the file that defines
//! the item. Re-exports are imports themselves, and so is a glob, of its module; `mod child;` is none. Which
//! methods are called is not seen, since it depends on types. What stands in `#[cfg(test)] mod tests { … }`
//! is left out: tests may use files that build on the one that they test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use syn::{
    Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Macro, Meta, MetaNameValue, UseTree,
    visit::{self, Visit},
};

#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: usize,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    /// What a name means that a `use` brings.
    uses: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// All paths that stand in it.
    named: Vec<Vec<String>>,
}

/// The modules of a crate. Number 0 is its root.
#[derive(Default)]
struct Crate {
    modules: Vec<Module>,
    /// The module that is being read, and the folder that its children are in.
    at: usize,
    folder: PathBuf,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut this = Self { folder: root.parent().expect("a folder").to_owned(), ..Self::default() };
        this.add(root, |this| this.read_file(root));
        this
    }

    /// Adds a module to the one that is being read, and reads it.
    fn add(&mut self, file: &Path, read: impl FnOnce(&mut Self)) -> usize {
        let (parent, this) = (self.at, self.modules.len());
        self.modules.push(Module { file: file.to_owned(), parent, ..Module::default() });
        self.at = this;
        read(self);
        self.at = parent;
        this
    }

    fn read_file(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let source = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.visit_file(&source);
    }

    fn name(&mut self, path: Vec<String>) {
        self.modules[self.at].named.push(path);
    }

    fn read_use(&mut self, tree: &UseTree, before: &[String]) {
        let join = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(tree) => return self.read_use(&tree.tree, &join(&tree.ident)),
            UseTree::Group(tree) => return tree.items.iter().for_each(|tree| self.read_use(tree, before)),
            UseTree::Glob(_) => {
                self.modules[self.at].globs.push(before.to_vec());
                return self.name([before, &["*".to_owned()]].concat());
            }
            UseTree::Name(tree) => (&tree.ident, join(&tree.ident)),
            UseTree::Rename(tree) => (&tree.rename, join(&tree.ident)),
        };
        let name = if name == "self" { before.last().cloned() } else { Some(name.to_string()) };
        self.modules[self.at].uses.insert(name.expect("something is before self"), path.clone());
        self.name(path);
    }

    /// The paths among a macro's tokens.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) => self.name(std::mem::replace(&mut path, vec![name.to_string()])),
                TokenTree::Group(group) => {
                    self.name(std::mem::take(&mut path));
                    self.read_tokens(group.stream());
                }
                _ => self.name(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.name(path);
    }

    /// Where a path of a module leads: a module, and whether to an item of it. None if that is outside of the
    /// crate.
    fn find(&self, from: usize, path: &[String], depth: usize) -> Option<(usize, bool)> {
        // What a `use` names as itself is outside.
        let depth = depth.checked_sub(1)?;
        let mut at = from;
        for (index, name) in path.iter().enumerate() {
            let this = &self.modules[at];
            let is_last = index + 1 == path.len();
            let used = this.uses.get(name).map(|path| self.find(at, path, depth));
            at = match (name.as_str(), used, this.children.get(name)) {
                ("crate", ..) => 0,
                ("self", ..) => at,
                ("super", ..) => this.parent,
                // Of an item and a module with one name, the module is meant where more follows.
                _ if is_last && this.items.contains(name) => return Some((at, true)),
                (_, Some(Some((module, true))), _) if is_last => return Some((module, true)),
                (.., Some(&child)) => child,
                _ if this.items.contains(name) => return Some((at, true)),
                (_, Some(Some((module, false))), _) => module,
                (_, Some(elsewhere), _) => return elsewhere,
                _ => {
                    let globs = this.globs.iter().filter_map(|glob| self.find(at, glob, depth));
                    let mut found = globs
                        .filter(|&(module, is_item)| !is_item && module != at)
                        .filter_map(|(module, _)| self.find(module, &path[index..], depth));
                    // What macros define is not known, but the module that must have it. So it is with a
                    // glob's `*`.
                    return found.next().or_else(|| (index > 0).then_some((at, true)));
                }
            };
        }
        Some((at, false))
    }

    /// Which files each file imports.
    fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut imports = BTreeMap::<&Path, BTreeSet<&Path>>::new();
        for (at, module) in self.modules.iter().enumerate() {
            let items =
                module.named.iter().filter_map(|path| self.find(at, path, 16)).filter(|found| found.1);
            let files = items.map(|(module, _)| self.modules[module].file.as_path());
            imports.entry(&module.file).or_default().extend(files.filter(|&file| file != module.file));
        }
        imports
    }

    /// The imports by which files are in circles, or between two of them, in words.
    fn circles(&self) -> Vec<String> {
        let mut imports: BTreeSet<_> = self
            .imports()
            .into_iter()
            .flat_map(|(file, all)| all.into_iter().map(move |to| (file, to)))
            .collect();
        // Whoever imports nothing, or is imported by nobody, is in none.
        loop {
            let (from, to): (BTreeSet<_>, BTreeSet<_>) = imports.iter().copied().unzip();
            let count = imports.len();
            imports.retain(|(file, import)| to.contains(file) && from.contains(import));
            if imports.len() == count {
                break;
            }
        }
        imports
            .iter()
            .map(|(file, import)| format!("{} imports {}", file.display(), import.display()))
            .collect()
    }
}

impl<'ast> Visit<'ast> for Crate {
    fn visit_item(&mut self, node: &'ast Item) {
        let name = match node {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.modules[self.at].items.extend(name.map(ToString::to_string));
        visit::visit_item(self, node);
    }

    fn visit_item_mod(&mut self, node: &'ast ItemMod) {
        let of_tests = |meta: &Meta| matches!(meta, Meta::List(list) if list.tokens.to_string() == "test");
        if node.content.is_some() && node.attrs.iter().any(|attribute| of_tests(&attribute.meta)) {
            return;
        }
        let name = node.ident.to_string();
        let (file, before) = (self.modules[self.at].file.clone(), self.folder.clone());
        let child = if let Some((_, items)) = &node.content {
            self.folder.push(&name);
            self.add(&file, |this| items.iter().for_each(|item| this.visit_item(item)))
        } else {
            let given = node.attrs.iter().find_map(|attribute| match &attribute.meta {
                Meta::NameValue(MetaNameValue {
                    path,
                    value: Expr::Lit(ExprLit { lit: Lit::Str(text), .. }),
                    ..
                }) if path.is_ident("path") => Some(file.with_file_name(text.value())),
                _ => None,
            });
            let beside = self.folder.join(format!("{name}.rs"));
            self.folder.push(&name);
            if let Some(folder) = given.as_ref().and_then(|file| file.parent()) {
                self.folder = folder.to_owned();
            }
            let inside = self.folder.join("mod.rs");
            let file = given.unwrap_or(if beside.exists() { beside } else { inside });
            self.add(&file, |this| this.read_file(&file))
        };
        self.folder = before;
        // Of two with one name, for two platforms, the first is meant.
        self.modules[self.at].children.entry(name).or_insert(child);
    }

    fn visit_item_use(&mut self, node: &'ast ItemUse) {
        if node.leading_colon.is_none() {
            self.read_use(&node.tree, &[]);
        }
    }

    fn visit_path(&mut self, node: &'ast syn::Path) {
        if node.leading_colon.is_none() {
            self.name(node.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, node);
    }

    fn visit_macro(&mut self, node: &'ast Macro) {
        self.visit_path(&node.path);
        self.read_tokens(node.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("cargo answers with JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let mut all = Vec::new();
    for target in packages.iter().flat_map(|package| package["targets"].as_array().expect("a list")) {
        all.extend(Crate::read(Path::new(target["src_path"].as_str().expect("a path"))).circles());
    }
    assert!(packages.len() >= 12, "{} packages are not all", packages.len());
    assert!(all.is_empty(), "circles of imports:\n{}", all.join("\n"));
}

/// Circles of a crate with these files, by their names.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("it can be made");
        fs::write(file, text).expect("it can be written");
    }
    let circles = Crate::read(&folder.path().join("lib.rs")).circles();
    circles.iter().map(|circle| circle.replace(&format!("{}/", folder.path().display()), "")).collect()
}

#[test]
fn circles_are_found_however_the_names_come() {
    let b = ("b.rs", "use crate::a::A; pub struct B(A); #[cfg(test)] mod tests { use crate::c::C; }");
    for a in [
        "use crate::b::B; pub struct A(B);",
        "pub struct A(super::b::B);",
        "use crate::*; pub struct A(B);",
        "use crate::B; pub struct A(B);",
        "use crate::{self as all}; pub struct A(all::B);",
        "pub struct A; fn f() { use super::{b::{self as other}}; println!(\"{:?}\", other::B(A)); }",
        "pub struct A; macro_rules! m { () => { $crate::b::B(A) }; }",
        "pub struct A; mod inner { type I = super::super::b::B; }",
        // What a macro makes.
        "pub struct A; fn f() { crate::b::made(); }",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; pub use b::B;"),
            ("a.rs", a),
            b,
            ("c.rs", "use crate::B; pub struct C(B);"),
        ];
        let found = circles_of(&files);
        for import in ["a.rs imports b.rs", "b.rs imports a.rs"] {
            assert!(found.contains(&import.to_owned()), "{a}: {found:?}");
        }
        assert!(!found.iter().any(|import| import.contains("c.rs")), "{a}: {found:?}");
    }
    let nested = [
        ("lib.rs", "mod a; pub struct Root;"),
        ("a/mod.rs", "mod b; #[path = \"other.rs\"] mod c; pub use b::B; pub struct A;"),
        ("a/b.rs", "use super::c; pub struct B(c::C);"),
        ("a/other.rs", "use super::A; pub struct C(A, crate::Root);"),
    ];
    let circle = ["a/b.rs imports a/other.rs", "a/mod.rs imports a/b.rs", "a/other.rs imports a/mod.rs"];
    assert_eq!(circles_of(&nested), circle);
}

#[test]
fn what_is_no_circle_is_not_reported() {
    let files = [
        // An item of the root by its re-export; globs; a module that is only named; names from outside.
        ("lib.rs", "mod a; mod b; mod c; mod d; mod error; pub use error::Error; pub use self::c::*;"),
        ("error.rs", "use std::fmt; pub struct Error(fmt::Error);"),
        (
            "a.rs",
            "use crate::Error; use super::b; use half; type H = half::F; fn a2() {} fn a() { b::b(a2) }",
        ),
        ("b.rs", "use crate::C; use crate::a; pub fn b(c: C) { self::c2(c); } fn c2(_: C) {}"),
        (
            "c.rs",
            "use crate::error as a; pub struct C(a::Error); #[cfg(test)] mod tests { use crate::b::b; }",
        ),
        ("d.rs", "use crate::*; fn d(e: Error, c: C) {}"),
    ];
    assert_eq!(circles_of(&files), [""; 0]);
}

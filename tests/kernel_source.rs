//! Kernels reach memory through `device/` alone: what the strict machine does not see, it cannot check.
//!
//! Outside of that folder there is no raw pointer, nothing that makes one, and no inline assembly. (References to locals
//! are fine: they are registers.)

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    ExprRawAddr, Ident, Macro, TypePtr,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// Names that lead to memory behind the machine's back.
const FORBIDDEN: [&str; 12] = [
    "ptr",
    "as_ptr",
    "as_mut_ptr",
    "from_raw_parts",
    "from_raw_parts_mut",
    "transmute",
    "transmute_copy",
    "addr_of",
    "addr_of_mut",
    "read_volatile",
    "write_volatile",
    "UnsafeCell",
];

#[derive(Default)]
struct Finder {
    found: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_type_ptr(&mut self, node: &'ast TypePtr) {
        self.found.push((node.span().start().line, "a raw pointer".to_owned()));
        visit::visit_type_ptr(self, node);
    }

    fn visit_expr_raw_addr(&mut self, node: &'ast ExprRawAddr) {
        self.found.push((node.span().start().line, "a raw pointer".to_owned()));
        visit::visit_expr_raw_addr(self, node);
    }

    fn visit_ident(&mut self, node: &'ast Ident) {
        if FORBIDDEN.iter().any(|name| node == name) {
            self.found.push((node.span().start().line, format!("`{node}`")));
        }
    }

    fn visit_macro(&mut self, node: &'ast Macro) {
        let name = node.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if name.ends_with("asm") {
            self.found.push((node.span().start().line, format!("`{name}!`")));
        }
        self.search(node.tokens.clone());
        visit::visit_macro(self, node);
    }
}

impl Finder {
    /// Looks through what is given to a macro, or makes one: `syn` does not parse it.
    fn search(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.search(group.stream()),
                TokenTree::Ident(ident) if ident.to_string().ends_with("asm") => {
                    self.found.push((ident.span().start().line, format!("`{ident}!`")));
                }
                TokenTree::Ident(ident) => self.visit_ident(&ident),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

fn offences(source: &str) -> Vec<(usize, String)> {
    let mut finder = Finder::default();
    finder.visit_file(&syn::parse_file(source).expect("it compiles"));
    finder.found
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("src/device") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn kernels_reach_memory_through_device_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("kernels/src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in ["sm80/mainloop.rs", "sm90/consumer.rs"] {
        assert!(files.iter().any(|found| found.ends_with(file)), "{files:?}");
    }
    for file in files {
        // `lib.rs` has the panic handler, whose trap is an intrinsic, `address.rs` the phantom that says that a device
        // address is like a pointer, and the entries with tensor maps ask where their own
        // parameters are.
        let allowed: &[&str] = if file.ends_with("src/address.rs") {
            &["a raw pointer"]
        } else if file.ends_with("src/sm90_table.rs") || file.ends_with("instructions/sm90/table.rs") {
            &["`asm!`"]
        } else {
            &[]
        };
        let offences: Vec<_> = offences(&fs::read_to_string(&file).unwrap())
            .into_iter()
            .filter(|(_, what)| !allowed.contains(&what.as_str()))
            .collect();
        assert!(offences.is_empty(), "{}: {offences:?}", file.display());
    }
}

#[test]
fn the_rule_is_kept_by_looking() {
    for offence in [
        "fn f(p: *const u8) {}",
        "fn f(x: &u8) { let _ = &raw const *x; }",
        "fn f(x: &[u8]) { let _ = x.as_ptr(); }",
        "fn f() { unsafe { core::arch::asm!(\"\") } }",
        "use core::ptr::read;",
        "fn f(x: u64) -> usize { unsafe { core::mem::transmute(x) } }",
        "struct S(core::cell::UnsafeCell<u32>);",
        "macro_rules! m { () => { core::arch::asm!(\"\") } }",
        "fn f(x: &[u8]) { assert!(!x.as_ptr().is_null()); }",
    ] {
        assert_eq!(offences(offence).len(), 1, "{offence}");
    }
    assert_eq!(offences("fn f(x: &mut u32) { *x += 1; }"), []);
}

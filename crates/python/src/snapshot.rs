//! The state of a Python object as it was once: to see, in less time than it takes to look at any of it, that
//! nothing in it has changed.

use pyo3::{
    ffi, intern,
    prelude::*,
    types::{PyDict, PyList, PyType},
};

/// A value, and what is below it.
///
/// Nothing here keeps a module alive, or it would live as long as its own snapshot: modules are compared by
/// their address together with their dictionary, which is kept, so that no other module can have it.
enum Node {
    /// A value that has no parts, or none that matter. It is kept, so that no other value has its address.
    Leaf(Py<PyAny>),
    Dict(Vec<(Py<PyAny>, Node)>),
    List(Vec<Node>),
    /// A module that is not looked into.
    Address(usize),
    Module(usize, Snapshot),
}

/// The class of a module, and all that its dictionary holds.
pub(crate) struct Snapshot {
    class: Py<PyType>,
    dict: Py<PyDict>,
    node: Box<Node>,
}

/// What may be in a state.
pub(crate) struct Kinds<'a, 'py> {
    /// torch's `Module`.
    pub(crate) module: &'a Bound<'py, PyType>,
    /// Classes whose instances are leaves.
    pub(crate) leaves: &'a [Bound<'py, PyType>],
    /// The modules that are looked into.
    pub(crate) inside: &'a [Bound<'py, PyAny>],
}

impl Snapshot {
    /// Of a module; None if there is anything in it that is of no known kind.
    pub(crate) fn of(module: &Bound<'_, PyAny>, kinds: &Kinds<'_, '_>) -> PyResult<Option<Self>> {
        let dict = module.getattr(intern!(module.py(), "__dict__"))?;
        let Ok(dict) = dict.cast_into_exact::<PyDict>() else { return Ok(None) };
        let Some(node) = Node::of(dict.as_any(), kinds, false)? else { return Ok(None) };
        Ok(Some(Self { class: module.get_type().unbind(), dict: dict.unbind(), node: Box::new(node) }))
    }

    /// Whether the module is as it was.
    pub(crate) fn is_still(&self, module: &Bound<'_, PyAny>) -> bool {
        let py = module.py();
        module.get_type_ptr() == self.class.as_ptr().cast()
            && module.getattr(intern!(py, "__dict__")).is_ok_and(|dict| dict.is(&self.dict))
            && self.node.is_still(self.dict.bind(py).as_any())
    }
}

impl Node {
    /// `are_children`: modules in this value are children of the one whose state it is of. Others might be its
    /// parents, and with a dictionary that is kept they would never be freed.
    fn of(value: &Bound<'_, PyAny>, kinds: &Kinds<'_, '_>, are_children: bool) -> PyResult<Option<Self>> {
        if let Ok(dict) = value.cast::<PyDict>() {
            let mut entries = Vec::new();
            for (key, value) in dict {
                let are_children = are_children || key.eq(intern!(value.py(), "_modules"))?;
                let Some(node) = Self::of(&value, kinds, are_children)? else { return Ok(None) };
                entries.push((key.unbind(), node));
            }
            return Ok(Some(Self::Dict(entries)));
        }
        if let Ok(list) = value.cast::<PyList>() {
            let nodes: Option<Vec<_>> =
                list.iter().map(|value| Self::of(&value, kinds, false)).collect::<PyResult<_>>()?;
            return Ok(nodes.map(Self::List));
        }
        if value.is_instance(kinds.module)? {
            if !are_children {
                return Ok(None);
            }
            let address = value.as_ptr() as usize;
            return Ok(match kinds.inside.iter().any(|module| module.is(value)) {
                true => Snapshot::of(value, kinds)?.map(|snapshot| Self::Module(address, snapshot)),
                false => Some(Self::Address(address)),
            });
        }
        let is_leaf = value.is_none() || kinds.leaves.iter().any(|class| value.get_type().is(class));
        Ok(is_leaf.then(|| Self::Leaf(value.clone().unbind())))
    }

    fn is_still(&self, value: &Bound<'_, PyAny>) -> bool {
        match self {
            Self::Leaf(leaf) => value.is(leaf),
            Self::Address(address) => value.as_ptr() as usize == *address,
            Self::Module(address, snapshot) => {
                value.as_ptr() as usize == *address && snapshot.is_still(value)
            }
            Self::List(nodes) => value.cast::<PyList>().is_ok_and(|list| {
                list.len() == nodes.len() && nodes.iter().zip(list).all(|(node, value)| node.is_still(&value))
            }),
            Self::Dict(entries) => value.cast::<PyDict>().is_ok_and(|dict| holds(dict, entries)),
        }
    }
}

/// Whether a dictionary has these entries, in this order, and no others.
fn holds(dict: &Bound<'_, PyDict>, entries: &[(Py<PyAny>, Node)]) -> bool {
    let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    let mut entries = entries.iter();
    // SAFETY: it is a dictionary; nothing below runs code of Python that could change it but the look at
    // `__dict__` of a module, which nobody overrides in `torch.nn`; and entries are borrowed while it is held.
    while unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut at, &mut key, &mut value) } != 0 {
        let Some((known, node)) = entries.next() else { return false };
        // SAFETY: as above.
        let value = unsafe { Bound::from_borrowed_ptr(dict.py(), value) };
        if key != known.as_ptr() || !node.is_still(&value) {
            return false;
        }
    }
    entries.next().is_none()
}

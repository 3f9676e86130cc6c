//! The arrays of a kernel as they are filled, and what its output must be.

use std::collections::BTreeMap;

use crate::{
    manifest::Kernel,
    reference::{self, Arrays},
};

/// Arrays and the exact output.
pub(crate) struct Operands {
    /// By name, their bytes; `None` if nobody wrote them.
    pub(crate) bytes: BTreeMap<String, Option<Vec<u8>>>,
    expected: Vec<f64>,
    tolerance: [f64; 2],
}

impl Operands {
    /// Those of a kernel, always alike.
    pub(crate) fn new(kernel: &Kernel) -> Self {
        let content = |(name, array): (&String, &crate::manifest::Array)| {
            (name.clone(), array.content(&kernel.name, name))
        };
        let bytes: BTreeMap<_, _> = kernel.arrays.iter().map(content).collect();
        let values = |(name, bytes): (&String, &Option<Vec<u8>>)| {
            let element = kernel.arrays[name].element;
            (name.clone(), bytes.as_ref().map_or_else(Vec::new, |bytes| element.values(bytes)))
        };
        let arrays: Arrays = bytes.iter().map(values).collect();
        let expected = reference::expected(&kernel.expect, &arrays);
        assert_eq!(expected.len(), kernel.arrays[&kernel.expect.output].len(), "{}", kernel.name);
        Self { bytes, expected, tolerance: kernel.expect.tolerance }
    }

    /// Compares the output.
    pub(crate) fn check(&self, output: &[f64]) -> Result<(), String> {
        let [absolute, relative] = self.tolerance;
        // NaN is not right.
        let is_right = |x: f64, exact: f64| (x - exact).abs() <= relative.mul_add(exact.abs(), absolute);
        let mut wrong =
            output.iter().zip(&self.expected).enumerate().filter(|(_, (x, exact))| !is_right(**x, **exact));
        match wrong.next() {
            None => Ok(()),
            Some((at, (x, exact))) => {
                let (wrong, all) = (1 + wrong.count(), output.len());
                Err(format!("element {at} is {x}, not {exact}; {wrong} of {all} are wrong"))
            }
        }
    }
}

//! Elements of arrays: filled from a seed, rounded to their type, read back as f64.

use half::{bf16, f16};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::manifest::{Array, Constant, Element, Fill};

impl Element {
    /// Bytes of one.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }

    /// Appends a value, rounded to the type.
    fn put(self, value: f64, to: &mut Vec<u8>) {
        match self {
            Self::F16 => to.extend(f16::from_f64(value).to_le_bytes()),
            Self::Bf16 => to.extend(bf16::from_f64(value).to_le_bytes()),
            Self::F32 => to.extend((value as f32).to_le_bytes()),
            Self::I32 => to.extend((value as i32).to_le_bytes()),
        }
    }

    /// Reads values.
    pub(crate) fn values(self, bytes: &[u8]) -> Vec<f64> {
        let value = |chunk: &[u8]| match (self, chunk) {
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
            (Self::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
            (Self::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Self::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
            _ => unreachable!("chunks have the size of an element"),
        };
        bytes.chunks_exact(self.bytes()).map(value).collect()
    }
}

impl Array {
    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// What it holds before the launch, by kernel and name; `None` if nobody wrote it.
    pub(crate) fn content(&self, kernel: &str, name: &str) -> Option<Vec<u8>> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed(&format!("{kernel} {name}")));
        let mut value = |at: usize| match &self.fill {
            Fill::Integers([low, high]) => Some(f64::from(rng.random_range(*low..=*high))),
            Fill::Uniform([low, high]) => Some(rng.random_range(*low..=*high)),
            Fill::Constant(Constant::Number(value)) => Some(*value),
            Fill::Constant(Constant::Nan(text)) if text == "nan" => None,
            Fill::Constant(Constant::Nan(text)) => panic!("a constant {text}"),
            Fill::Values(values) => Some(values[at]),
        };
        let mut bytes = Vec::with_capacity(self.len() * self.element.bytes());
        for at in 0..self.len() {
            self.element.put(value(at)?, &mut bytes);
        }
        Some(bytes)
    }
}

/// FNV-1a: the same on every machine and with every compiler.
pub(crate) fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn values_are_rounded_to_their_type() {
    for (element, value, rounded) in [
        (Element::F16, 0.1, 0.099_975_585_937_5),
        (Element::Bf16, 0.1, 0.100_097_656_25),
        (Element::F32, 0.1, 0.100_000_001_490_116_12),
        (Element::I32, -7.0, -7.0),
    ] {
        let mut bytes = Vec::new();
        element.put(value, &mut bytes);
        assert_eq!(element.values(&bytes), [rounded], "{element:?}");
    }
}

#[test]
fn arrays_are_filled_within_bounds_and_always_alike() {
    let array = |fill| Array { shape: vec![20, 50], element: Element::F16, fill };
    let content = |fill: Fill, name| array(fill).content("kernel", name).expect("it is written");
    let integers = content(Fill::Integers([-2, 2]), "a");
    assert_eq!(integers, content(Fill::Integers([-2, 2]), "a"));
    assert_ne!(integers, content(Fill::Integers([-2, 2]), "b"));
    let mut seen = Element::F16.values(&integers);
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    assert_eq!(seen, [-2.0, -1.0, 0.0, 1.0, 2.0]);
    let uniform = Element::F16.values(&content(Fill::Uniform([-1.0, 3.0]), "a"));
    assert!(uniform.iter().all(|value| (-1.0..=3.0).contains(value)));
    assert!(array(Fill::Constant(Constant::Nan("nan".to_owned()))).content("kernel", "a").is_none());
}

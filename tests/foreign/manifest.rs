//! `manifest.json`: what is launched, what it must compute, and what must make it fail.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;

/// The folder of the PTX and the manifest.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("foreign")
}

/// Reads the manifest.
pub(crate) fn kernels() -> Vec<Kernel> {
    let text = fs::read_to_string(folder().join("manifest.json")).expect("it is checked in");
    let manifest: Manifest = serde_json::from_str(&text).expect("the manifest is well formed");
    manifest.kernels
}

#[derive(Deserialize)]
struct Manifest {
    kernels: Vec<Kernel>,
}

/// A kernel and its launch.
#[derive(Clone, Deserialize)]
pub(crate) struct Kernel {
    /// Of the PTX file.
    pub(crate) name: String,
    pub(crate) entry: String,
    /// CTAs in each dimension.
    pub(crate) grid: [u32; 3],
    /// CTAs of a cluster in each dimension.
    pub(crate) cluster: [u32; 3],
    /// Lanes of a CTA, along x.
    pub(crate) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) arrays: BTreeMap<String, Array>,
    pub(crate) expect: Expect,
    pub(crate) negatives: Vec<Negative>,
}

/// A parameter of the entry.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Parameter {
    /// The address of an array, or 0.
    Pointer { array: Option<String> },
    /// A number.
    Scalar {
        #[serde(rename = "type")]
        scalar_type: Scalar,
        value: serde_json::Number,
    },
    /// A tensor map by value.
    Map(Map),
}

/// The arguments of `cuTensorMapEncodeTiled`.
#[derive(Clone, Deserialize)]
pub(crate) struct Map {
    pub(crate) array: String,
    #[serde(rename = "type")]
    pub(crate) element: Element,
    /// The contiguous dimension first.
    pub(crate) dims: Vec<u64>,
    /// In bytes, from the second dimension on.
    pub(crate) strides: Vec<u64>,
    #[serde(rename = "box")]
    pub(crate) box_dims: Vec<u32>,
    pub(crate) element_strides: Vec<u32>,
    /// `none`, or in bytes.
    pub(crate) swizzle: String,
    pub(crate) interleave: String,
    pub(crate) out_of_bounds: String,
}

/// The type of a parameter that is a number.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scalar {
    U8,
    I32,
    I64,
    F32,
}

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    I32,
}

/// An array in global memory, dense, the last dimension contiguous.
#[derive(Clone, Deserialize)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    #[serde(rename = "type")]
    pub(crate) element: Element,
    pub(crate) fill: Fill,
}

/// What an array holds before the launch.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fill {
    /// Each integer of the range as likely, bounds included.
    Integers([i32; 2]),
    /// Uniform in the range.
    Uniform([f64; 2]),
    /// The same everywhere.
    Constant(Constant),
    /// These.
    Values(Vec<f64>),
}

/// A number, or `"nan"`.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Constant {
    Number(f64),
    /// The array counts as memory that nobody wrote, which is stricter.
    Nan(String),
}

/// What the output must be.
#[derive(Clone, Deserialize)]
pub(crate) struct Expect {
    /// The array that is checked.
    pub(crate) output: String,
    /// Absolute, and relative to the exact value.
    pub(crate) tolerance: [f64; 2],
    #[serde(flatten)]
    pub(crate) operation: Operation,
}

/// Operation, its operands by name of their array, and its numbers.
#[derive(Clone, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub(crate) enum Operation {
    Matmul(Matmul),
    MatmulAt(Matmul),
    MatmulBt(Matmul),
    MatmulAtBt(Matmul),
    Shrink { x: String, w: String, starts: String, adapters: String, scale: f64, k: usize, rank: usize },
    Expand { h: String, w: String, starts: String, adapters: String, n: usize, rank: usize },
    Attention { q: String, k: String, v: String, scale: f64, causal: bool, t: usize, dim: usize },
    LayerNorm { x: String, weight: String, bias: String, epsilon: f64, n: usize },
    Softmax { x: String, n: usize },
    PrefixSum { x: String, n: usize },
}

/// Operands and sizes of a product.
#[derive(Clone, Deserialize)]
pub(crate) struct Matmul {
    pub(crate) a: String,
    pub(crate) b: String,
    /// Column k of `a` is multiplied by its element k.
    pub(crate) scale_k: Option<String>,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) batch: usize,
}

/// A change after which some run must fail.
#[derive(Clone, Deserialize)]
pub(crate) struct Negative {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) change: Change,
}

/// What a negative control changes.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Change {
    /// Texts of the PTX.
    Replace { replace: Vec<Replace> },
    /// Fields of a tensor map.
    Set { parameter: usize, set: SetMap },
}

/// A text that is replaced wherever it occurs.
#[derive(Clone, Deserialize)]
pub(crate) struct Replace {
    pub(crate) pattern: String,
    #[serde(rename = "with")]
    pub(crate) by: String,
    /// How often it occurs.
    pub(crate) count: usize,
}

/// The fields of a tensor map that negative controls change.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetMap {
    pub(crate) swizzle: String,
}

impl Kernel {
    /// Its PTX.
    pub(crate) fn text(&self) -> String {
        let path = folder().join("ptx").join(format!("{}.ptx", self.name));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What its PTX is called in reports.
    pub(crate) fn file(&self) -> String {
        format!("{}.ptx", self.name)
    }
}

impl Negative {
    /// The kernel and its PTX with the change.
    pub(crate) fn apply(&self, kernel: &Kernel, text: &str) -> Result<(Kernel, String), String> {
        let mut changed = (kernel.clone(), text.to_owned());
        match &self.change {
            Change::Replace { replace } => {
                for Replace { pattern, by, count } in replace {
                    let found = changed.1.matches(pattern.as_str()).count();
                    if found != *count {
                        return Err(format!("{pattern:?} occurs {found} times, not {count}"));
                    }
                    changed.1 = changed.1.replace(pattern.as_str(), by);
                }
            }
            Change::Set { parameter, set } => match changed.0.parameters.get_mut(*parameter) {
                Some(Parameter::Map(map)) => map.swizzle.clone_from(&set.swizzle),
                _ => return Err(format!("parameter {parameter} is no tensor map")),
            },
        }
        Ok(changed)
    }
}

//! The files through which PyTorch gets the numbers that this library computes with, and gives its y back: safetensors.
//!
//! Names are `x` [sequences, tokens, d], `layers.<i>.base.<part>.<tensor>`, and `layers.<i>.<method>.<rank>.<part>.<tensor>` with LoRA's
//! `lora` or `lora-qv` as the method. All of them are f16 but LoRA's scale, an f32.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
};
use half::f16;
use ndarray::{Array2, ArrayBase, Data, Dimension, ShapeError};
use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors};

use super::sequences::Sequences;
use super::weights::Weights;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The system refuses it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It holds no such tensors.
    #[error(transparent)]
    Format(#[from] SafeTensorError),
    /// The tensor is not a matrix.
    #[error("{name} is no matrix: {source}")]
    Shape {
        /// The tensor's name.
        name: &'static str,
        /// Why.
        source: ShapeError,
    },
    /// The tensor has elements of another type.
    #[error("{name} is {found:?}, not F32")]
    Type {
        /// The tensor's name.
        name: &'static str,
        /// The type that it has.
        found: Dtype,
    },
}

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Tensors by name, below a name.
struct Tensors {
    tensors: HashMap<String, Tensor>,
}

impl Tensors {
    fn put<S: Data<Elem = f16>, D: Dimension>(&mut self, name: String, values: &ArrayBase<S, D>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name, Tensor { dtype: Dtype::F16, shape: values.shape().to_vec(), bytes });
    }

    fn norm(&mut self, name: &str, weights: &NormWeights) {
        self.put(format!("{name}.gamma"), &weights.gamma);
        self.put(format!("{name}.beta"), &weights.beta);
    }

    fn linear(&mut self, name: &str, weights: &LinearWeights) {
        self.put(format!("{name}.weight"), &weights.weight);
        self.put(format!("{name}.bias"), &weights.bias);
    }

    fn bottleneck(&mut self, name: &str, weights: &BottleneckWeights) {
        self.linear(&format!("{name}.down"), &weights.down);
        self.linear(&format!("{name}.up"), &weights.up);
    }

    fn lora(&mut self, name: &str, weights: &LoraWeights) {
        self.put(format!("{name}.a"), &weights.a);
        self.put(format!("{name}.b"), &weights.b);
        let bytes = weights.scale.to_le_bytes().to_vec();
        self.tensors.insert(format!("{name}.scale"), Tensor { dtype: Dtype::F32, shape: vec![1], bytes });
    }

    fn layer(&mut self, name: &str, weights: &LayerWeights) {
        let LayerWeights { norm1, qkv, proj, norm2, up, down } = weights;
        self.norm(&format!("{name}.norm1"), norm1);
        self.norm(&format!("{name}.norm2"), norm2);
        for (part, weights) in [("qkv", qkv), ("proj", proj), ("up", up), ("down", down)] {
            self.linear(&format!("{name}.{part}"), weights);
        }
    }

    fn adapters(&mut self, layer: &str, rank: usize, weights: &AdapterWeights) {
        let of = |method: &str, part: &str| format!("{layer}.{method}.{rank}.{part}");
        match weights {
            AdapterWeights::None => {}
            AdapterWeights::H { attention, mlp } => {
                self.bottleneck(&of("adapter-h", "attention"), attention);
                self.bottleneck(&of("adapter-h", "mlp"), mlp);
            }
            AdapterWeights::L { norm, bottleneck } => {
                self.norm(&of("adapter-l", "norm"), norm);
                self.bottleneck(&of("adapter-l", "bottleneck"), bottleneck);
            }
            AdapterWeights::Lora { targets: LoraTargets::All { qkv, proj, up, down }, .. } => {
                for (part, weights) in [("qkv", qkv), ("proj", proj), ("up", up), ("down", down)] {
                    self.lora(&of("lora", part), weights);
                }
            }
            AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
                self.lora(&of("lora-qv", "query"), query);
                self.lora(&of("lora-qv", "value"), value);
            }
        }
    }
}

/// Writes all weights that there are, and the sequences.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(path: &Path, weights: &Weights, sequences: &Sequences) -> Result<(), Unreadable> {
    let mut tensors = Tensors { tensors: HashMap::new() };
    let whole = sequences.whole();
    let x = ndarray::stack(ndarray::Axis(0), &[whole[0].view(), whole[1].view()]);
    tensors.put("x".to_owned(), &x.map_err(|source| Unreadable::Shape { name: "x", source })?);
    for (i, layer) in weights.layers().iter().enumerate() {
        tensors.layer(&format!("layers.{i}.base"), layer);
    }
    for variant in weights.variants() {
        for (i, adapters) in weights.adapters(variant).iter().enumerate() {
            tensors.adapters(&format!("layers.{i}"), variant.rank, adapters);
        }
    }
    Ok(safetensors::serialize_to_file(tensors.tensors, None, path)?)
}

/// Reads a matrix of f32.
///
/// # Errors
///
/// If the file has no such matrix.
pub fn read(path: &Path, name: &'static str) -> Result<Array2<f32>, Unreadable> {
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let tensor = tensors.tensor(name)?;
    if tensor.dtype() != Dtype::F32 {
        return Err(Unreadable::Type { name, found: tensor.dtype() });
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let shape = match *tensor.shape() {
        [rows, columns] => (rows, columns),
        _ => (values.len(), 0),
    };
    Array2::from_shape_vec(shape, values).map_err(|source| Unreadable::Shape { name, source })
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::{Config, Method, Targets};

    use super::*;
    use crate::layer::variant::Variant;

    #[test]
    fn names_shapes_and_numbers_are_the_weights() {
        let mut weights = Weights::new(Config { d: 16, heads: 2, mlp: 32, layers: 2 }).unwrap();
        let lora = Variant { method: Method::LoraFused, targets: Targets::All, rank: 3 };
        let qv = Variant { targets: Targets::QueryValue, ..lora };
        let of = |method| Variant { method, ..lora };
        for variant in [Variant::NONE, lora, qv, of(Method::AdapterH), of(Method::AdapterL)] {
            weights.ensure(variant).unwrap();
        }
        let sequences = Sequences::new(5, 16);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        write(&path, &weights, &sequences).unwrap();

        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        // x; two layers of 2 norms and 4 products, 4 LoRA on all and 2 on q and v, adapters of 2 and 1 bottlenecks and a norm.
        assert_eq!(tensors.names().len(), 1 + 2 * (2 * 2 + 4 * 2 + 4 * 3 + 2 * 3 + 2 * 4 + 4 + 2));
        for (name, shape) in [
            ("x", &[2, 5, 16][..]),
            ("layers.1.base.qkv.weight", &[48, 16]),
            ("layers.0.adapter-h.3.mlp.down.bias", &[3]),
            ("layers.0.adapter-l.3.norm.gamma", &[16]),
            ("layers.1.lora.3.down.a", &[3, 32]),
            ("layers.1.lora-qv.3.value.b", &[16, 3]),
        ] {
            assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
        }
        let found = tensors.tensor("layers.1.base.down.bias").unwrap();
        let bias: Vec<u8> =
            weights.layers()[1].down.bias.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(found.data(), bias);
        assert_eq!(
            tensors.tensor("layers.0.lora.3.up.scale").unwrap().data(),
            (25.0 / 3f32.sqrt()).to_le_bytes()
        );
    }

    #[test]
    fn a_matrix_comes_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.safetensors");
        let put = |dtype, shape: &[usize], bytes: Vec<u8>| {
            let tensor = Tensor { dtype, shape: shape.to_vec(), bytes };
            safetensors::serialize_to_file([("y", tensor)], None, &path).unwrap();
        };
        put(Dtype::F32, &[1, 2], [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect());
        assert_eq!(read(&path, "y").unwrap(), ndarray::array![[1.5, -2.0]]);
        assert!(matches!(read(&path, "z"), Err(Unreadable::Format(_))));
        put(Dtype::F32, &[2], vec![0; 8]);
        assert!(matches!(read(&path, "y"), Err(Unreadable::Shape { .. })));
        put(Dtype::F16, &[1, 1], vec![0; 2]);
        assert!(matches!(read(&path, "y"), Err(Unreadable::Type { found: Dtype::F16, .. })));
        assert!(matches!(read(&folder.path().join("none"), "y"), Err(Unreadable::Io(_))));
    }
}

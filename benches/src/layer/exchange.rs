//! The files through which PyTorch gets the numbers that this library computes with, and gives its y back: safetensors.
//!
//! Names are `x` [sequences, tokens, d], `layers.<i>.base.<part>.<tensor>`, and `layers.<i>.<method>.<rank>.<part>.<tensor>` with LoRA's
//! `lora` or `lora-qv` as the method. All of them are f16 but LoRA's scale, an f32.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};
use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
};
use half::f16;
use ndarray::{Array, Array2, Dimension};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::variant::torch_name;
use super::weights::Weights;

/// Name, type, shape and bytes of each.
#[derive(Default)]
struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    fn put<D: Dimension>(&mut self, name: &str, values: &Array<f16, D>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.push((name.to_owned(), Dtype::F16, values.shape().to_vec(), bytes));
    }

    /// Puts parts of a kind below a name.
    fn each<W, const N: usize>(&mut self, at: &str, parts: [(&str, &W); N], put: fn(&mut Tensors, &str, &W)) {
        for (part, weights) in parts {
            put(self, &format!("{at}.{part}"), weights);
        }
    }

    fn norm(&mut self, at: &str, NormWeights { gamma, beta }: &NormWeights) {
        self.each(at, [("gamma", gamma), ("beta", beta)], Tensors::put);
    }

    fn linear(&mut self, at: &str, LinearWeights { weight, bias }: &LinearWeights) {
        self.put(&format!("{at}.weight"), weight);
        self.put(&format!("{at}.bias"), bias);
    }

    fn bottleneck(&mut self, at: &str, BottleneckWeights { down, up }: &BottleneckWeights) {
        self.each(at, [("down", down), ("up", up)], Tensors::linear);
    }

    fn lora(&mut self, at: &str, LoraWeights { a, b, scale }: &LoraWeights) {
        self.each(at, [("a", a), ("b", b)], Tensors::put);
        self.0.push((format!("{at}.scale"), Dtype::F32, vec![1], scale.to_le_bytes().to_vec()));
    }

    fn layer(&mut self, at: &str, weights: &LayerWeights) {
        let LayerWeights { norm1, qkv, proj, norm2, up, down } = weights;
        self.each(at, [("norm1", norm1), ("norm2", norm2)], Tensors::norm);
        self.each(at, [("qkv", qkv), ("proj", proj), ("up", up), ("down", down)], Tensors::linear);
    }

    fn adapters(&mut self, at: &str, weights: &AdapterWeights) {
        match weights {
            AdapterWeights::None => {}
            AdapterWeights::H { attention, mlp } => {
                self.each(at, [("attention", attention), ("mlp", mlp)], Tensors::bottleneck);
            }
            AdapterWeights::L { norm, bottleneck } => {
                self.norm(&format!("{at}.norm"), norm);
                self.bottleneck(&format!("{at}.bottleneck"), bottleneck);
            }
            AdapterWeights::Lora { targets: LoraTargets::All { qkv, proj, up, down }, .. } => {
                self.each(at, [("qkv", qkv), ("proj", proj), ("up", up), ("down", down)], Tensors::lora);
            }
            AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
                self.each(at, [("query", query), ("value", value)], Tensors::lora);
            }
        }
    }
}

/// Writes all weights that there are, and the sequences.
pub(super) fn write(path: &Path, weights: &Weights) -> anyhow::Result<()> {
    let mut tensors = Tensors::default();
    tensors.put("x", &weights.sequences);
    for (i, layer) in weights.layers.iter().enumerate() {
        tensors.layer(&format!("layers.{i}.base"), layer);
    }
    for variant in weights.variants() {
        for (i, adapters) in weights.adapters(variant).iter().enumerate() {
            let method = torch_name(&variant.name());
            tensors.adapters(&format!("layers.{i}.{method}.{}", variant.rank), adapters);
        }
    }
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors.0 {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize_to_file(views, None, path)?)
}

/// Reads a matrix of f32.
pub(super) fn read(path: &Path, name: &str) -> anyhow::Result<Array2<f32>> {
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let tensor = tensors.tensor(name)?;
    ensure!(tensor.dtype() == Dtype::F32, "{name} is {:?}, not F32", tensor.dtype());
    let &[rows, columns] = tensor.shape() else { bail!("{name} is no matrix: {:?}", tensor.shape()) };
    let (values, _) = tensor.data().as_chunks::<4>();
    let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(Array2::from_shape_vec((rows, columns), values)?)
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::{Config, Method, Targets};

    use super::*;
    use crate::layer::variant::Variant;

    #[test]
    fn names_shapes_and_numbers_are_the_weights() {
        let mut weights = Weights::new(Config { d: 16, heads: 2, mlp: 32, layers: 2 }).unwrap();
        for method in [Method::None, Method::LoraFused, Method::AdapterH, Method::AdapterL] {
            for targets in Targets::ALL {
                weights.ensure(Variant::new(method, targets, 3)).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        write(&path, &weights).unwrap();

        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        // x; two layers of 2 norms and 4 products, 4 LoRA on all and 2 on q and v, adapters of 2 and 1 bottlenecks and a norm.
        assert_eq!(tensors.names().len(), 1 + 2 * (2 * 2 + 4 * 2 + 4 * 3 + 2 * 3 + 2 * 4 + 4 + 2));
        for (name, shape) in [
            ("x", &[2, 512, 16][..]),
            ("layers.1.base.qkv.weight", &[48, 16]),
            ("layers.0.adapter-h.3.mlp.down.bias", &[3]),
            ("layers.0.adapter-l.3.norm.gamma", &[16]),
            ("layers.1.lora.3.down.a", &[3, 32]),
            ("layers.1.lora-qv.3.value.b", &[16, 3]),
        ] {
            assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
        }
        let data = |name| tensors.tensor(name).unwrap().data().to_vec();
        let bias = &weights.layers[1].down.bias;
        let bias: Vec<u8> = bias.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(data("layers.1.base.down.bias"), bias);
        assert_eq!(data("layers.0.lora.3.up.scale"), (25.0 / 3f32.sqrt()).to_le_bytes());
    }

    #[test]
    fn a_matrix_comes_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.safetensors");
        let put = |dtype, shape: &[usize], bytes: &[u8]| {
            let tensor = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
            safetensors::serialize_to_file([("y", tensor)], None, &path).unwrap();
        };
        put(Dtype::F32, &[1, 2], [1.5f32, -2.0].map(f32::to_le_bytes).as_flattened());
        assert_eq!(read(&path, "y").unwrap(), ndarray::array![[1.5, -2.0]]);
        let refused = |name| read(&path, name).unwrap_err().to_string();
        assert!(refused("z").contains('z'));
        put(Dtype::F32, &[2], &[0; 8]);
        assert_eq!(refused("y"), "y is no matrix: [2]");
        put(Dtype::F16, &[1, 1], &[0; 2]);
        assert_eq!(refused("y"), "y is F16, not F32");
        assert!(read(&folder.path().join("none"), "y").unwrap_err().is::<std::io::Error>());
    }
}

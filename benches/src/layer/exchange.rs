//! What PyTorch gets the weights as: `layers.<i>.base.<part>.<tensor>`, and
//! `layers.<i>.<method>.<rank>.<part>.<tensor>` with LoRA's `lora` or `lora-qv` as the method. All of them
//! are f16 but LoRA's scale, an f32.

use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
};

use super::variant::torch_name;
use super::weights::Weights;
use crate::torch::Tensors;

impl Tensors {
    /// Puts parts of a kind below a name.
    fn each<W, const N: usize>(&mut self, at: &str, parts: [(&str, &W); N], put: fn(&mut Tensors, &str, &W)) {
        for (part, weights) in parts {
            put(self, &format!("{at}.{part}"), weights);
        }
    }

    fn norm(&mut self, at: &str, NormWeights { gamma, beta }: &NormWeights) {
        self.put(&format!("{at}.gamma"), gamma);
        self.put(&format!("{at}.beta"), beta);
    }

    fn linear(&mut self, at: &str, LinearWeights { weight, bias }: &LinearWeights) {
        self.put(&format!("{at}.weight"), weight);
        self.put(&format!("{at}.bias"), bias);
    }

    fn bottleneck(&mut self, at: &str, BottleneckWeights { down, up }: &BottleneckWeights) {
        self.each(at, [("down", down), ("up", up)], Tensors::linear);
    }

    fn lora(&mut self, at: &str, LoraWeights { a, b, scale }: &LoraWeights) {
        self.put(&format!("{at}.a"), a);
        self.put(&format!("{at}.b"), b);
        self.put_number(&format!("{at}.scale"), *scale);
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

/// Puts all weights that there are.
pub(super) fn put(tensors: &mut Tensors, weights: &Weights) {
    for (i, layer) in weights.layers.iter().enumerate() {
        tensors.layer(&format!("layers.{i}.base"), layer);
    }
    for variant in weights.variants() {
        for (i, adapters) in weights.adapters(variant).iter().enumerate() {
            let method = torch_name(&variant.name());
            tensors.adapters(&format!("layers.{i}.{method}.{}", variant.rank), adapters);
        }
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_transformer::{Config, Method, Targets};
    use safetensors::SafeTensors;

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
        let mut tensors = Tensors::default();
        put(&mut tensors, &weights);
        tensors.write(&path).unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        // Two layers of 2 norms and 4 products, 4 LoRA on all and 2 on q and v, adapters of 2 and 1
        // bottlenecks and a norm.
        assert_eq!(tensors.names().len(), 2 * (2 * 2 + 4 * 2 + 4 * 3 + 2 * 3 + 2 * 4 + 4 + 2));
        for (name, shape) in [
            ("layers.1.base.qkv.weight", &[48, 16][..]),
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
}

//! The case that `tests/transformer/make_case.py` made with PyTorch, and how far from it a result may be.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;

use fused_lora_transformer::{
    AdapterWeights, Backend, BottleneckWeights, Config, Error, Layer, LayerWeights, LinearWeights,
    LoraTargets, LoraWeights, NormWeights, Scratch, Stage,
};
use half::f16;
use ndarray::{Array1, Array2, ArrayView2};
use safetensors::{SafeTensors, tensor::Dtype};

pub(crate) const CONFIG: Config = Config { d: 64, heads: 4, mlp: 256, layers: 1 };
pub(crate) const SEQ_LEN: usize = 24;
const LORA_SCALE: f32 = 0.5;

/// ‖found − expected‖ / ‖expected‖ of a stage. One rounding to f16 is 2.8 · 10⁻⁴ of that on average, and a
/// stage inherits what those before it have. The largest found, at any level of the CPU, is 5.5 · 10⁻⁴.
const TOLERANCE: f64 = 7e-4;
/// |found − expected| of an element, in units of the stage's root mean square. The largest found is
/// 3.8 · 10⁻³.
const ELEMENT_TOLERANCE: f64 = 5e-3;

pub(crate) struct Case {
    bytes: &'static [u8],
}

impl Case {
    pub(crate) fn read() -> Self {
        // In the binary, which runs on machines without this folder.
        Self { bytes: include_bytes!("../../../../tests/transformer/case.safetensors") }
    }

    /// An f16 tensor, one of the inputs.
    fn input(&self, name: &str) -> (Vec<usize>, Vec<f16>) {
        let tensors = SafeTensors::deserialize(self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F16, "{name}");
        let values = tensor.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        (tensor.shape().to_vec(), values)
    }

    /// What PyTorch computed, f32.
    fn result(&self, name: &str) -> Array2<f64> {
        let tensors = SafeTensors::deserialize(self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into());
        Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values.collect()).unwrap()
    }

    pub(crate) fn matrix(&self, name: &str) -> Array2<f16> {
        let (shape, values) = self.input(name);
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    }

    fn vector(&self, name: &str) -> Array1<f16> {
        self.input(name).1.into()
    }

    fn norm(&self, name: &str) -> NormWeights {
        NormWeights {
            gamma: self.vector(&format!("{name}.gamma")),
            beta: self.vector(&format!("{name}.beta")),
        }
    }

    fn linear(&self, name: &str) -> LinearWeights {
        LinearWeights {
            weight: self.matrix(&format!("{name}.weight")),
            bias: self.vector(&format!("{name}.bias")),
        }
    }

    fn bottleneck(&self, name: &str) -> BottleneckWeights {
        BottleneckWeights {
            down: self.linear(&format!("{name}.down")),
            up: self.linear(&format!("{name}.up")),
        }
    }

    fn lora(&self, name: &str) -> LoraWeights {
        let matrix = |part| self.matrix(&format!("{name}.{part}"));
        LoraWeights { a: matrix("a"), b: matrix("b"), scale: LORA_SCALE }
    }

    fn base(&self) -> LayerWeights {
        LayerWeights {
            norm1: self.norm("base.norm1"),
            qkv: self.linear("base.qkv"),
            proj: self.linear("base.proj"),
            norm2: self.norm("base.norm2"),
            up: self.linear("base.up"),
            down: self.linear("base.down"),
        }
    }

    /// The case's name of a method, and its adapters.
    fn methods(&self) -> Vec<(&'static str, AdapterWeights)> {
        let mut methods = vec![
            ("none", AdapterWeights::None),
            (
                "adapter-h",
                AdapterWeights::H {
                    attention: self.bottleneck("adapter-h.attention"),
                    mlp: self.bottleneck("adapter-h.mlp"),
                },
            ),
            (
                "adapter-l",
                AdapterWeights::L {
                    norm: self.norm("adapter-l.norm"),
                    bottleneck: self.bottleneck("adapter-l"),
                },
            ),
        ];
        for fused in [false, true] {
            let [qkv, proj, up, down] =
                ["qkv", "proj", "up", "down"].map(|name| self.lora(&format!("lora.{name}")));
            let targets = LoraTargets::All { qkv, proj, up, down };
            methods.push(("lora", AdapterWeights::Lora { fused, targets }));
            let [query, value] = ["query", "value"].map(|name| self.lora(&format!("lora-qv.{name}")));
            let targets = LoraTargets::QueryValue { query, value };
            methods.push(("lora-qv", AdapterWeights::Lora { fused, targets }));
        }
        methods
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Norm1 => "norm1",
        Stage::Qkv => "qkv",
        Stage::Attention => "attention",
        Stage::Middle => "middle",
        Stage::Norm2 => "norm2",
        Stage::Mlp => "mlp",
        other => panic!("PyTorch's case has no {other:?}"),
    }
}

/// Both errors of a stage, in the units of the tolerances.
fn errors(found: ArrayView2<'_, f16>, expected: &Array2<f64>) -> [f64; 2] {
    assert_eq!(found.dim(), expected.dim());
    let error = found.mapv(f64::from) - expected;
    let norm = |values: &Array2<f64>| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    // `max` would forget a NaN; the norm does not.
    let largest = error.iter().map(|e| e.abs()).fold(0.0, f64::max);
    let root_mean_square = norm(expected) / (expected.len() as f64).sqrt();
    [norm(&error) / norm(expected), largest / root_mean_square]
}

/// The stages of the case, in their order.
const STAGES: [&str; 7] = ["norm1", "qkv", "attention", "middle", "norm2", "mlp", "output"];

/// What is shown of a forward pass.
type Observe<'a, B> = dyn FnMut(Stage, &Scratch<B>) -> Result<(), Error> + 'a;

/// The worst errors so far of what is held to PyTorch.
#[derive(Default)]
pub(crate) struct Worst([f64; 2]);

impl Worst {
    /// Holds every stage of every method to the case. `forward` runs a layer, shows its stages, and returns
    /// its output.
    pub(crate) fn hold_all<B: Backend>(
        &mut self,
        case: &Case,
        on: &str,
        backend: &B,
        mut forward: impl FnMut(&Layer<B>, &mut Observe<'_, B>) -> Result<Array2<f16>, Error>,
    ) {
        // One layer that is given each method in turn: nothing of the one before may stay.
        let mut layer = Layer::new(backend, CONFIG, &case.base()).unwrap();
        for (method, adapters) in case.methods() {
            layer = layer.with_adapters(&adapters).unwrap();
            let mut found = HashMap::new();
            let output = forward(&layer, &mut |stage, value| {
                assert!(found.insert(name(stage), value.to_array()?).is_none(), "{stage:?} twice");
                Ok(())
            });
            found.insert("output", output.unwrap());
            for stage in STAGES {
                self.hold(case, on, method, stage, found[stage].view());
            }
        }
    }

    /// Holds a stage to the case.
    fn hold(&mut self, case: &Case, on: &str, method: &str, stage: &str, found: ArrayView2<'_, f16>) {
        let errors = errors(found, &case.result(&format!("{method}/{stage}")));
        println!("{on} {method} {stage}: {:.2e} {:.2e}", errors[0], errors[1]);
        assert!(
            errors[0] <= TOLERANCE && errors[1] <= ELEMENT_TOLERANCE,
            "{on} {method} {stage}: ‖error‖ {:.2e}, |error| {:.2e}",
            errors[0],
            errors[1]
        );
        self.0 = [self.0[0].max(errors[0]), self.0[1].max(errors[1])];
    }

    /// The tolerance is no looser than what it bounds asks for.
    pub(crate) fn is_near_the_tolerance(&self) {
        println!("worst: {:?}", self.0);
        assert!(self.0[0] > TOLERANCE / 2.0, "{:?}", self.0);
    }
}

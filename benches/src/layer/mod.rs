//! A transformer's layer: bare, with sequential adapters, and with LoRA un-merged.
//!
//! The bare layer runs twice in a round, beyond the calls that others are compared with: as its own record, and once more as what each
//! method is at r = 0, where there is no adapter. That second call is recorded under each method's name, and shows the noise.
//!
//! x is two sequences again and again over the batch, so that every row of every y can be compared with a plain f32 computation of the
//! layer on those two.

use std::collections::HashMap;

use fused_lora::Granule;
use fused_lora_records::RANKS;
use fused_lora_transformer::{Config, Method as Kind, Targets};
use half::f16;
use ndarray::Array2;

use crate::check::Expected;
use crate::method::{Method, What};
use crate::operands::slot_bytes;
use crate::settings::Cache;
use crate::size::Size;
use crate::work::{Floor, Work};
use sequences::{DISTINCT, Sequences};
use torch_method::TorchMethod;
use variant::{Variant, record_name};
use weights::Weights;

pub mod cpu;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod exchange;
mod models;
pub mod reference;
pub mod sequences;
pub mod torch;
pub mod torch_method;
pub mod variant;
pub mod verdict;
pub mod versus;
pub mod weights;

/// ‖y − reference‖ / ‖reference‖ of one layer, as `crates/transformer/tests/pytorch.rs` has it: one rounding to f16 is 2.8 · 10⁻⁴ of
/// that, and y has more than one behind it.
const TOLERANCE: f64 = 7e-4;
/// |y − reference| of an element in units of the root mean square, from the same place.
const ELEMENT_TOLERANCE: f64 = 5e-3;

/// The methods of a size: the bare layer, the bare layer again, all others at each rank; and PyTorch's, where it runs.
#[must_use]
pub fn methods(
    config: &Config,
    targets: Targets,
    cache: Cache,
    granule: Granule,
    size: Size,
    torch: bool,
) -> Vec<Method> {
    let work = |variant: Variant| work(config, cache, size, variant);
    let ours = |variant: Variant, base: usize, names: Vec<String>| Method {
        what: What::Layer(variant),
        ids: names.iter().map(|name| format!("r{}/{name}", variant.rank)).collect(),
        names,
        rank: variant.rank,
        base: Some(base),
        work: work(variant),
        floor: (base == 0).then(|| variant.floor(config, granule)),
        dtype: "f16",
        ours: true,
    };
    let kinds = &Kind::ALL[1..];
    let mut bare = ours(Variant::NONE, 0, vec!["none".to_owned()]);
    bare.floor = None;
    let names = kinds.iter().map(|&kind| record_name(kind, targets)).collect();
    let mut again = ours(Variant::NONE, 0, names);
    again.ids.insert(0, "r0/none-again".to_owned());
    let mut methods = vec![bare, again];
    for rank in RANKS.into_iter().filter(|&rank| rank > 0) {
        for &method in kinds {
            let lora = Variant { method, targets, rank };
            let variant = if lora.is_lora() { lora } else { Variant { targets: Targets::All, ..lora } };
            methods.push(ours(variant, 0, vec![variant.name()]));
        }
    }
    if torch {
        with_torch(&mut methods, config, granule);
    }
    methods
}

/// Appends PyTorch's methods: its own base, and each that has the arithmetic of one of ours. They run where that one is selected.
fn with_torch(methods: &mut Vec<Method>, config: &Config, granule: Granule) {
    let base = methods.len();
    let torch = |what: TorchMethod, like: &Method| Method {
        what: What::Torch(what, like.rank),
        names: vec![what.record_name().to_owned()],
        base: Some(base),
        // How PyTorch pads a rank is not known.
        floor: (like.rank > 0)
            .then(|| Floor { pad_pct: None, ..what.variant(like.rank).floor(config, granule) }),
        // x, W and y in four bytes each.
        work: Work { bytes: 2.0 * like.work.bytes, ..like.work },
        dtype: "f32",
        ours: false,
        ..like.clone()
    };
    let mut theirs = vec![torch(TorchMethod::None, &methods[0])];
    for method in &methods[2..] {
        let What::Layer(variant) = method.what else { continue };
        let what = TorchMethod::like(variant);
        match theirs.iter_mut().find(|other| other.what == What::Torch(what, variant.rank)) {
            Some(same) => same.ids.extend(method.ids.iter().cloned()),
            None => theirs.push(torch(what, method)),
        }
    }
    // Its base runs beside whatever is selected.
    theirs[0].ids = methods.iter().flat_map(|method| method.ids.iter().cloned()).collect();
    methods.extend(theirs);
}

fn work(config: &Config, cache: Cache, size: Size, variant: Variant) -> Work {
    let adapters = variant.method.mul_adds(config, variant.targets, variant.rank);
    let weights = if cache == Cache::Cold { config.product_mul_adds() + adapters } else { 0.0 };
    let tokens = slot_bytes(size.m(), &[(config.d, config.d)]) as f64;
    Work {
        flops: variant.flops(config, size.m(), size.seq_len),
        bytes: weights * size_of::<f16>() as f64 + tokens,
    }
}

/// Bytes of one slot that are others in the next: x and y, and the products' weights unless they stay warm. Adapters rotate too, but not
/// every call has any.
#[must_use]
pub fn rotating_bytes(config: &Config, m: usize, cache: Cache) -> usize {
    let weights = match cache {
        Cache::Cold => config.product_mul_adds() as usize * size_of::<f16>(),
        Cache::WarmW => 0,
    };
    slot_bytes(m, &[(config.d, config.d)]) + weights
}

/// What each variant's y should be for the two sequences, at one `seq_len` at a time.
#[derive(Default)]
struct References {
    seq_len: usize,
    /// By [`Variant::of_weights`].
    expected: HashMap<Variant, [Array2<f32>; DISTINCT]>,
}

impl References {
    /// What y of a size should be.
    fn expected(
        &mut self,
        size: Size,
        variant: Variant,
        weights: &Weights,
        sequences: &Sequences,
    ) -> Expected {
        if self.seq_len != size.seq_len {
            self.expected.clear();
            self.seq_len = size.seq_len;
        }
        let key = variant.of_weights();
        let of_sequences = self
            .expected
            .entry(key)
            .or_insert_with(|| reference::forward(weights, key, sequences, size.seq_len));
        let d = weights.config().d;
        let mut y = Array2::zeros((DISTINCT * size.seq_len, d));
        for (which, expected) in of_sequences.iter().enumerate() {
            let first = which * size.seq_len;
            y.slice_mut(ndarray::s![first..first + size.seq_len, ..]).assign(&expected.mapv(f64::from));
        }
        // The errors of layers, independent of each other, add up like a random walk.
        let growth = (weights.config().layers as f64).sqrt();
        let mean_square = y.iter().map(|value| value * value).sum::<f64>() / y.len() as f64;
        let element = ELEMENT_TOLERANCE * growth * mean_square.sqrt();
        let row = |row: usize| (row, (row / size.seq_len % DISTINCT) * size.seq_len + row % size.seq_len);
        Expected {
            rows: (0..size.m()).map(row).collect(),
            tolerance: Array2::from_elem(y.dim(), element),
            y,
            norm_tolerance: TOLERANCE * growth,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SIZE: Size = Size { seq_len: 128, batch: 4 };
    const GRANULE: Granule = Granule { shrink_n: 16, expand_k: 1 };

    fn of(targets: Targets, torch: bool) -> Vec<Method> {
        methods(&Config::GPT2_MEDIUM_LAYER, targets, Cache::Cold, GRANULE, SIZE, torch)
    }

    fn find<'a>(methods: &'a [Method], name: &str, rank: usize) -> &'a Method {
        let mut found =
            methods.iter().filter(|m| m.rank == rank && m.names.iter().any(|other| other == name));
        let method = found.next().unwrap_or_else(|| panic!("no {name} at {rank}"));
        assert!(found.next().is_none(), "{name} at {rank} twice");
        method
    }

    #[test]
    fn a_size_has_14_methods_and_17_records() {
        let methods = of(Targets::All, false);
        assert_eq!(methods.len(), 14);
        assert_eq!(methods.iter().map(|method| method.names.len()).sum::<usize>(), 17);
        let ids: BTreeSet<&str> = methods.iter().map(|method| method.ids[0].as_str()).collect();
        assert!(
            ids.len() == 14 && ids.contains("r0/none-again") && ids.contains("r100/lora-fused"),
            "{ids:?}"
        );
        assert!(methods[0].is_base(0) && methods[1..].iter().all(|method| method.base == Some(0)));

        let floor = |name| find(&methods, name, 250).floor.unwrap().pct;
        let floors = ["lora-fused", "lora-unfused", "adapter-h", "adapter-l"].map(floor);
        assert!(
            floors.iter().zip([32.552, 32.552, 8.138, 4.069]).all(|(a, b)| (a - b).abs() < 1e-3),
            "{floors:?}"
        );
        let noise = find(&methods, "lora-fused", 0);
        assert_eq!((noise.floor.unwrap().pct, noise.names.len()), (0.0, 4));
        assert!(noise.ids.contains(&"r0/adapter-h".to_owned()));
        // 512 tokens; 12 d² of products, 129/2 · 2 d of attention.
        assert_eq!(methods[0].work.flops, 1024.0 * (12.0 * 1024.0 * 1024.0 + 129.0 * 1024.0));
        assert_eq!(methods[0].work.bytes, 2.0 * (12.0 * 1024.0 * 1024.0 + 2.0 * 512.0 * 1024.0));
        assert_eq!(rotating_bytes(&Config::GPT2_MEDIUM_LAYER, 128, Cache::Cold), (24 << 20) + (512 << 10));
        assert_eq!(rotating_bytes(&Config::GPT2_MEDIUM_LAYER, 128, Cache::WarmW), 512 << 10);
    }

    #[test]
    fn lora_on_q_and_v_is_told_apart_and_pytorch_has_a_base_of_its_own() {
        let methods = of(Targets::QueryValue, true);
        let names: BTreeSet<&str> = methods.iter().flat_map(|m| m.names.iter().map(String::as_str)).collect();
        let expected = [
            "none",
            "adapter-h",
            "adapter-l",
            "lora-unfused-qv",
            "lora-fused-qv",
            "torch-fp32/none",
            "torch-fp32/adapter-h",
            "torch-fp32/adapter-l",
            "torch-fp32/lora-qv",
        ];
        assert_eq!(names, expected.into());
        // none, and adapter-h, adapter-l and lora at three ranks.
        assert_eq!(methods.len(), 14 + 10);
        let base = methods.iter().position(|method| method.names[0] == "torch-fp32/none").unwrap();
        assert!(methods[base].is_base(base) && methods[base].floor.is_none());
        let lora = find(&methods, "torch-fp32/lora-qv", 100);
        assert_eq!(
            (lora.base, lora.dtype, lora.is_for_criterion(), lora.ours),
            (Some(base), "f32", false, false)
        );
        assert_eq!(
            lora.ids,
            ["r100/lora-unfused-qv", "r100/lora-fused-qv"],
            "it runs where either is selected"
        );
        assert!(lora.floor.unwrap().pad_pct.is_none());
        assert!(methods[base].ids.len() > 14);
    }
}

//! The methods of a size: what runs in its rounds, and under which names.

use fused_lora::Granule;
use fused_lora_records::RANKS;
use fused_lora_transformer::{Config, Method as Kind, Targets};
use half::f16;

use super::variant::{Variant, torch_name};
use crate::method::{Floor, Method, Provider, Task, Work};
use crate::operands::slot_bytes;
use crate::settings::Cache;
use crate::size::Size;

/// The bare layer, the bare layer again, all others at each rank; and PyTorch's, where it runs.
pub fn methods(
    config: &Config,
    targets: Targets,
    cache: Cache,
    granule: Granule,
    size: Size,
    torch: bool,
) -> Vec<Method> {
    let ours = |variant: Variant, names: Vec<String>| Method {
        task: Task::Layer(variant),
        ids: names.iter().map(|name| format!("r{}/{name}", variant.rank)).collect(),
        names,
        rank: variant.rank,
        base: Some(0),
        work: work(config, cache, size, variant),
        floor: Some(floor(variant, config, granule)),
        dtype: "f16",
        provider: Provider::Library(0),
    };
    let variants = |rank| Kind::ALL[1..].iter().map(move |&kind| Variant::new(kind, targets, rank));
    let bare = Method { floor: None, ..ours(Variant::NONE, vec!["none".to_owned()]) };
    let mut again = ours(Variant::NONE, variants(0).map(|variant| variant.name()).collect());
    again.ids.insert(0, "r0/none-again".to_owned());
    let mut methods = vec![bare, again];
    for variant in RANKS.into_iter().filter(|&rank| rank > 0).flat_map(variants) {
        methods.push(ours(variant, vec![variant.name()]));
    }
    if torch {
        with_torch(&mut methods);
    }
    methods
}

/// Appends PyTorch's methods: its own base, and each that has the arithmetic of one of ours. They run where
/// that one is selected.
fn with_torch(methods: &mut Vec<Method>) {
    let base = methods.len();
    let mut theirs: Vec<Method> = Vec::new();
    for like in methods.iter() {
        let Task::Layer(variant) = like.task else { continue };
        let task = Task::Layer(variant.of_weights());
        let name = format!("torch-fp32/{}", torch_name(&like.names[0]));
        match theirs.iter_mut().find(|other| other.task == task) {
            Some(same) => same.ids.extend_from_slice(&like.ids),
            None => theirs.push(Method {
                task,
                ids: [&[format!("r{}/{name}", like.rank)], &like.ids[..]].concat(),
                names: vec![name],
                base: Some(base),
                // How PyTorch pads a rank is not known.
                floor: like.floor.map(|floor| Floor { pad_pct: None, ..floor }),
                // x, W and y in four bytes each.
                work: Work { bytes: 2.0 * like.work.bytes, ..like.work },
                dtype: "f32",
                provider: Provider::Torch,
                ..like.clone()
            }),
        }
    }
    // Its base runs beside whatever is selected.
    theirs[0].ids.extend(methods.iter().flat_map(|method| method.ids.iter().cloned()));
    methods.extend(theirs);
}

fn floor(Variant { method, targets, rank }: Variant, config: &Config, granule: Granule) -> Floor {
    Floor {
        pct: method.floor_pct(config, targets, rank),
        pad_pct: Some(method.floor_pad_pct(config, targets, rank, granule)),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fused_lora_records::Workload;

    use super::*;
    use crate::layer::variant::config;

    const SIZE: Size = Size { seq_len: 128, batch: 4 };
    const CONFIG: Config = Config::GPT2_MEDIUM_LAYER;

    fn of(targets: Targets, torch: bool) -> Vec<Method> {
        methods(&CONFIG, targets, Cache::Cold, Granule { shrink_n: 16, expand_k: 1 }, SIZE, torch)
    }

    /// The only one of that name and rank.
    fn find<'a>(methods: &'a [Method], name: &str, rank: usize) -> &'a Method {
        let is_it = |m: &&Method| m.rank == rank && m.names.iter().any(|other| other == name);
        let found: Vec<&Method> = methods.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name} at {rank}");
        found[0]
    }

    #[test]
    fn a_size_has_14_methods_and_17_records() {
        let methods = of(Targets::All, false);
        assert_eq!(methods.len(), 14);
        assert_eq!(methods.iter().map(|method| method.names.len()).sum::<usize>(), 17);
        let ids: BTreeSet<&str> = methods.iter().map(|method| method.ids[0].as_str()).collect();
        assert_eq!(ids.len(), 14);
        assert!(ids.contains("r0/none-again") && ids.contains("r100/lora-fused"), "{ids:?}");
        assert!(methods[0].is_base(0) && methods[1..].iter().all(|method| method.base == Some(0)));

        // 512 tokens; an adapter's r d times so many multiply-adds for each.
        for (name, floor, terms) in [
            ("lora-fused", 32.552, 16.0),
            ("lora-unfused", 32.552, 16.0),
            ("adapter-h", 8.138, 4.0),
            ("adapter-l", 4.069, 2.0),
        ] {
            let Method { work, floor: found, .. } = find(&methods, name, 250);
            assert!((found.unwrap().pct - floor).abs() < 1e-3, "{name}: {found:?}");
            assert_eq!(work.flops - methods[0].work.flops, 1024.0 * terms * 250.0 * 1024.0, "{name}");
        }
        let noise = find(&methods, "lora-fused", 0);
        assert_eq!((noise.floor.unwrap().pct, noise.names.len()), (0.0, 4));
        assert!(noise.ids.contains(&"r0/adapter-h".to_owned()));
        // 12 d² of products, 129/2 · 2 d of attention.
        assert_eq!(methods[0].work.flops, 1024.0 * (12.0 * 1024.0 * 1024.0 + 129.0 * 1024.0));
        assert_eq!(methods[0].work.bytes, 2.0 * (12.0 * 1024.0 * 1024.0 + 2.0 * 512.0 * 1024.0));
        assert_eq!(methods[0].floor, None);
        assert_eq!(work(&CONFIG, Cache::WarmW, SIZE, Variant::NONE).bytes, 2.0 * 2.0 * 512.0 * 1024.0);
    }

    #[test]
    fn lora_on_q_and_v_is_told_apart_and_pytorch_has_a_base_of_its_own() {
        let methods = of(Targets::QueryValue, true);
        let names: BTreeSet<&str> = methods.iter().flat_map(|m| m.names.iter().map(String::as_str)).collect();
        let ours = ["none", "adapter-h", "adapter-l", "lora-unfused-qv", "lora-fused-qv"];
        let theirs =
            ["torch-fp32/none", "torch-fp32/adapter-h", "torch-fp32/adapter-l", "torch-fp32/lora-qv"];
        assert_eq!(names, ours.into_iter().chain(theirs).collect());
        // none, and adapter-h, adapter-l and lora at three ranks.
        assert_eq!(methods.len(), 14 + 10);
        let base = methods.iter().position(|method| method.names[0] == "torch-fp32/none").unwrap();
        assert!(methods[base].is_base(base) && methods[base].floor.is_none());
        assert_eq!(methods[base].work.bytes, 2.0 * methods[0].work.bytes);
        let lora = find(&methods, "torch-fp32/lora-qv", 100);
        assert_eq!((lora.base, lora.dtype), (Some(base), "f32"));
        assert!(!lora.is_for_criterion() && !lora.is_ours() && lora.floor.unwrap().pad_pct.is_none());
        let ids = ["r100/torch-fp32/lora-qv", "r100/lora-unfused-qv", "r100/lora-fused-qv"];
        assert_eq!(lora.ids, ids, "where either is selected");
        assert!(methods[base].ids.len() > 14);
    }

    /// The records' widths are those of the model that is measured.
    #[test]
    fn the_model_is_the_workloads() {
        for workload in Workload::LAYERS {
            let config = config(workload).unwrap();
            assert_eq!(2.0 * config.product_mul_adds(), workload.flops_base(1));
            let lora = Variant::new(Kind::LoraFused, Targets::All, 100);
            let floor = floor(lora, &config, Granule { shrink_n: 16, expand_k: 1 });
            assert_eq!(floor.pct, workload.floor_pct(100));
            assert_eq!(floor.pad_pct, Some(workload.floor_pad_pct(100, 16, 1)));
        }
        assert_eq!(config(&Workload::LINEARS[0]), None);
    }
}

//! The layer on the CPU, and PyTorch's beside it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use fused_lora::cpu::Simd;
use fused_lora_records::{Record, SEQ_LENS};
use fused_lora_transformer::cpu::{Layer, Model, Workspace};
use fused_lora_transformer::{Config, Targets};

use super::models::Models;
use super::sequences::Sequences;
use super::torch::{Options, Torch, TorchCall};
use super::variant::Variant;
use super::weights::Weights;
use super::{References, methods, rotating_bytes};
use crate::check::Expected;
use crate::method::{Call, Method, What};
use crate::operands::{Layout, Operands, on_host};
use crate::probes::{self, Memory};
use crate::ring;
use crate::settings::Cache;
use crate::size::Size;
use crate::suite::Suite;

/// How the layer is to be measured.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The model's sizes.
    pub config: Config,
    /// The projections that LoRA is on.
    pub targets: Targets,
    /// State of the caches.
    pub cache: Cache,
    /// SIMD level.
    pub simd: Simd,
    /// Threads, for PyTorch.
    pub threads: usize,
    /// In bytes; 0 for a test run.
    pub last_level_cache: usize,
    /// The Python interpreter whose PyTorch runs in the rounds.
    pub python: Option<PathBuf>,
}

/// The layer on this host.
pub struct Cpu {
    setup: Setup,
    weights: Weights,
    sequences: Sequences,
    references: References,
    models: Models<Model>,
    operands: Rc<RefCell<Operands>>,
    memory: Memory,
    torch: Option<Rc<RefCell<Torch>>>,
}

impl Cpu {
    /// With nothing made yet.
    ///
    /// # Errors
    ///
    /// If there can be no such model.
    pub fn new(setup: Setup) -> anyhow::Result<Cpu> {
        let longest = SEQ_LENS.into_iter().max().unwrap_or(1);
        Ok(Cpu {
            weights: Weights::new(setup.config)?,
            sequences: Sequences::new(longest, setup.config.d),
            references: References::default(),
            models: Models::new(),
            operands: Rc::default(),
            memory: Memory::new(setup.last_level_cache),
            torch: None,
            setup,
        })
    }

    /// The model of a variant in each of the first slots.
    fn models(&mut self, variant: Variant, slots: usize) -> anyhow::Result<Vec<Rc<Model>>> {
        let Cpu { setup: Setup { config, simd, .. }, weights, models, .. } = self;
        weights.ensure(variant)?;
        let bare = || {
            let layers = weights.layers().iter().map(|layer| Layer::with_simd(*simd, *config, layer));
            Ok(Model::new(*config, layers.collect::<Result<_, _>>()?)?)
        };
        models.of(variant, slots, bare, |bare| Ok(bare.with_adapters(&weights.adapters(variant))?))
    }

    /// PyTorch with the weights that there are, started where it is not running yet.
    fn torch(&mut self, size: Size) -> anyhow::Result<Rc<RefCell<Torch>>> {
        if self.torch.is_none() {
            let Setup { config, threads, cache, last_level_cache, .. } = self.setup;
            let python =
                self.setup.python.as_deref().ok_or_else(|| anyhow::anyhow!("no PyTorch was asked for"))?;
            let mut torch = Torch::start(python, Options { config, threads, cache, last_level_cache })?;
            torch.load(&self.weights, &self.sequences)?;
            self.torch = Some(Rc::new(RefCell::new(torch)));
        }
        let torch =
            self.torch.as_ref().map(Rc::clone).ok_or_else(|| anyhow::anyhow!("it was just started"))?;
        torch.borrow_mut().prepare(size)?;
        Ok(torch)
    }
}

impl Suite for Cpu {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Setup { config, targets, cache, simd, python, .. } = &self.setup;
        let mut methods = methods(config, *targets, *cache, simd.granule(), size, python.is_some());
        methods.extend(probes::methods(methods[0].work.flops));
        methods
    }

    fn slots(&self, size: Size, distance: usize) -> usize {
        ring::slots(rotating_bytes(&self.setup.config, size.m(), self.setup.cache), distance)
    }

    fn prepare(
        &mut self,
        size: Size,
        slots: usize,
        methods: &[Method],
    ) -> anyhow::Result<Vec<Box<dyn Call>>> {
        let Setup { config, cache, .. } = self.setup;
        {
            let mut operands = self.operands.borrow_mut();
            operands.resize(size.m(), &[(config.d, config.d)], slots, |_| ());
            for slot in 0..slots {
                self.sequences.batch(size.seq_len, operands.x_mut(slot));
            }
        }
        // PyTorch gets the adapters that there are: all of them before it starts.
        for method in methods {
            if let What::Layer(variant) = method.what {
                self.weights.ensure(variant)?;
            }
        }
        // Shared: it grows to what the largest size and rank need.
        let workspace = Rc::new(RefCell::new(Workspace::new()));
        let mut calls = Vec::new();
        let mut torch = None;
        for method in methods {
            calls.push(match method.what {
                What::Layer(variant) => {
                    let models = self.models(variant, if cache == Cache::Cold { slots } else { 1 })?;
                    let workspace = Rc::clone(&workspace);
                    on_host(&self.operands, cache, Layout::RowMajor, move |slot, tokens| {
                        let x = tokens[0].x;
                        let workspace = &mut *workspace.borrow_mut();
                        Ok(models[slot].forward(x, size.seq_len, tokens[0].y_rows(), workspace)?)
                    })
                }
                What::Torch(what, rank) => {
                    if torch.is_none() {
                        torch = Some(self.torch(size)?);
                    }
                    let torch =
                        torch.as_ref().map(Rc::clone).ok_or_else(|| anyhow::anyhow!("just started"))?;
                    Box::new(TorchCall { torch, what, rank })
                }
                What::Probe(probe) => self.memory.probe(probe, methods[0].work.flops),
                What::Linear(..) => anyhow::bail!("{} is no layer of a transformer", method.names[0]),
            });
        }
        Ok(calls)
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Vec<Expected>> {
        let variant = match method.what {
            What::Layer(variant) => variant,
            What::Torch(what, rank) => what.variant(rank),
            What::Linear(..) | What::Probe(_) => return Ok(Vec::new()),
        };
        Ok(vec![self.references.expected(size, variant, &self.weights, &self.sequences)])
    }

    fn describe(&self, method: &Method, record: &mut Record) {
        if let (What::Torch(..), Some(torch)) = (method.what, &self.torch) {
            let torch = torch.borrow();
            (record.driver, record.simd) = (torch.version.clone(), torch.simd.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Wrong, check};

    const CONFIG: Config = Config { d: 64, heads: 2, mlp: 128, layers: 2 };
    const SIZE: Size = Size { seq_len: 9, batch: 3 };

    fn cpu(targets: Targets, cache: Cache) -> Cpu {
        let setup = Setup {
            config: CONFIG,
            targets,
            cache,
            simd: Simd::detect().unwrap(),
            threads: 1,
            last_level_cache: 0,
            python: None,
        };
        Cpu::new(setup).unwrap()
    }

    /// Every method's y is right in every slot, and taken for no other's: at the smallest rank, too, an adapter is seen.
    #[test]
    fn every_method_is_right_and_none_passes_for_another() {
        for targets in Targets::ALL {
            let mut cpu = cpu(targets, Cache::Cold);
            let mut methods = cpu.methods(SIZE);
            methods.retain(|method| matches!(method.what, What::Layer(_)));
            let mut calls = cpu.prepare(SIZE, 2, &methods).unwrap();
            for (i, method) in methods.iter().enumerate() {
                let expected = cpu.expected(SIZE, method).unwrap();
                check(method, &mut *calls[i], &expected).unwrap_or_else(|error| panic!("{error}"));
                calls[i].call(1).unwrap();
                let first = calls[i].output().unwrap().remove(0);
                assert_eq!(first.missing(), 0);
                for (j, other) in methods.iter().enumerate() {
                    let (What::Layer(a), What::Layer(b)) = (method.what, other.what) else { continue };
                    let result = check(method, &mut *calls[j], &expected);
                    assert_eq!(result.is_ok(), a.of_weights() == b.of_weights(), "{a:?} taken for {b:?}");
                }
            }
        }
    }

    #[test]
    fn one_wrong_row_is_seen_and_named() {
        let mut cpu = cpu(Targets::QueryValue, Cache::WarmW);
        let methods = cpu.methods(SIZE);
        let fused = methods.iter().position(|method| method.ids[0] == "r10/lora-fused-qv").unwrap();
        let mut calls = cpu.prepare(SIZE, 3, &methods[..=fused]).unwrap();
        calls[fused].call(2).unwrap();

        struct Spoilt<'a>(&'a mut dyn Call, Rc<RefCell<Operands>>);
        impl Call for Spoilt<'_> {
            fn call(&mut self, slot: usize) -> anyhow::Result<crate::time::Time> {
                let time = self.0.call(slot)?;
                let mut operands = self.1.borrow_mut();
                let mut tokens = operands.tokens(0);
                let mut y = tokens[0].y_rows();
                y[[26, 5]] = half::f16::from_f32(y[[26, 5]].to_f32() + 0.1);
                Ok(time)
            }
            fn output(&mut self) -> anyhow::Result<Vec<crate::method::Output>> {
                self.0.output()
            }
        }
        let expected = cpu.expected(SIZE, &methods[fused]).unwrap();
        let mut spoilt = Spoilt(&mut *calls[fused], Rc::clone(&cpu.operands));
        let error = check(&methods[fused], &mut spoilt, &expected).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { deviation, .. } if deviation.at == (26, 5)), "{error}");
        assert!(error.to_string().contains("lora-fused-qv at r10"), "{error}");
    }
}

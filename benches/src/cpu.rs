//! The CPU as an engine: layers packed for a SIMD level, on the buffers of a [`Stage`].

use fused_lora::Strategy;
use fused_lora::cpu::{Adapter, Layer, Simd};
use half::f16;
use ndarray::ArrayView2;

use crate::check::Wrong;
use crate::engine::{Engine, Rig, Size};
use crate::lineup::Lineup;
use crate::method::{Method, Ours};
use crate::model::{Linear, Model};
use crate::stage::Stage;

impl Engine for Simd {
    type Layer = Layer;
    type Rig = Stage;
    type Error = fused_lora::Error;

    fn layer(&self, w: ArrayView2<'_, f16>) -> Result<Layer, fused_lora::Error> {
        Layer::with_simd(*self, w)
    }

    fn with_adapter(
        &self,
        layer: Layer,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> Result<Layer, fused_lora::Error> {
        layer.with_adapter(Adapter::with_simd(*self, a, b, scale)?)
    }

    fn rig(&self, size: Size) -> Stage {
        Stage::new(size.workload, size.m, size.cache, size.last_level_cache)
    }
}

impl Rig<Simd> for Stage {
    type Ours = Ours;

    fn furnish<'m>(
        &mut self,
        model: &'m mut Model,
        rank: usize,
        methods: usize,
    ) -> Result<&'m [Vec<Linear>], fused_lora::Error> {
        Stage::furnish(self, model, rank, methods)
    }

    fn ours(
        &self,
        strategy: Strategy,
        slots: &[Vec<Linear>],
        rank: usize,
    ) -> Result<Ours, fused_lora::Error> {
        Ok(Ours::new(strategy.name(), strategy, slots, rank))
    }

    fn check(&mut self, ours: &mut Ours, slots: &[Vec<Linear>], rank: usize) -> Result<(), Wrong> {
        Stage::check(self, ours, slots, rank)
    }

    fn line_up(&mut self, ours: Vec<Ours>) -> Result<Lineup<'_>, fused_lora::Error> {
        let methods = ours.into_iter().map(|ours| -> Box<dyn Method> { Box::new(ours) });
        Ok(Stage::line_up(self, methods.collect()))
    }
}

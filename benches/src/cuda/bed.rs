//! The rig of a GPU: a ring of buffers of one size, and events around each call.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use fused_lora::Strategy;
use fused_lora::cuda::{Error, Event, Layer};

use crate::check::{Wrong, check};
use crate::cuda::operands::Operands;
use crate::cuda::{Captured, Gpu, Replay, Span};
use crate::engine::{COLD, Rig, Size};
use crate::lineup::{Contest, Lineup};
use crate::method::Method;
use crate::model::{Model, Slots};
use crate::normals::Normals;
use crate::settings::Cache;
use crate::tokens::{self, Tokens};

const SEED: u64 = 2;

/// The buffers of one size.
pub struct Bed {
    gpu: Gpu,
    size: Size,
    span: Span,
    /// None until it is furnished.
    operands: Option<Rc<Operands>>,
    /// The tokens of the first slot: what the reference sees, and where outputs go to be compared.
    first: Vec<Tokens>,
}

impl Bed {
    /// A rig with nothing on it yet.
    #[must_use]
    pub fn new(gpu: Gpu, size: Size) -> Bed {
        let span = Span::new(size, COLD * size.last_level_cache, gpu.peak_flops());
        Bed { gpu, size, span, operands: None, first: Vec::new() }
    }

    fn operands(&self) -> &Rc<Operands> {
        self.operands.as_ref().expect("a rig is furnished before anything runs on it")
    }

    /// What a method of another library needs to run on the same buffers.
    ///
    /// # Panics
    ///
    /// If the rig was not furnished.
    #[must_use]
    pub fn ground(&self) -> Ground<'_> {
        Ground { operands: self.operands(), m: self.size.m, passes: self.span.passes() }
    }

    /// As [`Rig::check`], of any method on these buffers.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check_method(
        &mut self,
        method: &mut dyn Method,
        slots: &Slots<Layer>,
        rank: usize,
    ) -> Result<(), Wrong> {
        check(method, &slots[0], rank, &mut self.first)
    }

    /// As [`Rig::line_up`], of any graphs on these buffers.
    ///
    /// # Errors
    ///
    /// If they cannot be timed.
    pub fn line_up_graphs<'a>(&'a mut self, methods: Vec<Box<dyn Replay + 'a>>) -> Result<Lineup<'a>, Error> {
        let event = || Event::new(&self.gpu.device);
        Ok(Lineup::new(Graphs {
            methods,
            passes: self.span.passes(),
            gpu: self.gpu.clone(),
            start: event()?,
            stop: event()?,
        }))
    }
}

/// The buffers of a furnished rig, and what to do on them.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// x and y, by slot.
    pub operands: &'a Rc<Operands>,
    /// Tokens.
    pub m: usize,
    /// Forward passes of a call: round and round over all slots, from the first on.
    pub passes: usize,
}

impl Rig<Gpu> for Bed {
    type Ours = Captured;

    /// The ring is the same however many methods share it.
    fn furnish<'m>(
        &mut self,
        model: &'m mut Model<Gpu>,
        rank: usize,
        _: usize,
    ) -> Result<&'m Slots<Layer>, Error> {
        let Size { workload, m, cache, .. } = self.size;
        if self.operands.is_none() {
            let (device, mut normals) = (&self.gpu.device, Normals::new(SEED));
            let mut operands = Operands::new(m);
            self.first = tokens::slot(workload, m, &mut normals);
            operands.push(device, &self.first)?;
            for _ in 1..self.span.slots() {
                operands.push(device, &tokens::slot(workload, m, &mut normals))?;
            }
            self.operands = Some(Rc::new(operands));
        }
        let slots = match cache {
            Cache::Cold => self.span.slots(),
            Cache::WarmW => 1,
        };
        model.ensure(slots, rank)?;
        Ok(&model.slots()[..slots])
    }

    fn ours(&self, strategy: Strategy, slots: &Slots<Layer>, rank: usize) -> Result<Captured, Error> {
        Captured::new(&self.gpu, strategy, slots, rank, self.operands(), self.size.m, self.span.passes())
    }

    fn check(&mut self, ours: &mut Captured, slots: &Slots<Layer>, rank: usize) -> Result<(), Wrong> {
        self.check_method(ours, slots, rank)
    }

    fn line_up(&mut self, ours: Vec<Captured>) -> Result<Lineup<'_>, Error> {
        self.line_up_graphs(ours.into_iter().map(|ours| -> Box<dyn Replay> { Box::new(ours) }).collect())
    }
}

/// Graphs against each other, each between two events.
struct Graphs<'a> {
    methods: Vec<Box<dyn Replay + 'a>>,
    passes: usize,
    gpu: Gpu,
    start: Event,
    stop: Event,
}

impl Contest for Graphs<'_> {
    fn methods(&self) -> usize {
        self.methods.len()
    }

    fn passes(&self) -> usize {
        self.passes
    }

    fn time(&mut self, place: usize, _: usize) -> anyhow::Result<Duration> {
        let stream = &self.gpu.stream;
        self.start.record(stream)?;
        self.methods[place].launch()?;
        self.stop.record(stream)?;
        self.gpu.clock.sample();
        self.stop.synchronize()?;
        let seconds = self.stop.seconds_since(&self.start)?;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| !time.is_zero())
            .with_context(|| format!("the device says that {} passes took {seconds} s", self.passes))
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::cuda::Workspace;
    use fused_lora_records::Workload;

    use super::*;
    use crate::engine::Engine as _;

    /// The first device; None, and a line that says why, where there is none. A simulated one will do.
    fn gpu() -> Option<Gpu> {
        match Gpu::open(0) {
            Ok(gpu) => Some(gpu),
            Err(error @ (Error::NoDriver(_) | Error::NoDevice)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("there is a driver, but {error}"),
        }
    }

    fn size(cache: Cache) -> Size {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        Size { workload, m: 8, cache, last_level_cache: 0 }
    }

    #[test]
    fn strategies_are_checked_and_timed() {
        let Some(gpu) = gpu() else { return };
        let size = size(Cache::Cold);
        let mut model = Model::new(size.workload, gpu.clone());
        let mut bed = gpu.rig(size);
        for rank in [10, 0] {
            let slots = bed.furnish(&mut model, rank, 3).unwrap();
            let mut ours = Vec::new();
            for strategy in Strategy::ALL {
                let mut captured = bed.ours(strategy, slots, rank).unwrap();
                bed.check(&mut captured, slots, rank).unwrap_or_else(|error| panic!("r {rank}: {error}"));
                ours.push(captured);
            }
            let mut lineup = bed.line_up(ours).unwrap();
            for _ in 0..2 {
                let times = lineup.round().unwrap();
                assert!(times.len() == 3 && times.iter().all(|time| !time.is_zero()), "{times:?}");
            }
        }
    }

    /// The weights of another slot, or none of the adapter, are not the right ones.
    #[test]
    fn a_wrong_result_is_not_timed() {
        let Some(gpu) = gpu() else { return };
        let size = size(Cache::Cold);
        let mut model = Model::new(size.workload, gpu.clone());
        let mut bed = gpu.rig(size);
        bed.furnish(&mut model, 10, 2).unwrap();
        model.ensure(2, 10).unwrap();
        let slots = model.slots();
        let mut captured = bed.ours(Strategy::Fused, &slots[1..], 10).unwrap();
        let error = bed.check(&mut captured, &slots[..1], 10).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }

    /// Nor is what another strategy left behind.
    #[test]
    fn a_graph_that_computes_nothing_is_not_timed() {
        let Some(gpu) = gpu() else { return };
        let size = size(Cache::Cold);
        let mut model = Model::new(size.workload, gpu.clone());
        let mut bed = gpu.rig(size);
        let slots = bed.furnish(&mut model, 0, 1).unwrap();
        let mut captured = bed.ours(Strategy::Base, slots, 0).unwrap();
        bed.check(&mut captured, slots, 0).unwrap();
        bed.span = Span::of(1, 0);
        let mut empty = bed.ours(Strategy::Base, slots, 0).unwrap();
        let error = bed.check(&mut empty, slots, 0).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 8192, .. }), "{error}");
    }

    /// Each slot's x with that slot's weights, or with the first one's where they stay warm.
    #[test]
    fn a_call_goes_round_the_whole_ring() {
        let Some(gpu) = gpu() else { return };
        let mut workspace = Workspace::new(&gpu.device, 0).unwrap();
        for (cache, weights) in [(Cache::Cold, 3), (Cache::WarmW, 1)] {
            let size = size(cache);
            let mut model = Model::new(size.workload, gpu.clone());
            let mut bed = Bed { span: Span::of(3, 6), ..gpu.rig(size) };
            let slots = bed.furnish(&mut model, 0, 1).unwrap();
            assert_eq!(slots.len(), weights);
            let ours = bed.ours(Strategy::Base, slots, 0).unwrap();
            let mut lineup = bed.line_up(vec![ours]).unwrap();
            assert_eq!(lineup.passes(), 6);
            lineup.round().unwrap();
            drop(lineup);
            let mut read = tokens::slot(size.workload, size.m, &mut Normals::new(1));
            let mut seen = Vec::new();
            for slot in 0..3 {
                bed.operands().read(slot, &mut read).unwrap();
                let found = read[0].y.clone();
                assert!(found.iter().all(|y| y.is_finite()), "slot {slot} was not written");
                assert!(!seen.contains(&found), "slot {slot} has the x of another");

                let layer = slots[slot % weights][0].adapter(0).layer.clone();
                let forward = |layers: &[Layer], workspace: &mut Workspace| {
                    bed.operands().forward(slot, Strategy::Base, layers, workspace, &gpu.stream)
                };
                forward(&[layer], &mut workspace).unwrap();
                bed.operands().read(slot, &mut read).unwrap();
                assert_eq!(read[0].y, found, "slot {slot} has the weights of another");
                seen.push(found);
            }
        }
    }
}

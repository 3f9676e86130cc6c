//! The machine as the host sees it: memory, launches, runs.

use std::{rc::Rc, sync::Arc};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::{
    Kind, Report, Schedule, Stats,
    clock::{MAX_BLOCK, WARP, Who},
    memory::{Content, Global, Tracked},
    ptx::{Marks, Source},
    run::{LaunchInfo, Run},
    scheduler,
    site::Place,
};

/// Most bytes of shared memory of a CTA on any device: compute capability 9.0 and 10.0.
const MAX_SHARED: u32 = 227 * 1024;

/// Most CTAs of a cluster on every device that has clusters, and on any of them when a driver is asked to.
const PORTABLE_CLUSTER: u32 = 8;
const MAX_CLUSTER: u32 = 16;

/// A kernel with its parameters, and how many lanes run it.
#[derive(Clone)]
pub struct Launch {
    /// The name that reports give it.
    pub name: String,
    /// CTAs.
    pub grid: u32,
    /// Lanes of a CTA: a multiple of 32, at most 1024.
    pub block: u32,
    /// Bytes of dynamic shared memory of a CTA.
    pub shared_bytes: u32,
    /// CTAs of a cluster, along x: consecutive ones. The grid is a multiple of it.
    pub cluster: u32,
    /// Whether more than 8 CTAs of a cluster are meant: not every device takes them.
    pub nonportable: bool,
    /// Registers of a lane when it starts, for `setmaxnreg`. The machine counts no others.
    pub registers: u32,
    /// Whether this launch depends programmatically on those before it in the same run: it may begin before they end,
    /// and is ordered after them by `griddepcontrol.wait` alone.
    pub programmatic: bool,
    /// What each lane runs. When a run fails, lanes stop wherever they are, and what they hold on their stacks is
    /// forgotten without being dropped: kernels hold nothing that must be dropped.
    pub kernel: Rc<dyn Fn()>,
    /// The PTX module that it is of, and what its lanes have tried of the entry.
    pub(crate) ptx: Option<(Arc<Source>, Rc<Marks>)>,
}

impl Launch {
    /// A launch.
    pub fn new(
        name: impl Into<String>,
        grid: u32,
        block: u32,
        shared_bytes: u32,
        kernel: impl Fn() + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            grid,
            block,
            shared_bytes,
            cluster: 1,
            nonportable: false,
            registers: 168,
            programmatic: false,
            kernel: Rc::new(kernel),
            ptx: None,
        }
    }

    /// The same in clusters of so many CTAs, at most 8.
    #[must_use]
    pub fn cluster(self, ctas: u32) -> Self {
        Self { cluster: ctas, ..self }
    }

    /// The same with up to 16 CTAs in a cluster, where a device takes that.
    #[must_use]
    pub fn nonportable(self) -> Self {
        Self { nonportable: true, ..self }
    }

    /// The same with so many registers for each lane.
    #[must_use]
    pub fn registers(self, registers: u32) -> Self {
        Self { registers, ..self }
    }

    /// The same as a programmatic dependent of the launches before it in the run.
    #[must_use]
    pub fn programmatic(self) -> Self {
        Self { programmatic: true, ..self }
    }
}

/// Global memory, and the launches that run on it.
///
/// Not bound to anything outside of it: a test makes its own, and many run on as many threads.
#[derive(Default)]
pub struct Machine {
    global: Global,
    shared: Vec<Tracked>,
    last: Stats,
}

impl Machine {
    /// Without any memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory that kernels only read, with what is in it. Gives its address.
    pub fn input<T: NoUninit>(&mut self, values: &[T]) -> u64 {
        self.global.add(Content::Input(bytemuck::cast_slice(values).to_vec()))
    }

    /// Memory that kernels read and write, poisoned. Gives its address.
    pub fn buffer(&mut self, bytes: usize) -> u64 {
        self.global.add(Content::Buffer(Tracked::new(bytes)))
    }

    /// Names the region of an address, for reports. Does nothing if there is none.
    pub fn name(&mut self, address: u64, name: impl Into<String>) {
        if let Some((region, _)) = self.global.find(address) {
            self.global.region_mut(region).name = name.into();
        }
    }

    /// Writes to memory, inputs among it, between launches.
    ///
    /// # Errors
    ///
    /// [`Kind::OutOfBounds`].
    #[track_caller]
    pub fn write<T: NoUninit>(&mut self, address: u64, values: &[T]) -> Result<(), Report> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let (region, offset) = self.locate("write by the host", address, bytes.len())?;
        match &mut self.global.region_mut(region).content {
            Content::Input(input) => input[offset..offset + bytes.len()].copy_from_slice(bytes),
            Content::Buffer(tracked) => tracked.write(offset, bytes),
        }
        Ok(())
    }

    /// Reads `n` values from memory, at any alignment.
    ///
    /// # Errors
    ///
    /// [`Kind::OutOfBounds`]; [`Kind::Poison`] if nobody wrote one of the bytes.
    #[track_caller]
    pub fn read<T: AnyBitPattern>(&self, address: u64, n: usize) -> Result<Vec<T>, Report> {
        let op = "read by the host";
        let bytes = n.saturating_mul(size_of::<T>());
        let (region, offset) = self.locate(op, address, bytes)?;
        let region = self.global.region(region);
        if let Content::Buffer(tracked) = &region.content
            && let Some(byte) = tracked.first_poisoned(offset, bytes)
        {
            let address = format!("{} + {byte:#x}", region.name);
            return Err(Report::host(Kind::Poison { op: op.to_owned(), address }));
        }
        let content = &region.bytes()[offset..offset + bytes];
        Ok(content.chunks_exact(size_of::<T>().max(1)).map(bytemuck::pod_read_unaligned).collect())
    }

    /// Makes bytes of a buffer such as nobody wrote.
    ///
    /// # Errors
    ///
    /// [`Kind::OutOfBounds`], also for an input.
    #[track_caller]
    pub fn poison(&mut self, address: u64, bytes: usize) -> Result<(), Report> {
        let op = "poisoning by the host";
        let (region, offset) = self.locate(op, address, bytes)?;
        if let Content::Buffer(tracked) = &mut self.global.region_mut(region).content {
            tracked.poison(offset, bytes);
            return Ok(());
        }
        let address = self.global.describe(address);
        Err(Report::host(Kind::OutOfBounds { op: op.to_owned(), address, bytes, limit: 0 }))
    }

    /// Runs launches beside each other, on the same slots. Everything before is ordered before them, and they before
    /// everything after.
    ///
    /// # Errors
    ///
    /// The first fault. The run stops there; memory holds what was written until then, and the machine goes on to be
    /// usable.
    #[track_caller]
    pub fn run(&mut self, launches: &[Launch], schedule: &Schedule) -> Result<Stats, Report> {
        let infos = infos(launches).map_err(|reason| Report::host(Kind::Launch { reason }))?;
        let global = std::mem::take(&mut self.global);
        let shared = std::mem::take(&mut self.shared);
        let run = Box::new(Run::new(global, infos, schedule.clone(), shared));
        let (run, result) = scheduler::drive(run, launches);
        (self.global, self.shared, self.last) = run.finish();
        for (_, marks) in launches.iter().filter_map(|launch| launch.ptx.as_ref()) {
            self.last.coverage.add_marks(marks);
        }
        result.map(|()| self.last.clone())
    }

    /// What the latest run did, also if it failed: up to there.
    #[must_use]
    pub fn last_stats(&self) -> &Stats {
        &self.last
    }

    #[track_caller]
    fn locate(&self, op: &str, address: u64, bytes: usize) -> Result<(usize, usize), Report> {
        let found = self.global.find(address);
        let limit = found.map_or(0, |(region, _)| self.global.region(region).len());
        found.filter(|(_, offset)| offset.checked_add(bytes).is_some_and(|end| end <= limit)).ok_or_else(
            || {
                let address = self.global.describe(address);
                Report::host(Kind::OutOfBounds { op: op.to_owned(), address, bytes, limit })
            },
        )
    }
}

impl Report {
    /// A fault of the host's, at the caller's line.
    #[track_caller]
    pub(crate) fn host(kind: Kind) -> Self {
        Self { kernel: "host".into(), cta: 0, lane: 0, location: Place::caller(), kind }
    }
}

/// Checks launches.
fn infos(launches: &[Launch]) -> Result<Vec<LaunchInfo>, String> {
    let mut first_cta = 0u32;
    let mut infos = Vec::new();
    for launch in launches {
        let Launch { name, grid, block, shared_bytes, cluster, nonportable, registers, programmatic, .. } =
            launch;
        let (grid, block, cluster) = (*grid, *block, *cluster);
        if block == 0 || block % WARP != 0 || block > MAX_BLOCK {
            return Err(format!(
                "{name} has {block} lanes in a CTA: not a multiple of {WARP} up to {MAX_BLOCK}"
            ));
        }
        if *shared_bytes > MAX_SHARED {
            return Err(format!(
                "{name} wants {shared_bytes} bytes of shared memory, of at most {MAX_SHARED}"
            ));
        }
        if grid == 0 {
            return Err(format!("{name} has no CTAs"));
        }
        let most = if *nonportable { MAX_CLUSTER } else { PORTABLE_CLUSTER };
        if cluster == 0 || cluster > most || !grid.is_multiple_of(cluster) {
            return Err(format!(
                "{name} has {grid} CTAs in clusters of {cluster}: not a multiple of 1 to {most}"
            ));
        }
        infos.push(LaunchInfo {
            name: name.clone(),
            grid,
            block,
            shared_bytes: *shared_bytes as usize,
            cluster,
            registers: *registers,
            programmatic: *programmatic,
            source: launch.ptx.as_ref().map(|(source, _)| Arc::clone(source)),
            first_cta,
            undispatched: grid,
            running: grid,
            boundary: None,
        });
        first_cta = first_cta
            .checked_add(grid)
            .filter(|&ctas| ctas <= Who::MAX_CTAS)
            .ok_or_else(|| format!("more than {} CTAs", Who::MAX_CTAS))?;
    }
    Ok(infos)
}

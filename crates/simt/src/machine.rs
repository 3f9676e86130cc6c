//! The machine as the host sees it: memory and runs.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::{
    launch::{Launch, infos},
    memory::{Content, Global, Tracked},
    report::{Kind, Report},
    run::Run,
    schedule::Schedule,
    scheduler,
    stats::Stats,
};

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

    /// Runs launches beside each other, on the same slots. Everything before is ordered before them, and they
    /// before everything after.
    ///
    /// # Errors
    ///
    /// The first fault. The run stops there; memory holds what was written until then, and the machine goes
    /// on to be usable.
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

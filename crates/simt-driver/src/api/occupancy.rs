//! Occupancy.

use crate::{
    code::{Code, Handle, Outcome},
    device::Footprint,
    driver::{Driver, Function},
    entry::{Out, exports},
    launch_config::{Geometry, LaunchConfig, product},
};

impl Driver {
    /// What a CTA of a function takes of a multiprocessor.
    fn footprint(&mut self, function: Handle, threads: i32, shared_bytes: usize) -> Outcome<Footprint> {
        let registers = self.function(function)?.entry.registers();
        let threads = u32::try_from(threads).map_err(|_| Code::INVALID_VALUE)?;
        Ok(Footprint { threads, registers, shared_bytes: u32::try_from(shared_bytes).unwrap_or(u32::MAX) })
    }

    fn active_clusters(&mut self, function: Handle, geometry: Geometry) -> Outcome<u32> {
        let Function { entry, dynamic_shared_limit, .. } = self.function(function)?.clone();
        let Geometry { block, shared_bytes, cluster, .. } = geometry;
        let dims = cluster.ok_or(Code::INVALID_CLUSTER_SIZE)?;
        let ctas = self.cluster(dims).map_err(|(code, reason)| {
            eprintln!("fused-lora-simt-driver: no clusters of {}: {reason}", entry.name());
            code
        })?;
        if shared_bytes > dynamic_shared_limit {
            return Err(Code::INVALID_VALUE);
        }
        let threads = product(block).ok_or(Code::INVALID_VALUE)?;
        let footprint = Footprint { threads, registers: entry.registers(), shared_bytes };
        Ok(self.device.active_clusters(footprint, ctas))
    }
}

exports! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        driver,
        to: Out<i32>,
        function: Handle,
        threads: i32,
        shared_bytes: usize,
    ) needs Health {
        let footprint = driver.footprint(function, threads, shared_bytes)?;
        to.set(driver.device.occupancy(footprint) as i32)
    }

    /// Wants the size of the cluster among the attributes, and the shared memory allowed to the function.
    fn cuOccupancyMaxActiveClusters(
        driver,
        to: Out<i32>,
        function: Handle,
        config: *const LaunchConfig,
    ) needs Health {
        // SAFETY: the caller's.
        let (_, geometry) = unsafe { LaunchConfig::read(config)? };
        let clusters = driver.active_clusters(function, geometry)?;
        to.set(clusters as i32)
    }
}

//! Launches.

use std::{ffi::c_void, sync::Arc};

use crate::{
    code::{Code, Handle, Outcome},
    device::{Footprint, PORTABLE_CLUSTER},
    driver::{Driver, Function},
    entry::exports,
    launch_config::{Geometry, LaunchConfig, product},
    work::{KernelLaunch, Op},
};

/// Most CTAs of a grid along y and z, and most threads of a CTA along z. CUDA C++ Programming Guide,
/// *Technical Specifications*.
const MOST_HIGH: u32 = 65_535;
const MOST_DEEP: u32 = 64;

impl Driver {
    /// Launches a kernel.
    ///
    /// # Safety
    ///
    /// `parameters` is null or valid for reads of as many pointers as the kernel has parameters, each of
    /// which is null or valid for reads of as many bytes as its parameter has.
    unsafe fn launch(
        &mut self,
        handle: Handle,
        geometry: Geometry,
        stream: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Outcome {
        let stream = self.stream(stream)?;
        if !extra.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        let function = self.function(handle)?.clone();
        if parameters.is_null() && function.entry.has_parameters() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's: one pointer for each parameter of the kernel.
        let bytes = unsafe { function.entry.parameters(parameters.cast::<*const c_void>())? };
        let launch = self.checked_launch(&function, geometry, bytes).map_err(|(code, reason)| {
            eprintln!("fused-lora-simt-driver: {} not launched: {reason}", function.entry.name());
            code
        })?;
        self.submit(stream, Op::Launch(Box::new(launch)))
    }

    /// Checks a launch as the driver does.
    fn checked_launch(
        &self,
        function: &Function,
        geometry: Geometry,
        parameters: Arc<[u8]>,
    ) -> Result<KernelLaunch, (Code, String)> {
        let Function { entry, dynamic_shared_limit, .. } = function;
        let dynamic_shared_limit = *dynamic_shared_limit;
        let Geometry { grid, block, shared_bytes, cluster, programmatic } = geometry;
        let reject = |code: Code, reason: String| Err((code, reason));
        let ctas = product(grid).filter(|&ctas| ctas > 0 && ctas <= i32::MAX as u32);
        let is_high = grid[1..].iter().any(|&dim| dim > MOST_HIGH);
        if ctas.is_none() || is_high {
            return reject(Code::INVALID_VALUE, format!("a grid of {grid:?} CTAs"));
        }
        let threads = product(block).unwrap_or(0);
        if block[2] > MOST_DEEP {
            return reject(Code::INVALID_VALUE, format!("CTAs of {block:?} threads"));
        }
        if threads == 0 || threads > entry.threads() {
            let reason = format!("CTAs of {threads} threads, of {} at most", entry.threads());
            return reject(Code::INVALID_VALUE, reason);
        }
        if threads * entry.registers() > self.device.registers {
            let reason = "more registers than a multiprocessor has";
            return reject(Code::LAUNCH_OUT_OF_RESOURCES, reason.to_owned());
        }
        if shared_bytes > dynamic_shared_limit.min(self.device.shared_opt_in) {
            let reason =
                format!("{shared_bytes} bytes of shared memory, {dynamic_shared_limit} allowed to it");
            return reject(Code::INVALID_VALUE, reason);
        }
        if programmatic && !self.device.has_clusters() {
            let (major, minor) = self.device.capability;
            let reason = format!("a programmatic dependent launch on compute capability {major}.{minor}");
            return reject(Code::NOT_SUPPORTED, reason);
        }
        let footprint = Footprint { threads, registers: entry.registers(), shared_bytes };
        let cluster = cluster.map_or(Ok([1; 3]), |dims| self.checked_cluster(grid, footprint, dims))?;
        let entry = entry.clone();
        Ok(KernelLaunch { entry, parameters, grid, block, shared_bytes, cluster, programmatic })
    }

    /// The dimensions of a cluster.
    fn checked_cluster(
        &self,
        grid: [u32; 3],
        footprint: Footprint,
        dims: [u32; 3],
    ) -> Result<[u32; 3], (Code, String)> {
        let ctas = self.cluster(dims)?;
        if grid.iter().zip(dims).any(|(grid, dim)| !grid.is_multiple_of(dim)) {
            return Err((Code::INVALID_CLUSTER_SIZE, format!("{grid:?} CTAs in clusters of {dims:?}")));
        }
        if self.device.active_clusters(footprint, ctas) == 0 {
            let reason = format!("the device has no room for a cluster of {ctas} of its CTAs");
            return Err((Code::INVALID_CLUSTER_SIZE, reason));
        }
        Ok(dims)
    }

    /// CTAs of a cluster by its dimensions.
    pub(super) fn cluster(&self, dims: [u32; 3]) -> Result<u32, (Code, String)> {
        if !self.device.has_clusters() {
            let (major, minor) = self.device.capability;
            return Err((Code::NOT_SUPPORTED, format!("clusters on compute capability {major}.{minor}")));
        }
        product(dims)
            .filter(|ctas| (1..=PORTABLE_CLUSTER).contains(ctas))
            .ok_or_else(|| (Code::INVALID_CLUSTER_SIZE, format!("clusters of {dims:?} CTAs")))
    }
}

exports! {
    /// Parameters come by `parameters`; the buffer of `extra` is not taken.
    fn cuLaunchKernel(
        driver,
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared_bytes: u32,
        stream: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) needs Health {
        let geometry = Geometry {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes,
            cluster: None,
            programmatic: false,
        };
        // SAFETY: the caller's.
        unsafe { driver.launch(function, geometry, stream, parameters, extra) }
    }

    /// As above. Of the attributes, clusters and programmatic stream serialization are here.
    fn cuLaunchKernelEx(
        driver,
        config: *const LaunchConfig,
        function: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) needs Health {
        // SAFETY: the caller's.
        unsafe {
            let (stream, geometry) = LaunchConfig::read(config)?;
            driver.launch(function, geometry, stream, parameters, extra)
        }
    }
}

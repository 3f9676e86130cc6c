//! Functions: attributes, occupancy, launches.

use std::ffi::c_void;

use fused_lora_kernels::params::Params;

use crate::{
    code::{Code, Outcome},
    driver::{Driver, Function, Handle},
    entry::{exports, store},
    work::{HostFunction, KernelLaunch, Op},
};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES` and `..._PREFERRED_SHARED_MEMORY_CARVEOUT`.
const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;

impl Driver {
    fn function(&mut self, handle: Handle) -> Outcome<&mut Function> {
        self.functions.get_mut(&handle).ok_or(Code::INVALID_HANDLE)
    }

    /// Checks a launch as the driver does, and also what our kernels want and the driver does not know.
    fn checked_launch(
        &mut self,
        handle: Handle,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        params: Params,
    ) -> Outcome<KernelLaunch> {
        let limit = self.device.shared_opt_in;
        let registers = self.device.registers;
        let Function { kernel, dynamic_shared_limit, .. } = *self.function(handle)?;
        let reject = |code: Code, reason: String| {
            eprintln!("fused-lora-simt-driver: {} not launched: {reason}", kernel.name);
            Err(code)
        };
        let [threads, 1, 1] = block else {
            return reject(Code::INVALID_VALUE, format!("its CTAs have one dimension, not {block:?}"));
        };
        let [grid, 1, 1] = grid else {
            return reject(Code::INVALID_VALUE, format!("its grid has one dimension, not {grid:?}"));
        };
        if grid == 0 || grid > i32::MAX as u32 {
            return reject(Code::INVALID_VALUE, format!("a grid of {grid} CTAs"));
        }
        if threads != kernel.threads {
            return reject(Code::INVALID_VALUE, format!("CTAs of {threads} threads, not {}", kernel.threads));
        }
        if threads * kernel.max_registers > registers {
            return reject(
                Code::LAUNCH_OUT_OF_RESOURCES,
                "more registers than a multiprocessor has".to_owned(),
            );
        }
        if shared_bytes > dynamic_shared_limit.min(limit) {
            let reason =
                format!("{shared_bytes} bytes of shared memory, {dynamic_shared_limit} allowed to it");
            return reject(Code::INVALID_VALUE, reason);
        }
        if shared_bytes < kernel.shared_bytes {
            let reason = format!("{shared_bytes} bytes of shared memory, it uses {}", kernel.shared_bytes);
            return reject(Code::INVALID_VALUE, reason);
        }
        Ok(KernelLaunch { kernel, grid, threads, shared_bytes, params })
    }
}

exports! {
    fn cuFuncGetAttribute(driver, to: *mut i32, attribute: u32, function: Handle) needs Health {
        let capability = driver.device.capability;
        let Function { kernel, dynamic_shared_limit, carveout, .. } = driver.function(function)?;
        let value = match attribute {
            0 => kernel.threads as i32,       // MAX_THREADS_PER_BLOCK
            1 | 2 | 3 | 7 => 0,               // SHARED_SIZE_BYTES (static), CONST, LOCAL, CACHE_MODE_CA
            4 => kernel.max_registers as i32, // NUM_REGS
            5 => 80,                          // PTX_VERSION
            6 => (10 * capability.0 + capability.1) as i32, // BINARY_VERSION
            MAX_DYNAMIC_SHARED => *dynamic_shared_limit as i32,
            CARVEOUT => *carveout,
            _ => return Err(Code::INVALID_VALUE),
        };
        // SAFETY: the caller's.
        unsafe { store(to, value) }
    }

    fn cuFuncSetAttribute(driver, function: Handle, attribute: u32, value: i32) needs Health {
        let limit = driver.device.shared_opt_in;
        let function = driver.function(function)?;
        match (attribute, u32::try_from(value)) {
            (MAX_DYNAMIC_SHARED, Ok(bytes)) if bytes <= limit => function.dynamic_shared_limit = bytes,
            (CARVEOUT, _) if (-1..=100).contains(&value) => function.carveout = value,
            _ => return Err(Code::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuFuncSetCacheConfig(driver, function: Handle, _config: u32) needs Health {
        driver.function(function).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(driver, function: Handle, _config: u32) needs Health {
        driver.function(function).map(|_| ())
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        driver,
        to: *mut i32,
        function: Handle,
        threads: i32,
        shared_bytes: usize,
    ) needs Health {
        let kernel = driver.function(function)?.kernel;
        let threads = u32::try_from(threads).map_err(|_| Code::INVALID_VALUE)?;
        let ctas = driver.device.occupancy(kernel, threads, u32::try_from(shared_bytes).unwrap_or(u32::MAX));
        // SAFETY: the caller's.
        unsafe { store(to, ctas as i32) }
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        driver,
        to: *mut i32,
        function: Handle,
        threads: i32,
        shared_bytes: usize,
        _flags: u32,
    ) needs Health {
        let kernel = driver.function(function)?.kernel;
        let threads = u32::try_from(threads).map_err(|_| Code::INVALID_VALUE)?;
        let ctas = driver.device.occupancy(kernel, threads, u32::try_from(shared_bytes).unwrap_or(u32::MAX));
        // SAFETY: the caller's.
        unsafe { store(to, ctas as i32) }
    }

    /// Kernels take one `Params`, by `parameters`; the buffer of `extra` is not taken.
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
        let stream = driver.stream(stream)?;
        if !extra.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        if parameters.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's: one pointer for each parameter of the kernel, and it has one.
        let params = unsafe { parameters.read() };
        if params.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's: as many bytes as the kernel's parameter has, any of which make a `Params`.
        let params = unsafe { params.cast::<Params>().read_unaligned() };
        let grid = [grid_x, grid_y, grid_z];
        let block = [block_x, block_y, block_z];
        let launch = driver.checked_launch(function, grid, block, shared_bytes, params)?;
        driver.submit(stream, Op::Launch(Box::new(launch)))
    }

    fn cuLaunchHostFunc(
        driver,
        stream: Handle,
        function: Option<unsafe extern "C" fn(*mut c_void)>,
        data: *mut c_void,
    ) needs Health {
        let stream = driver.stream(stream)?;
        let function = function.ok_or(Code::INVALID_VALUE)?;
        driver.submit(stream, Op::Call(HostFunction { function, data }))
    }
}

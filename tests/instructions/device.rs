//! A GPU, where there is one.

use std::{env, ffi::c_void, sync::OnceLock};

use cust::{
    context::{Context, CurrentContext},
    device::DeviceAttribute,
    error::CudaError,
    memory::{CopyDestination as _, DeviceBuffer},
    module::Module,
    stream::{Stream, StreamFlags},
};
use fused_lora_kernels::{
    Global,
    instructions::{Instruction, Params},
    ptx,
};

use crate::launch::{Outcome, grid};

/// Set to anything: no device is a failure.
const REQUIRE: &str = "FUSED_LORA_REQUIRE_DEVICE";

/// What is in output memory before a run, and behind it after one.
pub(crate) const POISON: u32 = 0xffff_dead;

/// Words behind the output that must stay as they are.
pub(crate) const GUARD: usize = 64;

/// The first GPU, with the entries loaded.
pub(crate) struct Device {
    pub(crate) name: String,
    /// Major and minor.
    pub(crate) capability: [i32; 2],
    module: Module,
    context: Context,
}

/// The device that runs the entries; else why there is none.
///
/// # Panics
///
/// If there is a driver that fails otherwise than by having no device: that must not look like a pass.
pub(crate) fn find() -> Result<&'static Device, &'static str> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    let device = DEVICE.get_or_init(open).as_ref().map_err(String::as_str);
    if let Err(why) = device
        && env::var_os(REQUIRE).is_some_and(|value| !value.is_empty())
    {
        panic!("{REQUIRE} is set, and there is no device: {why}");
    }
    device
}

fn open() -> Result<Device, String> {
    fused_lora_libcuda::load().map_err(|error| error.to_string())?;
    match cust::init(cust::CudaFlags::empty()) {
        Err(error @ CudaError::NoDevice) => return Err(error.to_string()),
        other => other.expect("the driver is there: it starts"),
    }
    if cust::device::Device::num_devices().expect("the number of devices") == 0 {
        return Err("the driver has no devices".to_owned());
    }
    let device = cust::device::Device::get_device(0).expect("the first device");
    let name = device.name().expect("a device has a name");
    let attribute = |attribute| device.get_attribute(attribute).expect("an attribute");
    let capability = [DeviceAttribute::ComputeCapabilityMajor, DeviceAttribute::ComputeCapabilityMinor];
    let capability @ [major, minor] = capability.map(attribute);
    if major < 8 {
        return Err(format!("{name} has compute capability {major}.{minor}, and the kernels need 8.0"));
    }
    let context = Context::new(device).expect("a context");
    let module = Module::from_ptx(ptx::SM80_INSTRUCTIONS, &[]).expect("the driver compiles the PTX");
    println!("device: {name}, compute capability {major}.{minor}");
    Ok(Device { name, capability, module, context })
}

impl Device {
    /// Makes its context that of this thread: each test has one of its own.
    #[track_caller]
    pub(crate) fn enter(&self) {
        CurrentContext::set_current(&self.context)
            .unwrap_or_else(|e| panic!("the context of {}: {e}", self.name));
    }

    /// Runs `entry` on `[items, input_words]`.
    #[track_caller]
    pub(crate) fn run(&self, entry: &Instruction, items: usize, input: &[u32]) -> Outcome {
        let what = |what: &str| format!("{} on {}: {what}", entry.name, self.name);
        self.enter();

        let (words, counters) = (items * entry.output_words as usize, entry.counters as usize);
        let mut output = vec![POISON; words + counters + GUARD];
        output[words..words + counters].fill(0);
        // Memory of no bytes is none to cust.
        let from = DeviceBuffer::from_slice(if input.is_empty() { &[0] } else { input })
            .unwrap_or_else(|e| panic!("{}: {e}", what("input")));
        let to = DeviceBuffer::from_slice(&output).unwrap_or_else(|e| panic!("{}: {e}", what("output")));

        let mut params = Params {
            input: Global::from_address(from.as_device_ptr().as_raw()),
            output: Global::from_address(to.as_device_ptr().as_raw()),
            count: items as u32,
        };
        let function =
            self.module.get_function(entry.name).unwrap_or_else(|e| panic!("{}: {e}", what("entry")));
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None)
            .unwrap_or_else(|e| panic!("{}: {e}", what("stream")));
        // SAFETY: the launch is that of the entry's row, on buffers of the sizes that it names, which live until
        // the stream is done; the entry has one parameter, of this type.
        unsafe {
            stream.launch(
                &function,
                grid(items),
                entry.threads,
                entry.shared_bytes,
                &[(&raw mut params).cast::<c_void>()],
            )
        }
        .unwrap_or_else(|e| panic!("{}: {e}", what("launch")));
        stream.synchronize().unwrap_or_else(|e| panic!("{}: {e}", what("run")));

        to.copy_to(&mut output).unwrap_or_else(|e| panic!("{}: {e}", what("reading the output")));
        assert_eq!(
            output.split_off(words + counters),
            [POISON; GUARD],
            "{}",
            what("wrote behind the output")
        );
        let counters = output.split_off(words);
        Outcome { by: self.name.clone(), on_device: true, output, counters, matrix: Vec::new() }
    }
}

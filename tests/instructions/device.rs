//! A GPU, where there is one.

use std::{env, ffi::c_void, fmt::Display, sync::OnceLock};

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
    instructions::{Params, Sm90Params},
    ptx,
    tensor_map::TensorMap,
};

use crate::{
    entry::{Entry, Matrix, Outcome, grid},
    sm90::driver::{self, Attribute},
};

/// Set to anything: no device is a failure.
const REQUIRE: &str = "FUSED_LORA_REQUIRE_DEVICE";

/// What is in output memory before a run, and behind it after one.
const POISON: u32 = 0xffff_dead;

/// Words behind the output that must stay as they are.
const GUARD: usize = 64;

/// The first CUDA version whose driver takes the PTX for compute capability 9.0.
const FIRST_SM90_DRIVER: i32 = 12_000;

/// The first GPU, with the entries loaded.
pub(crate) struct Device {
    name: String,
    module: Module,
    /// With the entries of compute capability 9.0; else why it has none.
    sm90: Result<Module, String>,
    context: Context,
}

/// The device that runs an entry, and the module with it; else why there is none.
///
/// # Panics
///
/// If there is a driver that fails otherwise than by having no device: that must not look like a pass.
pub(crate) fn find(entry: &Entry) -> Result<(&'static Device, &'static Module), &'static str> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    let device = DEVICE.get_or_init(open).as_ref().map_err(String::as_str);
    if let Err(why) = device
        && env::var_os(REQUIRE).is_some_and(|value| !value.is_empty())
    {
        panic!("{REQUIRE} is set, and there is no device: {why}");
    }
    let device = device?;
    let module = if entry.is_sm90 { device.sm90.as_ref().map_err(String::as_str)? } else { &device.module };
    Ok((device, module))
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
    let [major, minor] =
        [DeviceAttribute::ComputeCapabilityMajor, DeviceAttribute::ComputeCapabilityMinor].map(attribute);
    if major < 8 {
        return Err(format!("{name} has compute capability {major}.{minor}, and the kernels need 8.0"));
    }
    let context = Context::new(device).expect("a context");
    let load = |ptx| Module::from_ptx(ptx, &[]).expect("the driver compiles the PTX");
    let version = driver::version().expect("a driver has a version");
    let sm90 = if [major, minor] != [9, 0] {
        Err(format!("{name} has compute capability {major}.{minor}, and these entries need 9.0"))
    } else if version < FIRST_SM90_DRIVER {
        Err(format!("the driver of {name} is for CUDA {}.{}", version / 1000, version % 1000 / 10))
    } else {
        Ok(load(ptx::SM90A_INSTRUCTIONS))
    };
    println!("device: {name}, compute capability {major}.{minor}");
    Ok(Device { name, module: load(ptx::SM80_INSTRUCTIONS), sm90, context })
}

impl Device {
    /// Runs `entry` of `module` on `[items, input_words]`.
    #[track_caller]
    pub(crate) fn run(
        &self,
        module: &Module,
        entry: &Entry,
        items: usize,
        input: &[u32],
        matrix: Option<&Matrix>,
    ) -> Outcome {
        // Each test has a thread of its own.
        self.done(entry, "the context", CurrentContext::set_current(&self.context));

        let (words, counters) = (items * entry.output_words as usize, entry.counters as usize);
        let mut output = vec![POISON; words + counters + GUARD];
        output[words..words + counters].fill(0);
        // Memory of no bytes is none to cust.
        let input = DeviceBuffer::from_slice(if input.is_empty() { &[0] } else { input });
        let input = self.done(entry, "input", input);
        let buffer = |_| self.done(entry, "output", DeviceBuffer::from_slice(&output));
        let outputs: Vec<_> = (0..entry.launches).map(buffer).collect();
        let elements = matrix.and_then(|matrix| matrix.elements.as_deref());
        let mut elements = elements.map(|elements| [elements, &[POISON as u16; GUARD]].concat());
        let own = elements
            .as_deref()
            .map(|elements| self.done(entry, "matrix", DeviceBuffer::from_slice(elements)));
        let last = outputs.last().expect("a launch");
        let map = matrix.map_or(TensorMap::default(), |matrix| {
            let address =
                own.as_ref().map_or(last.as_device_ptr().as_raw(), |own| own.as_device_ptr().as_raw());
            self.done(entry, "map", driver::encode(matrix, address))
        });

        let function = self.done(entry, "entry", module.get_function(entry.name));
        let stream = self.done(entry, "stream", Stream::new(StreamFlags::NON_BLOCKING, None));
        let shape @ [grid, threads, shared_bytes] = [grid(entry, items), entry.threads, entry.shared_bytes];
        let mut from = input.as_device_ptr();
        for (number, output) in outputs.iter().enumerate() {
            let to = output.as_device_ptr();
            let mut params = Params {
                input: Global::from_address(from.as_raw()),
                output: Global::from_address(to.as_raw()),
                count: items as u32,
            };
            // SAFETY: the launch is that of the entry's row, on buffers of the sizes that it names, which
            // live until the stream is done; the entry has one parameter, of this type.
            unsafe {
                if entry.is_sm90 {
                    let mut attributes = vec![Attribute::cluster(entry.cluster)];
                    attributes.extend((number > 0).then(Attribute::programmatic));
                    let mut params = Sm90Params { map, params };
                    let (function, stream) = (function.to_raw(), stream.as_inner());
                    let launched = driver::launch(function, shape, stream, &attributes, &mut params);
                    self.done(entry, "launch", launched);
                } else {
                    let parameters = [(&raw mut params).cast::<c_void>()];
                    let launched = stream.launch(&function, grid, threads, shared_bytes, &parameters);
                    self.done(entry, "launch", launched);
                }
            }
            from = to;
        }
        self.done(entry, "run", stream.synchronize());

        self.done(entry, "reading the output", last.copy_to(&mut output));
        let guard = output.split_off(words + counters);
        assert_eq!(guard, [POISON; GUARD], "{} on {}: wrote behind the output", entry.name, self.name);
        let counters = output.split_off(words);
        let mut matrix = Vec::new();
        if let (Some(own), Some(elements)) = (own, &mut elements) {
            self.done(entry, "reading the matrix", own.copy_to(elements));
            let guard = elements.split_off(elements.len() - GUARD);
            let kept = guard == [POISON as u16; GUARD];
            assert!(kept, "{} on {}: wrote behind the matrix", entry.name, self.name);
            matrix.clone_from(elements);
        }
        Outcome { by: self.name.clone(), on_device: true, output, counters, matrix }
    }

    /// What a step of a run gave.
    #[track_caller]
    fn done<T, E: Display>(&self, entry: &Entry, what: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("{} on {}: {what}: {error}", entry.name, self.name))
    }
}

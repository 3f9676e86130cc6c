//! A GPU of compute capability 9.0, where there is one.

use std::sync::OnceLock;

use cust::{
    memory::{CopyDestination as _, DeviceBuffer},
    module::Module,
    stream::{Stream, StreamFlags},
};
use fused_lora_kernels::{
    Global,
    instructions::{Params, Sm90Instruction, Sm90Params},
    ptx,
    tensor_map::TensorMap,
};

use super::{
    driver::{self, Attribute},
    launch::{Matrix, grid},
};
use crate::{
    device::{self, GUARD, POISON},
    launch::Outcome,
};

/// The first CUDA version whose driver takes the PTX.
const FIRST_DRIVER: i32 = 12_000;

/// The device that runs all entries, with those of compute capability 9.0 loaded.
pub(crate) struct Device {
    device: &'static device::Device,
    module: Module,
}

/// The device that runs the entries; else why there is none.
pub(crate) fn find() -> Result<&'static Device, &'static str> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    DEVICE.get_or_init(open).as_ref().map_err(String::as_str)
}

fn open() -> Result<Device, String> {
    let device = device::find()?;
    let name = &device.name;
    if device.capability != [9, 0] {
        let [major, minor] = device.capability;
        return Err(format!("{name} has compute capability {major}.{minor}, and these entries need 9.0"));
    }
    let version = driver::version().expect("a driver has a version");
    if version < FIRST_DRIVER {
        return Err(format!("the driver of {name} is for CUDA {}.{}", version / 1000, version % 1000 / 10));
    }
    device.enter();
    let module = Module::from_ptx(ptx::SM90A_INSTRUCTIONS, &[]).expect("the driver compiles the PTX");
    Ok(Device { device, module })
}

impl Device {
    /// Runs `entry` on `[items, input_words]`.
    #[track_caller]
    pub(crate) fn run(
        &self,
        entry: &Sm90Instruction,
        items: usize,
        input: &[u32],
        matrix: Option<&Matrix>,
    ) -> Outcome {
        let by = &self.device.name;
        let what = |what: &str| format!("{} on {by}: {what}", entry.name);
        self.device.enter();

        let words = items * entry.output_words as usize;
        let mut output = vec![POISON; words + GUARD];
        // Memory of no bytes is none to cust.
        let input = DeviceBuffer::from_slice(if input.is_empty() { &[0] } else { input })
            .unwrap_or_else(|e| panic!("{}: {e}", what("input")));
        let outputs: Vec<_> = (0..entry.launches)
            .map(|_| DeviceBuffer::from_slice(&output).unwrap_or_else(|e| panic!("{}: {e}", what("output"))))
            .collect();
        let elements = matrix.and_then(|matrix| matrix.elements.as_deref());
        let mut elements = elements.map(|elements| [elements, &[POISON as u16; GUARD]].concat());
        let own = elements.as_deref().map(|elements| {
            DeviceBuffer::from_slice(elements).unwrap_or_else(|e| panic!("{}: {e}", what("matrix")))
        });
        let last = outputs.last().expect("a launch");
        let map = matrix.map_or(TensorMap::default(), |matrix| {
            let address =
                own.as_ref().map_or(last.as_device_ptr().as_raw(), |own| own.as_device_ptr().as_raw());
            driver::encode(matrix, address).unwrap_or_else(|code| panic!("{}: {code}", what("map")))
        });

        let function =
            self.module.get_function(entry.name).unwrap_or_else(|e| panic!("{}: {e}", what("entry")));
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None)
            .unwrap_or_else(|e| panic!("{}: {e}", what("stream")));
        let shape = [grid(entry, items), entry.threads, entry.shared_bytes];
        let mut from = input.as_device_ptr();
        for (number, output) in outputs.iter().enumerate() {
            let mut attributes = vec![Attribute::cluster(entry.cluster)];
            attributes.extend((number > 0).then(Attribute::programmatic));
            let to = output.as_device_ptr();
            let params = Params {
                input: Global::from_address(from.as_raw()),
                output: Global::from_address(to.as_raw()),
                count: items as u32,
            };
            // SAFETY: the launch is that of the entry's row, on buffers of the sizes that it names, which live until the
            // stream is done; the entry has one parameter, of this type.
            unsafe {
                let mut params = Sm90Params { map, params };
                driver::launch(function.to_raw(), shape, stream.as_inner(), &attributes, &mut params)
            }
            .unwrap_or_else(|code| panic!("{}: {code}", what("launch")));
            from = to;
        }
        stream.synchronize().unwrap_or_else(|e| panic!("{}: {e}", what("run")));

        last.copy_to(&mut output).unwrap_or_else(|e| panic!("{}: {e}", what("reading the output")));
        assert_eq!(output.split_off(words), [POISON; GUARD], "{}", what("wrote behind the output"));
        let mut matrix = Vec::new();
        if let (Some(own), Some(elements)) = (own, &mut elements) {
            own.copy_to(elements).unwrap_or_else(|e| panic!("{}: {e}", what("reading the matrix")));
            let guard = elements.split_off(elements.len() - GUARD);
            assert_eq!(guard, [POISON as u16; GUARD], "{}", what("wrote behind the matrix"));
            matrix.clone_from(elements);
        }
        Outcome { by: by.clone(), on_device: true, output, counters: Vec::new(), matrix }
    }
}

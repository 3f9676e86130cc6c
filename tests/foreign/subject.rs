//! A kernel in a machine: memory, parameters, the launch, and what came of it.

use std::{collections::BTreeMap, fmt};

use fused_lora_simt::{
    self as simt, Launch, Machine, Report, Schedule, Swizzle, Tensor,
    ptx::{Coverage, Entry, Missing, Module},
};

use crate::{
    manifest::{Element, Kernel, Map, Parameter, Scalar},
    operands::Operands,
};

/// Stops a run that does not end: many times what the largest kernel needs.
const MOST_INSTRUCTIONS: u64 = 50_000_000;

/// A kernel and its PTX, ready to run.
pub(crate) struct Subject {
    pub(crate) kernel: Kernel,
    module: Module,
    pub(crate) text: String,
}

/// Why a run is not right.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The machine reported a fault; with the text of the line that it is at.
    Report(Box<Report>, String),
    /// An element of the output is wrong.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report(report, line) => write!(f, "{report}\n    {line}"),
            Self::Wrong(wrong) => write!(f, "{wrong}"),
        }
    }
}

impl Subject {
    /// Reads the PTX.
    pub(crate) fn new(kernel: Kernel, text: String) -> Result<Self, String> {
        let module = Module::parse(&kernel.file(), &text).map_err(|refused| refused.to_string())?;
        if module.entry(&kernel.entry).is_none() {
            return Err(format!("there is no entry {}", kernel.entry));
        }
        Ok(Self { kernel, module, text })
    }

    /// Runs the kernel once and compares its output.
    pub(crate) fn run(&self, operands: &Operands, schedule: &Schedule) -> Result<Coverage, Failure> {
        let output = &self.kernel.expect.output;
        let mut machine = Machine::new();
        let mut addresses = BTreeMap::new();
        for (name, bytes) in &operands.bytes {
            let array = &self.kernel.arrays[name];
            let address = match bytes {
                Some(bytes) if name != output => machine.input(bytes),
                _ => machine.buffer(array.len() * array.element.bytes()),
            };
            if let (Some(bytes), true) = (bytes, name == output) {
                machine.write(address, bytes).expect("it is as long");
            }
            machine.name(address, name.as_str());
            addresses.insert(name.as_str(), address);
        }
        let schedule = schedule.clone().abort_after(MOST_INSTRUCTIONS);
        let stats =
            machine.run(&[self.launch(&addresses)], &schedule).map_err(|report| self.failure(report))?;
        let array = &self.kernel.arrays[output];
        let bytes = machine.read::<u8>(addresses[output.as_str()], array.len() * array.element.bytes());
        let bytes = bytes.map_err(|report| self.failure(report))?;
        operands.check(&array.element.values(&bytes)).map_err(Failure::Wrong)?;
        Ok(stats.coverage)
    }

    /// The share of the entry's instructions that were executed, and the lines of those that were not.
    pub(crate) fn covered(&self, coverage: &Coverage) -> (f64, Vec<u32>) {
        let entry = self.module.entry(&self.kernel.entry).expect("it was looked for");
        let all = self.module.covered(entry, coverage);
        let is_missing = |missing: Option<Missing>| matches!(missing, Some(Missing::Execution));
        let missing: Vec<u32> =
            all.iter().filter(|one| is_missing(one.missing)).map(|one| one.line).collect();
        (1.0 - missing.len() as f64 / all.len() as f64, missing)
    }

    fn failure(&self, report: Report) -> Failure {
        let line = (report.location.line as usize).checked_sub(1);
        let line = line.and_then(|line| self.text.lines().nth(line)).unwrap_or_default();
        Failure::Report(Box::new(report), line.trim().to_owned())
    }

    fn launch(&self, addresses: &BTreeMap<&str, u64>) -> Launch {
        let Kernel { name, entry, grid, cluster, threads, shared, parameters, .. } = &self.kernel;
        let entry = self.module.entry(entry).expect("it was looked for");
        assert_eq!(entry.parameters().len(), parameters.len(), "parameters of {name}");
        let mut bytes = vec![0; entry.parameter_bytes() as usize];
        for (parameter, place) in parameters.iter().zip(entry.parameters()) {
            let value = value(parameter, addresses);
            assert_eq!(value.len(), place.bytes as usize, "bytes of a parameter of {name}");
            bytes[place.offset as usize..][..value.len()].copy_from_slice(&value);
        }
        let launch = self.module.launch(entry, &bytes, grid.iter().product(), *threads, *shared);
        launch.dimensions(*grid, [*threads, 1, 1], *cluster).registers(registers(entry, *threads))
    }
}

/// Registers of a lane when it starts: as many as the CTA leaves, or as the entry says, in units of eight.
fn registers(entry: &Entry, threads: u32) -> u32 {
    const OF_A_MULTIPROCESSOR: u32 = 64 * 1024;
    let most = (OF_A_MULTIPROCESSOR / threads).min(256);
    entry.registers().unwrap_or(most).min(most) / 8 * 8
}

/// The bytes of a parameter.
fn value(parameter: &Parameter, addresses: &BTreeMap<&str, u64>) -> Vec<u8> {
    match parameter {
        Parameter::Pointer { array } => {
            array.as_ref().map_or(0, |array| addresses[array.as_str()]).to_le_bytes().into()
        }
        Parameter::Map(map) => {
            encode(map, addresses[map.array.as_str()]).iter().flat_map(|word| word.to_le_bytes()).collect()
        }
        Parameter::Scalar { scalar_type, value } => {
            let integer = || value.as_i64().expect("an integer");
            match scalar_type {
                Scalar::U8 => vec![integer() as u8],
                Scalar::I32 => (integer() as i32).to_le_bytes().into(),
                Scalar::I64 => integer().to_le_bytes().into(),
                Scalar::F32 => (value.as_f64().expect("a number") as f32).to_le_bytes().into(),
            }
        }
    }
}

/// The tensor map, as the machine has it.
fn encode(map: &Map, address: u64) -> [u64; 16] {
    let is_plain = map.interleave == "none" && map.out_of_bounds == "zero";
    assert!(is_plain && map.element_strides.iter().all(|&stride| stride == 1), "a map of {}", map.array);
    let swizzle = match map.swizzle.as_str() {
        "none" => Swizzle::None,
        "32" => Swizzle::B32,
        "64" => Swizzle::B64,
        "128" => Swizzle::B128,
        other => panic!("a swizzle of {other}"),
    };
    let element = match map.element {
        Element::F16 => simt::Element::F16,
        Element::Bf16 => simt::Element::Bf16,
        Element::F32 => simt::Element::F32,
        Element::I32 => simt::Element::S32,
    };
    let Map { dims, strides, box_dims, .. } = map.clone();
    Tensor { address, element, dims, strides, box_dims, swizzle }.encode()
}

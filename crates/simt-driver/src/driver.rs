//! The driver's state: devices, contexts, what belongs to them, and how work gets done.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use fused_lora_simt::{Launch, Schedule, ptx};

use crate::{
    allow,
    code::{Code, Handle, Outcome},
    config::{Broken, Config},
    current,
    device::Device,
    fault::Fault,
    graph::{Capture, Executable, Graph},
    kernel::Entry,
    memory::Memory,
    module::Images,
    stream::{Event, Stream},
    work::{Next, Op, Queue, WorkId},
};

/// Where handles start: above the special ones, such as `CU_STREAM_LEGACY`.
const FIRST_HANDLE: Handle = 0x10_0000;

/// The primary context of a device.
pub(crate) struct Context {
    pub(crate) device: u32,
    /// How often it is retained; one that is not is not active, and what it owned is gone.
    pub(crate) retained: u32,
    /// Its default stream.
    pub(crate) legacy: Handle,
    /// The default stream of `CU_STREAM_PER_THREAD`, one for all threads.
    pub(crate) per_thread: Handle,
}

/// A loaded image.
pub(crate) struct Module {
    pub(crate) context: Handle,
    pub(crate) image: Arc<ptx::Module>,
}

/// An entry of a module.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) module: Handle,
    pub(crate) entry: Entry,
    /// `MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    pub(crate) dynamic_shared_limit: u32,
}

pub(crate) struct Driver {
    pub(crate) config: Config,
    pub(crate) device: Device,
    pub(crate) initialised: bool,
    /// The primary contexts, by device; made by `cuInit`.
    pub(crate) primary: Vec<Handle>,
    pub(crate) contexts: HashMap<Handle, Context>,
    pub(crate) images: Images,
    pub(crate) modules: HashMap<Handle, Module>,
    pub(crate) functions: BTreeMap<Handle, Function>,
    pub(crate) streams: BTreeMap<Handle, Stream>,
    pub(crate) events: HashMap<Handle, Event>,
    pub(crate) captures: HashMap<Handle, Capture>,
    pub(crate) graphs: HashMap<Handle, Graph>,
    pub(crate) executables: HashMap<Handle, Executable>,
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    /// The error that everything returns once work has failed.
    pub(crate) broken: Option<Code>,
    /// How often each function was called, for failures that are asked for.
    pub(crate) calls: HashMap<&'static str, u64>,
    runs: u64,
    next_handle: Handle,
}

impl Driver {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            device: Device::new(&config),
            config,
            initialised: false,
            primary: Vec::new(),
            contexts: HashMap::new(),
            images: Images::default(),
            modules: HashMap::new(),
            functions: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: HashMap::new(),
            captures: HashMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            memory: Memory::default(),
            queue: Queue::default(),
            broken: None,
            calls: HashMap::new(),
            runs: 0,
            next_handle: FIRST_HANDLE,
        }
    }

    pub(crate) fn new_handle(&mut self) -> Handle {
        self.next_handle += 16;
        self.next_handle
    }

    /// `cuInit`.
    pub(crate) fn initialise(&mut self) -> Outcome {
        if self.config.devices == 0 {
            return Err(Code::NO_DEVICE);
        }
        if !self.initialised {
            self.initialised = true;
            self.primary = (0..self.config.devices).map(|device| self.add_context(device)).collect();
        }
        Ok(())
    }

    /// A device by its ordinal.
    pub(crate) fn ordinal(&self, device: i32) -> Outcome<u32> {
        u32::try_from(device).ok().filter(|&n| n < self.config.devices).ok_or(Code::INVALID_DEVICE)
    }

    /// A new context.
    fn add_context(&mut self, device: u32) -> Handle {
        let context = self.new_handle();
        let legacy = self.new_handle();
        let per_thread = self.new_handle();
        self.streams.insert(legacy, Stream::legacy(context));
        self.streams.insert(per_thread, Stream::new(context, 0));
        self.contexts.insert(context, Context { device, retained: 0, legacy, per_thread });
        context
    }

    /// The calling thread's current context.
    pub(crate) fn current(&self) -> Outcome<Handle> {
        let handle = current::get().ok_or(Code::INVALID_CONTEXT)?;
        match self.contexts.get(&handle) {
            Some(context) if context.retained > 0 => Ok(handle),
            _ => Err(Code::CONTEXT_IS_DESTROYED),
        }
    }

    /// The device of the current context.
    pub(crate) fn current_device(&self) -> Outcome<u32> {
        Ok(self.contexts[&self.current()?].device)
    }

    /// Ends a context's life: its work is done, then all that it owned is gone. It can be retained again.
    pub(crate) fn close_context(&mut self, context: Handle) -> Outcome {
        let result = if self.broken.is_none() { self.finish_all() } else { Ok(()) };
        self.memory.free_of(context);
        let Some(Context { legacy, per_thread, .. }) = self.contexts.get(&context) else { return result };
        let (legacy, per_thread) = (*legacy, *per_thread);
        self.streams
            .retain(|&handle, stream| stream.context != context || handle == legacy || handle == per_thread);
        self.modules.retain(|_, module| module.context != context);
        self.functions.retain(|_, function| self.modules.contains_key(&function.module));
        self.events.retain(|_, event| event.context != context);
        self.executables.retain(|_, executable| executable.context != context);
        if let Some(context) = self.contexts.get_mut(&context) {
            context.retained = 0;
        }
        result
    }

    /// Adds work. Used by streams and graphs, which know what it comes after, and which of that it may
    /// overlap.
    pub(crate) fn add_work(&mut self, op: Op, after: &[WorkId], overlaps: Option<WorkId>) -> WorkId {
        let event = if let Op::Record(event) = op { Some(event) } else { None };
        let id = self.queue.push(op, after, overlaps);
        if let Some(event) = event.and_then(|event| self.events.get_mut(&event)) {
            event.recorded_by(id);
        }
        id
    }

    /// Does everything.
    pub(crate) fn finish_all(&mut self) -> Outcome {
        let all = self.queue.all();
        self.finish(&all)
    }

    /// Does work until all of `goal` is done.
    pub(crate) fn finish(&mut self, goal: &[WorkId]) -> Outcome {
        loop {
            let result = match self.queue.take_next(goal) {
                Next::Nothing => return Ok(()),
                Next::One(id, op) => self.perform(id, &op),
                Next::Launches(launches) => self.run(&launches),
            };
            if let Err(fault) = result {
                return Err(self.fail(&fault));
            }
        }
    }

    /// Runs launches beside each other.
    fn run(&mut self, launches: &[Launch]) -> Result<(), Fault> {
        let run = self.runs;
        let schedule = self.schedule();
        let text = || {
            let launches: Vec<String> = launches.iter().map(describe).collect();
            format!("run {run}: {}, seed {}, slots {}", launches.join(", "), schedule.seed, schedule.slots)
        };
        if self.config.trace {
            eprintln!("fused-lora-simt-driver: {}", text());
        }
        if let Some(broken) = launches.iter().find_map(|launch| self.broken_kernel(launch)) {
            let Broken { entry, hangs } = broken;
            let text = format!("{entry} is broken on purpose\n  in {}", text());
            eprintln!("fused-lora-simt-driver: {text}");
            if *hangs {
                loop {
                    std::thread::park();
                }
            }
            return Err(Fault { code: Code::LAUNCH_FAILED, text });
        }
        match self.memory.run(launches, &schedule) {
            Ok(stats) => {
                if let Some(used) = allow::used(&schedule.allowances, &stats) {
                    eprintln!("fused-lora-simt-driver: allowed: {used}");
                }
                Ok(())
            }
            Err(fault) => Err(Fault { text: format!("{}\n  in {}", fault.text, text()), ..fault }),
        }
    }

    /// What of the kernels that fail on purpose a launch is of.
    fn broken_kernel(&self, launch: &Launch) -> Option<&Broken> {
        // Behind the entry's name there may be more, for reports.
        let name = launch.name.split(' ').next()?;
        self.config.broken.iter().find(|broken| broken.entry == name)
    }

    /// Every run has a schedule of its own, so that a test that launches a kernel often sees many.
    fn schedule(&mut self) -> Schedule {
        let schedule = Schedule::random(self.config.seed.wrapping_add(self.runs));
        self.runs += 1;
        let allowances = allow::allowances(&self.config.allowed);
        Schedule { slots: self.config.slots.unwrap_or(schedule.slots), allowances, ..schedule }
    }

    fn perform(&mut self, id: WorkId, op: &Op) -> Result<(), Fault> {
        match op {
            Op::Record(event) => {
                if let Some(event) = self.events.get_mut(event) {
                    event.complete(id, Instant::now());
                }
                Ok(())
            }
            copy => copy.copy(&mut self.memory),
        }
    }

    /// From now on everything fails: what a GPU does after a fault, until the process ends.
    pub(crate) fn fail(&mut self, fault: &Fault) -> Code {
        eprintln!("fused-lora-simt-driver: {} ({}): {}", fault.code.short_name(), fault.code.0, fault.text);
        self.queue.clear();
        self.broken = Some(fault.code);
        fault.code
    }
}

/// A launch, for traces and reports.
fn describe(launch: &Launch) -> String {
    let Launch { name, grid, cluster, programmatic, .. } = launch;
    let clusters = if *cluster > 1 { format!(" in clusters of {cluster}") } else { String::new() };
    let overlapping = if *programmatic { ", overlapping" } else { "" };
    format!("{name} of {grid} CTAs{clusters}{overlapping}")
}

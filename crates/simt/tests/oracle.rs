//! Small random programs: the machine against a naive oracle that keeps the whole history of each byte and a
//! full vector clock for each lane. They must agree on the first fault of each run, and on there being none.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use fused_lora_simt::{Asynchrony, Kind, Launch, Machine, Order, Report, Schedule, ops::*};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

const BLOCK: usize = 64;
const WARP: usize = 32;
/// Bytes of the one global buffer and of shared memory.
const GLOBAL: u32 = 64;
const SHARED: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Instr {
    LdGlobal { at: u32, bytes: u32 },
    StGlobal { at: u32, bytes: u32 },
    LdShared { at: u32, bytes: u32 },
    StShared { at: u32, bytes: u32 },
    Acquire { at: u32 },
    StRelaxed { at: u32 },
    AtomInc { at: u32 },
    RedRelease { at: u32 },
    CpAsync { to: u32, from: u32, bytes: u32 },
    Commit,
    Wait { pending: u32 },
    BarSync,
    BarWarp,
    Ldmatrix { row: u32 },
}
use Instr::*;

impl Instr {
    fn is_collective(self) -> bool {
        matches!(self, BarSync | BarWarp | Ldmatrix { .. })
    }
}

/// The instructions of each lane of each CTA.
type Program = Vec<Vec<Vec<Instr>>>;

fn random_program(rng: &mut Xoshiro256PlusPlus) -> Program {
    let ctas = rng.random_range(1..=3);
    // Few of the kinds at a time, so that runs without any fault are not rare.
    let (strong, asynchronous) = (rng.random_bool(0.6), rng.random_bool(0.5));
    // The chance that a strong access goes to where weak ones go.
    let mixed = [0.0, 0.03, 0.3][rng.random_range(0..3)];
    // The chance that an access stays in the lane's own part of memory.
    let apart = rng.random_range(0.5..1.0);
    (0..ctas)
        .map(|cta| {
            let mut lanes = vec![Vec::new(); BLOCK];
            let mut active: Vec<usize> = (0..3).map(|_| rng.random_range(0..BLOCK)).collect();
            active.dedup();
            // Mostly, shared memory is written at first: what is poisoned hides races that would come later.
            if rng.random_bool(0.85) {
                lanes[0].extend((0..SHARED / 16).map(|cell| StShared { at: 16 * cell, bytes: 16 }));
                lanes.iter_mut().for_each(|lane| lane.push(BarSync));
            }
            for _ in 0..rng.random_range(1..5) {
                for (number, &lane) in active.iter().enumerate() {
                    for _ in 0..rng.random_range(0..3) {
                        let bytes = [2, 4, 4, 16][rng.random_range(0..4)];
                        let shared_bytes = [4, 4, 16][rng.random_range(0..3)];
                        let mut at = |size: u32, own: usize, bytes: u32| {
                            if rng.random_bool(apart) {
                                16 * own as u32 % size + rng.random_range(0..16 / bytes) * bytes
                            } else {
                                rng.random_range(0..size / bytes) * bytes
                            }
                        };
                        let global = at(GLOBAL / 2, cta + number, bytes);
                        let shared = at(SHARED, number, shared_bytes);
                        let (to, from) = (at(SHARED, number, 16), at(GLOBAL / 2, cta + number, 16));
                        // Flags have a part of memory to themselves.
                        let flag =
                            if rng.random_bool(mixed) { 0 } else { GLOBAL / 2 } + 4 * rng.random_range(0..3);
                        let kind = rng.random_range(0..if strong { 11 } else { 5 });
                        let instr = match kind {
                            0 => LdGlobal { at: global, bytes },
                            1 => StGlobal { at: global, bytes },
                            2 => LdShared { at: shared, bytes: shared_bytes },
                            3 | 4 if asynchronous => match rng.random_range(0..4) {
                                0 => Commit,
                                1 => Wait { pending: rng.random_range(0..2) },
                                _ => CpAsync { to, from, bytes: rng.random_range(0..=16) },
                            },
                            3 | 4 => StShared { at: shared, bytes: shared_bytes },
                            5 | 6 => Acquire { at: flag },
                            7 => AtomInc { at: flag },
                            8 if rng.random_bool(0.3) => StRelaxed { at: flag },
                            _ => RedRelease { at: flag },
                        };
                        lanes[lane].push(instr);
                    }
                    if asynchronous && rng.random_bool(0.6) {
                        lanes[lane].extend([Commit, Wait { pending: rng.random_range(0..2) }]);
                    }
                }
                match rng.random_range(0..6) {
                    0..3 => lanes.iter_mut().for_each(|lane| lane.push(BarSync)),
                    3 => lanes[..WARP].iter_mut().for_each(|lane| lane.push(BarWarp)),
                    4 => {
                        let rows = [0, 16].map(|_| 16 * rng.random_range(0..SHARED / 16));
                        for (i, lane) in lanes[WARP..].iter_mut().enumerate() {
                            lane.push(Ldmatrix { row: rows[i % 2] });
                        }
                    }
                    _ => {}
                }
            }
            for lane in &mut lanes {
                lane.extend([Commit, Wait { pending: 0 }]);
            }
            lanes
        })
        .collect()
}

/// CTA, lane: who came to its next instruction (collective ones) or has just done it (others), in order.
type Log = Vec<(usize, usize)>;

fn execute(instr: Instr, global: u64) {
    let shared = dynamic_shared();
    let at_global = |at: u32| global + u64::from(at);
    match instr {
        LdGlobal { at, bytes: 2 } => drop(ld_global::<u16>(at_global(at))),
        LdGlobal { at, bytes: 4 } => drop(ld_global::<u32>(at_global(at))),
        LdGlobal { at, .. } => drop(ld_global::<[u32; 4]>(at_global(at))),
        StGlobal { at, bytes: 2 } => st_global(at_global(at), 1u16),
        StGlobal { at, bytes: 4 } => st_global(at_global(at), 1u32),
        StGlobal { at, .. } => st_global(at_global(at), [1u32; 4]),
        LdShared { at, bytes: 4 } => drop(ld_shared::<u32>(shared + at)),
        LdShared { at, .. } => drop(ld_shared::<[u32; 4]>(shared + at)),
        StShared { at, bytes: 4 } => st_shared(shared + at, 1u32),
        StShared { at, .. } => st_shared(shared + at, [1u32; 4]),
        Acquire { at } => drop(ld_acquire_gpu(at_global(at))),
        StRelaxed { at } => st_relaxed_gpu(at_global(at), 1),
        AtomInc { at } => drop(atom_inc_relaxed_gpu(at_global(at), 3)),
        RedRelease { at } => red_add_release_gpu(at_global(at), 1),
        CpAsync { to, from, bytes } => cp_async_16(shared + to, at_global(from), bytes),
        Commit => cp_async_commit_group(),
        Wait { pending } => cp_async_wait_group(pending),
        BarSync => bar_sync(),
        BarWarp => bar_warp_sync(),
        Ldmatrix { row } => drop(ldmatrix_x4(shared + row)),
    }
}

fn on_machine(program: &Program, schedule: &Schedule) -> (Log, Result<(), Report>) {
    let mut machine = Machine::new();
    let global = machine.buffer(GLOBAL as usize);
    machine.write(global, &[0u8; GLOBAL as usize]).unwrap();
    let log = Rc::new(RefCell::new(Log::new()));
    let (kernel_log, kernel_program) = (log.clone(), Rc::new(program.clone()));
    let kernel = move || {
        let (cta, lane) = (block_idx_x() as usize, thread_idx_x() as usize);
        for &instr in &kernel_program[cta][lane] {
            if instr.is_collective() {
                kernel_log.borrow_mut().push((cta, lane));
            }
            execute(instr, global);
            if !instr.is_collective() {
                kernel_log.borrow_mut().push((cta, lane));
            }
        }
    };
    let launch = Launch::new("random", program.len() as u32, BLOCK as u32, SHARED, kernel);
    let result = machine.run(&[launch], schedule).map(drop);
    drop(machine);
    let log = log.take();
    (log, result)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    Race,
    Poison,
}

#[derive(Clone, Copy)]
struct Past {
    /// The lane that did it, or issued it, among all.
    lane: usize,
    /// Its time, for an ordinary access.
    time: u32,
    /// The group, for a copy.
    group: Option<usize>,
    write: bool,
    strong: bool,
}

/// Full clocks, whole histories.
struct Oracle<'a> {
    program: &'a Program,
    next: Vec<usize>,
    clocks: Vec<Vec<u32>>,
    /// By space (0: global, 1 + CTA: shared) and byte.
    history: HashMap<(usize, u32), Vec<Past>>,
    written: HashMap<(usize, u32), bool>,
    released: HashMap<u32, Vec<u32>>,
    /// Of each group, when its lane had waited for it.
    groups: Vec<Option<u32>>,
    /// Of each lane: open copies, and groups under way, as lists of (group, target).
    open: Vec<Vec<(usize, u32)>>,
    under_way: Vec<Vec<Vec<(usize, u32)>>>,
    /// Lanes that have come to a collective instruction, by CTA and by warp or, with the second number 2,
    /// CTA-wide.
    arrived: HashMap<(usize, usize), Vec<usize>>,
}

impl<'a> Oracle<'a> {
    fn new(program: &'a Program) -> Self {
        let lanes = program.len() * BLOCK;
        let mut clocks = vec![vec![0; lanes]; lanes];
        clocks.iter_mut().enumerate().for_each(|(i, clock)| clock[i] = 1);
        Self {
            program,
            next: vec![0; lanes],
            clocks,
            history: HashMap::new(),
            written: (0..GLOBAL).map(|byte| ((0, byte), true)).collect(),
            released: HashMap::new(),
            groups: Vec::new(),
            open: vec![Vec::new(); lanes],
            under_way: vec![Vec::new(); lanes],
            arrived: HashMap::new(),
        }
    }

    fn is_before(&self, past: &Past, lane: usize) -> bool {
        match past.group {
            None => past.time <= self.clocks[lane][past.lane],
            Some(group) => self.groups[group].is_some_and(|time| time <= self.clocks[lane][past.lane]),
        }
    }

    fn access(&mut self, space: usize, at: u32, bytes: u32, new: Past) -> Option<Verdict> {
        for byte in at..at + bytes {
            let history = self.history.entry((space, byte)).or_default().clone();
            let conflict = |old: &Past| (old.write || new.write) && !(old.strong && new.strong);
            if history.iter().any(|old| conflict(old) && !self.is_before(old, new.lane)) {
                return Some(Verdict::Race);
            }
            self.history.get_mut(&(space, byte)).unwrap().push(new);
        }
        let mut bytes = at..at + bytes;
        if new.write {
            if new.group.is_none() {
                self.written.extend(bytes.map(|byte| ((space, byte), true)));
            }
        } else if bytes.any(|byte| !self.written.contains_key(&(space, byte))) {
            return Some(Verdict::Poison);
        }
        None
    }

    fn join(clock: &mut [u32], other: &[u32]) {
        clock.iter_mut().zip(other).for_each(|(a, b)| *a = (*a).max(*b));
    }

    /// The next instruction of a lane, and what is wrong with it.
    fn step(&mut self, cta: usize, lane_in_cta: usize) -> Option<Verdict> {
        let lane = cta * BLOCK + lane_in_cta;
        let instr = self.program[cta][lane_in_cta][self.next[lane]];
        self.next[lane] += 1;
        self.clocks[lane][lane] += 1;
        let time = self.clocks[lane][lane];
        let (global, shared) = (0, 1 + cta);
        let weak = Past { lane, time, group: None, write: false, strong: false };
        match instr {
            LdGlobal { at, bytes } => self.access(global, at, bytes, weak),
            StGlobal { at, bytes } => {
                let verdict = self.access(global, at, bytes, Past { write: true, ..weak });
                self.released.retain(|&word, _| word + 4 <= at || at + bytes <= word);
                verdict
            }
            LdShared { at, bytes } => self.access(shared, at, bytes, weak),
            StShared { at, bytes } => self.access(shared, at, bytes, Past { write: true, ..weak }),
            Acquire { at } => {
                let verdict = self.access(global, at, 4, Past { strong: true, ..weak });
                if let Some(released) = self.released.get(&at) {
                    Self::join(&mut self.clocks[lane], released);
                }
                verdict
            }
            StRelaxed { at } => {
                self.released.remove(&at);
                self.access(global, at, 4, Past { write: true, strong: true, ..weak })
            }
            AtomInc { at } => self.access(global, at, 4, Past { write: true, strong: true, ..weak }),
            RedRelease { at } => {
                let mut clock = self.clocks[lane].clone();
                if let Some(earlier) = self.released.get(&at) {
                    Self::join(&mut clock, earlier);
                }
                self.released.insert(at, clock);
                let verdict = self.access(global, at, 4, Past { write: true, strong: true, ..weak });
                // Whatever the lane does next is later than what it released.
                self.clocks[lane][lane] += 1;
                verdict
            }
            CpAsync { to, from, bytes } => {
                let group = self.open[lane].first().map_or(self.groups.len(), |&(group, _)| group);
                if group == self.groups.len() {
                    self.groups.push(None);
                }
                self.open[lane].push((group, to));
                let copy = Past { group: Some(group), ..weak };
                self.access(global, from, bytes, copy)
                    .or_else(|| self.access(shared, to, 16, Past { write: true, ..copy }))
            }
            Commit => {
                let group = std::mem::take(&mut self.open[lane]);
                self.under_way[lane].push(group);
                None
            }
            Wait { pending } => {
                while self.under_way[lane].len() > pending as usize {
                    for (group, to) in self.under_way[lane].remove(0) {
                        self.groups[group] = Some(time);
                        self.written.extend((to..to + 16).map(|byte| ((shared, byte), true)));
                    }
                }
                None
            }
            BarSync | BarWarp | Ldmatrix { .. } => {
                let warp = if instr == BarSync { 2 } else { lane_in_cta / WARP };
                let expected = if instr == BarSync { BLOCK } else { WARP };
                let arrived = self.arrived.entry((cta, warp)).or_default();
                arrived.push(lane);
                if arrived.len() < expected {
                    return None;
                }
                let mut lanes = std::mem::take(arrived);
                lanes.sort_unstable();
                if matches!(instr, Ldmatrix { .. }) {
                    let mut rows: Vec<u32> = lanes
                        .iter()
                        .map(|&lane| match self.program[cta][lane % BLOCK][self.next[lane] - 1] {
                            Ldmatrix { row } => row,
                            other => panic!("{other:?} where the warp is at ldmatrix"),
                        })
                        .collect();
                    let mut seen = Vec::new();
                    rows.retain(|row| {
                        !seen.contains(row) && {
                            seen.push(*row);
                            true
                        }
                    });
                    // Each lane reads each row.
                    return rows.into_iter().find_map(|row| {
                        let mut verdicts: Vec<Verdict> = Vec::new();
                        for &lane in &lanes {
                            let past = Past { lane, time: self.clocks[lane][lane], ..weak };
                            verdicts.extend(self.access(shared, row, 16, past));
                        }
                        verdicts.iter().copied().find(|v| *v == Verdict::Race).or(verdicts.first().copied())
                    });
                }
                let mut joined = vec![0; self.clocks.len()];
                lanes.iter().for_each(|&lane| Self::join(&mut joined, &self.clocks[lane]));
                for lane in lanes {
                    self.clocks[lane].clone_from(&joined);
                    self.clocks[lane][lane] += 1;
                }
                None
            }
        }
    }
}

fn compare(seed: u64) -> Option<Verdict> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let program = random_program(&mut rng);
    let schedule = Schedule {
        seed,
        slots: rng.random_range(1..4),
        asynchrony: [Asynchrony::Early, Asynchrony::Late, Asynchrony::Random][rng.random_range(0..3)],
        preempt: [0.1, 0.5, 1.0][rng.random_range(0..3)],
        order: Order::Random,
        ..Schedule::default()
    };
    let (log, result) = on_machine(&program, &schedule);
    let mut oracle = Oracle::new(&program);
    let mut found = None;
    for (i, &(cta, lane)) in log.iter().enumerate() {
        found = oracle.step(cta, lane);
        if found.is_some() {
            assert_eq!(
                i + 1,
                log.len(),
                "seed {seed}: the machine missed {found:?} of CTA {cta}, lane {lane}"
            );
        }
    }
    let reported = result.as_ref().err().map(|report| match &report.kind {
        Kind::Race { .. } => Verdict::Race,
        Kind::Poison { .. } => Verdict::Poison,
        other => panic!("seed {seed}: {other}"),
    });
    if let Err(report) = &result
        && found.is_none()
    {
        // It is no collective instruction: those are in the log.
        found = oracle.step(report.cta as usize, report.lane as usize);
    }
    assert_eq!(reported, found, "seed {seed}: {result:?}");
    found
}

fn agree(seeds: std::ops::Range<u64>) {
    let mut counts = [0; 3];
    let programs = seeds.end - seeds.start;
    for seed in seeds {
        counts[compare(seed).map_or(0, |verdict| 1 + verdict as usize)] += 1;
    }
    println!("clean, races, poisoned reads: {counts:?}");
    // All verdicts must be common, or the agreement says little.
    assert!(counts.iter().all(|&count| count > programs / 10), "{counts:?}");
}

#[test]
fn machine_and_naive_vector_clocks_agree() {
    agree(0..10_000);
}

/// `cargo test -p fused-lora-simt --test oracle -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn machine_and_naive_vector_clocks_agree_at_length() {
    agree(10_000..400_000);
}

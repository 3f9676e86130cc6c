//! A multistage tensor-core product, the kind of kernel that the machine is for: right and clean under every
//! schedule, and caught with any of its barriers, waits, commits, swizzles or bounds wrong.

use fused_lora_simt::{Action, Kind, Launch, Machine, Op, Report, Schedule, Site, Stats, ops::*};
use half::f16;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

const BLOCK: u32 = 64;
const BLOCK_K: u32 = 32;
const STAGES: u32 = 4;
const THREADS: u32 = 128;
const STAGE_BYTES: u32 = 2 * BLOCK * BLOCK_K * 2;
const SHARED: u32 = STAGES * STAGE_BYTES;

/// Operands: y = x · wᵀ, x: m × k, w: n × k, y: m × n, all f16 and row-major; k a multiple of 8, n of 2.
#[derive(Clone, Copy)]
struct Gemm {
    x: u64,
    w: u64,
    y: u64,
    m: u32,
    n: u32,
    k: u32,
}

/// Where 8 elements of a row of a tile lie: rows of 64 bytes, two of them in a line of 128, chunks swizzled.
fn place(tile: u32, row: u32, chunk: u32) -> u32 {
    tile + row * 64 + ((chunk ^ (row / 2 % 4)) * 16)
}

impl Gemm {
    /// Copies a stage of x and w.
    fn load(self, row0: u32, column0: u32, step: u32) {
        let base = dynamic_shared() + step % STAGES * STAGE_BYTES;
        for i in 0..BLOCK * BLOCK_K / 8 / THREADS {
            let id = i * THREADS + thread_idx_x();
            let (row, chunk) = (id / 4, id % 4);
            let column = step * BLOCK_K + chunk * 8;
            let bytes = |row: u32, rows: u32| if row < rows && column < self.k { 16 } else { 0 };
            let from = |base: u64, row: u32| base + u64::from(row * self.k + column) * 2;
            let (x_row, w_row) = (row0 + row, column0 + row);
            cp_async_16(place(base, row, chunk), from(self.x, x_row), bytes(x_row, self.m));
            let tile = base + BLOCK * BLOCK_K * 2;
            cp_async_16(place(tile, row, chunk), from(self.w, w_row), bytes(w_row, self.n));
        }
    }

    fn kernel(self) {
        let (lane, warp) = (thread_idx_x() % 32, thread_idx_x() / 32);
        let columns = self.n.div_ceil(BLOCK);
        let (row0, column0) = (block_idx_x() / columns * BLOCK, block_idx_x() % columns * BLOCK);
        let (warp_row, warp_column) = (warp / 2 * 32, warp % 2 * 32);
        let mut sums = [[[0f32; 4]; 4]; 2];

        let steps = self.k.div_ceil(BLOCK_K);
        for step in 0..STAGES - 1 {
            if step < steps {
                self.load(row0, column0, step);
            }
            cp_async_commit_group();
        }
        for step in 0..steps {
            cp_async_wait_group(STAGES - 2);
            bar_sync();
            if step + STAGES - 1 < steps {
                self.load(row0, column0, step + STAGES - 1);
            }
            cp_async_commit_group();
            let base = dynamic_shared() + step % STAGES * STAGE_BYTES;
            for k in 0..BLOCK_K / 16 {
                let x = [0, 16]
                    .map(|row| ldmatrix_x4(place(base, warp_row + row + lane % 16, 2 * k + lane / 16)));
                let w = [0, 16].map(|column| {
                    let row = warp_column + column + lane / 16 * 8 + lane % 8;
                    ldmatrix_x4(place(base + BLOCK * BLOCK_K * 2, row, 2 * k + lane / 8 % 2))
                });
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let [b0, b1, b2, b3] = w[j / 2];
                        *sum = mma_m16n8k16_f16(x[i], if j % 2 == 0 { [b0, b1] } else { [b2, b3] }, *sum);
                    }
                }
            }
        }
        cp_async_wait_group(0);
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                for half in 0..2 {
                    let row = row0 + warp_row + 16 * i as u32 + 8 * half + lane / 4;
                    let column = column0 + warp_column + 8 * j as u32 + 2 * (lane % 4);
                    if row < tap("rows", self.m) && column < self.n {
                        let [low, high] = [sum[2 * half as usize], sum[2 * half as usize + 1]];
                        st_global(self.y + u64::from(row * self.n + column) * 2, pack_f16x2(low, high));
                    }
                }
            }
        }
    }
}

struct Case {
    machine: Machine,
    gemm: Gemm,
    expected: Vec<f64>,
}

impl Case {
    fn new(m: u32, n: u32, k: u32) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut random =
            |n: u32| -> Vec<f16> { (0..n).map(|_| f16::from_f32(rng.random_range(-1.0..1.0))).collect() };
        let (x, w) = (random(m * k), random(n * k));
        let dot = |row: u32, column: u32| {
            (0..k)
                .map(|i| f64::from(x[(row * k + i) as usize]) * f64::from(w[(column * k + i) as usize]))
                .sum()
        };
        let expected = (0..m * n).map(|i| dot(i / n, i % n)).collect();
        let mut machine = Machine::new();
        let gemm = Gemm {
            x: machine.input(&x),
            w: machine.input(&w),
            y: machine.buffer((m * n * 2) as usize),
            m,
            n,
            k,
        };
        machine.name(gemm.y, "y");
        Self { machine, gemm, expected }
    }

    fn run(&mut self, schedule: &Schedule) -> Result<Stats, Report> {
        let gemm = self.gemm;
        let (rows, columns) = (gemm.m.div_ceil(BLOCK), gemm.n.div_ceil(BLOCK));
        self.machine.poison(gemm.y, (gemm.m * gemm.n * 2) as usize).unwrap();
        self.machine
            .run(&[Launch::new("gemm", rows * columns, THREADS, SHARED, move || gemm.kernel())], schedule)
    }

    /// Whether y is what it should be, all of it.
    fn is_right(&self) -> bool {
        let Ok(y) = self.machine.read::<f16>(self.gemm.y, self.expected.len()) else { return false };
        y.iter()
            .zip(&self.expected)
            .all(|(y, expected)| (f64::from(*y) - expected).abs() <= 2e-3 + expected.abs() * 1e-3)
    }
}

#[test]
fn is_right_and_clean_on_every_schedule_without_bank_conflicts() {
    let mut case = Case::new(100, 70, 136);
    for schedule in Schedule::standard(20) {
        let stats = case.run(&schedule).unwrap();
        assert!(case.is_right());
        // 4 CTAs of 5 steps of 2 k: 4 warps with 4 ldmatrix and 8 mma in each.
        assert_eq!((stats.ctas, stats.mma, stats.ldmatrix), (4, 4 * 5 * 2 * 4 * 8, 4 * 5 * 2 * 4 * 4));
        assert_eq!((stats.ldmatrix_conflicts, stats.cp_async_conflicts), (0, 0));
        assert_eq!(stats.barriers, 4 * 5);
        // Tiles in one row of tiles read x in full, and w likewise.
        assert_eq!(stats.cp_async_bytes, (2 * 100 + 2 * 70) * 136 * 2);
        assert_eq!(stats.global_stored, 100 * 70 * 2);
    }
}

#[test]
fn every_seeded_fault_is_caught() {
    let mut case = Case::new(100, 70, 136);
    let sites = case.run(&Schedule::default()).unwrap().sites;
    let wrong = |action, ops: &[Op]| -> Vec<_> {
        sites.iter().filter(|site| ops.contains(&site.op)).map(|site| Site::at(site).does(action)).collect()
    };
    let mut faults = wrong(
        Action::Drop,
        &[Op::BarSync, Op::CpAsync, Op::CpAsyncCommitGroup, Op::Ldmatrix, Op::Mma, Op::StGlobal],
    );
    // The last wait waits for empty groups only.
    let waits: Vec<_> = sites.iter().filter(|site| site.op == Op::CpAsyncWaitGroup).collect();
    faults.push(Site::at(waits[0]).does(Action::Drop));
    faults.push(Site::at(waits[0]).does(Action::WaitGroup(1)));
    faults.extend(wrong(Action::AddressXor(16), &[Op::CpAsync, Op::Ldmatrix]));
    faults.extend(wrong(Action::ByteDelta(-2), &[Op::CpAsync]));
    faults.extend(wrong(Action::ByteDelta(16), &[Op::CpAsync]));
    faults.push(Site::tap("rows").does(Action::Tap(|rows| rows - 1)));
    faults.push(Site::tap("rows").does(Action::Tap(|rows| rows + 1)));
    assert!(faults.len() >= 18);
    for fault in faults {
        let mut caught = 0;
        let schedules = Schedule::standard(7);
        for schedule in &schedules {
            let result = case.run(&schedule.clone().with(fault.clone()));
            assert!(case.machine.last_stats().mutated > 0, "{fault:?} was never met");
            caught += usize::from(result.is_err() || !case.is_right());
        }
        assert_eq!(caught, schedules.len(), "{fault:?}");
    }
    // It is usable after all of that.
    case.run(&Schedule::default()).unwrap();
    assert!(case.is_right());
}

#[test]
fn a_slot_overwritten_while_read_is_a_race() {
    let mut case = Case::new(64, 64, 256);
    let sites = case.run(&Schedule::default()).unwrap().sites;
    let barrier = sites.iter().find(|site| site.op == Op::BarSync).unwrap();
    // The others still read step 1 when lane 0, whose wait is enough for itself, copies over it.
    for schedule in Schedule::standard(7) {
        let fault = Site::at(barrier).occurrence(2).does(Action::Drop);
        let report = case.run(&schedule.with(fault)).unwrap_err();
        assert!(matches!(report.kind, Kind::Race { .. }), "{report}");
    }
}

/// Prints how long a CTA takes: `cargo test -p fused-lora-simt --test gemm -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn time() {
    for slots in [1, 4, 8] {
        let mut case = Case::new(512, 512, 128);
        let schedule = Schedule { slots, ..Schedule::default() };
        case.run(&schedule).unwrap();
        let start = std::time::Instant::now();
        let stats = case.run(&schedule).unwrap();
        let elapsed = start.elapsed();
        println!(
            "{slots} slots: {:?} per CTA, {} switches",
            elapsed / stats.ctas as u32,
            stats.switches / stats.ctas
        );
        assert!(case.is_right());
    }
}

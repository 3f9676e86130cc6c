//! Multiply-adds on all threads, of the kind that the kernels of an element type are made of: f32 ones, which
//! f16, f32 and, where there is nothing better, bf16 are widened for; or those of bf16, in vectors or tiles.
//!
//! Every product that is timed beside them sums in f32, so none can be faster. The loops touch no memory:
//! each thread keeps more independent sums in registers than the units have stages, and adds to them in turn.

use std::hint::black_box;

use fused_lora::DType;
use fused_lora::cpu::Simd;

use crate::method::Call;
use crate::time::Time;

/// Independent sums, each a vector: as many as units times stages at least, and no more than fit the
/// registers beside the factors. x86-64 has two units of four stages, and sixteen registers with AVX2; large
/// aarch64 cores have four units of four stages, and 32 registers. (Where there is neither, the rate has not
/// been compared with a data sheet.)
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
/// Operations of one call of f32, bounded: long enough to time, short enough to repeat. Faster instructions
/// do as many more.
const FEWEST: f64 = 0.4e9;
const MOST: f64 = 2e9;

/// A loop of multiply-adds on one thread.
#[derive(Clone, Copy)]
pub(super) struct MultiplyAdd {
    /// Operations of one step, a multiply-add counted as two.
    step_flops: f64,
    /// How many times as fast as those of f32 its instructions are on paper.
    rate: f64,
    /// Makes so many steps. Needs what the processor was found to have when this was made.
    run: unsafe fn(usize),
}

impl MultiplyAdd {
    /// What the kernels of a level, which this machine has, do with elements of a type.
    pub(super) fn of(simd: Simd, dtype: DType) -> MultiplyAdd {
        match (simd.serving(dtype), dtype) {
            #[cfg(target_arch = "x86_64")]
            (Simd::Amx, DType::Bf16) => x86::TILES,
            #[cfg(target_arch = "x86_64")]
            (Simd::Avx512Bf16, DType::Bf16) => x86::PAIRS,
            _ => MultiplyAdd::f32(),
        }
    }

    /// The fastest f32 multiply-adds of this processor, whatever the level: where a level does without them,
    /// that is a choice and no limit.
    fn f32() -> MultiplyAdd {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return x86::AVX512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return x86::AVX2;
            }
        }
        MultiplyAdd { step_flops: (2 * SUMS * LANES) as f64, rate: 1.0, run: portable }
    }

    /// One thread's part.
    fn steps(self, steps: usize) {
        // SAFETY: whoever made this found what the loop needs.
        unsafe { (self.run)(steps) }
    }
}

/// Multiply-adds on all threads.
pub(super) struct Peak {
    multiply_add: MultiplyAdd,
    steps: usize,
}

impl Peak {
    /// A loop of about as many operations as what it is compared with, or fewer.
    pub(super) fn new(multiply_add: MultiplyAdd, flops: f64) -> Peak {
        let bounded = flops.clamp(multiply_add.rate * FEWEST, multiply_add.rate * MOST);
        let steps = (bounded / Peak { multiply_add, steps: 1 }.flops()).ceil() as usize;
        Peak { multiply_add, steps }
    }

    /// Operations of one call, a multiply-add counted as two.
    pub(super) fn flops(&self) -> f64 {
        self.steps as f64 * self.multiply_add.step_flops * rayon::current_num_threads() as f64
    }
}

impl Call for Peak {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        Time::of(|| {
            rayon::broadcast(|_| self.multiply_add.steps(self.steps));
            Ok(())
        })
    }
}

/// sum ← sum · FACTOR + TERM goes to 1: no overflow, and no denormals, which are slow.
const FACTOR: f32 = 0.5;
const TERM: f32 = 0.5;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps,
        _mm512_set1_epi32, _mm512_set1_ps,
    };

    use super::{FACTOR, MultiplyAdd, SUMS, TERM, black_box};

    pub(super) const AVX512: MultiplyAdd =
        MultiplyAdd { step_flops: (2 * SUMS * 16) as f64, rate: 1.0, run: avx512 };
    pub(super) const AVX2: MultiplyAdd =
        MultiplyAdd { step_flops: (2 * SUMS * 8) as f64, rate: 1.0, run: avx2 };
    /// `vdpbf16ps`: two products for each of 16 sums. Needs AVX512-BF16.
    pub(super) const PAIRS: MultiplyAdd =
        MultiplyAdd { step_flops: (2 * SUMS * 16 * 2) as f64, rate: 2.0, run: pairs };
    /// `tdpbf16ps`: 32 products for each of 16 · 16 sums. Needs AMX-BF16, and the system's permission, which
    /// [`Simd::Amx`](fused_lora::cpu::Simd::Amx) is not offered without.
    pub(super) const TILES: MultiplyAdd =
        MultiplyAdd { step_flops: (2 * TILES_OF_SUMS * 16 * 16 * 32) as f64, rate: 16.0, run: tiles };

    macro_rules! multiply_add {
        ($name:ident, $features:literal, $set:ident, $multiply_add:ident) => {
            #[target_feature(enable = $features)]
            fn $name(steps: usize) {
                let (factor, term) = ($set(black_box(FACTOR)), $set(black_box(TERM)));
                let mut sums = [term; SUMS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $multiply_add(*sum, factor, term);
                    }
                }
                black_box(sums);
            }
        };
    }

    multiply_add!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    multiply_add!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);

    /// Two of 2⁻¹⁰ in bf16. Their products add up to numbers that are neither large nor denormal.
    const SMALL: u32 = 0x3a80_3a80;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs(steps: usize) {
        let small = _mm512_set1_epi32(black_box(SMALL) as i32);
        // SAFETY: both are 64 bytes, and any bits are a vector of bf16.
        let small = unsafe { std::mem::transmute::<__m512i, __m512bh>(small) };
        let mut sums = [_mm512_set1_ps(black_box(TERM)); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, small, small);
            }
        }
        black_box(sums);
    }

    /// A product of tiles takes 16 cycles and has its sums after 52 (Intel Optimization Reference Manual,
    /// "Intel AMX"): six in turn, beside the two tiles of factors, are all eight registers.
    const TILES_OF_SUMS: usize = 6;

    /// Intel SDM, "LDTILECFG": memory operand. All tiles have 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        columns: [u16; 16],
        rows: [u8; 16],
    }

    fn tiles(steps: usize) {
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], columns: [0; 16], rows: [0; 16] };
        config.columns[..8].fill(64);
        config.rows[..8].fill(16);
        let factors = [SMALL; 16 * 16];
        // SAFETY: AMX is there and permitted, as `TILES` says. Two tiles are loaded, from 16 rows of 64
        // bytes; the configuration zeroes the others. Nothing is stored.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tileloadd tmm6, [{factors} + {row}]",
                "tileloadd tmm7, [{factors} + {row}]",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "tdpbf16ps tmm0, tmm6, tmm7",
                "tdpbf16ps tmm1, tmm6, tmm7",
                "tdpbf16ps tmm2, tmm6, tmm7",
                "tdpbf16ps tmm3, tmm6, tmm7",
                "tdpbf16ps tmm4, tmm6, tmm7",
                "tdpbf16ps tmm5, tmm6, tmm7",
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilerelease",
                config = in(reg) &raw const config,
                factors = in(reg) &raw const factors,
                row = in(reg) 64usize,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}

/// Of the vectors that every 64-bit target has.
const LANES: usize = 4;

fn portable(steps: usize) {
    let (factor, term) = (black_box(FACTOR), black_box(TERM));
    let mut sums = [[term; LANES]; SUMS];
    for _ in 0..steps {
        for sum in sums.as_flattened_mut() {
            // Without the instruction `mul_add` is a call into the C library.
            *sum = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                sum.mul_add(factor, term)
            } else {
                *sum * factor + term
            };
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// All loops that this machine has.
    fn loops() -> Vec<(String, MultiplyAdd)> {
        // The best level: only what it serves was found to be there.
        let simd = Simd::detect().unwrap();
        let level = |dtype| (format!("{} {dtype}", simd.serving(dtype)), MultiplyAdd::of(simd, dtype));
        let mut loops = vec![level(DType::F32), level(DType::Bf16)];
        #[cfg(target_arch = "x86_64")]
        if matches!(simd, Simd::Amx) {
            loops.push(("avx512bf16 bf16".to_owned(), MultiplyAdd::of(Simd::Avx512Bf16, DType::Bf16)));
        }
        loops
    }

    /// If a loop were optimised away, or took no more time for more steps, its rate would be no peak.
    #[test]
    fn twice_the_steps_take_twice_the_time() {
        for (name, multiply_add) in loops() {
            // The same operations of each, or one call would take seconds.
            let steps = |operations: f64| (operations / multiply_add.step_flops) as usize;
            let (once, twice) = (steps(multiply_add.rate * 77e6), steps(multiply_add.rate * 154e6));
            let seconds = |steps: usize| {
                let start = Instant::now();
                multiply_add.steps(steps);
                start.elapsed().as_secs_f64()
            };
            // In turn, and the fastest of many: other tests run beside this one.
            let mut fastest = [f64::INFINITY; 2];
            for _ in 0..40 {
                for (fastest, steps) in fastest.iter_mut().zip([once, twice]) {
                    *fastest = fastest.min(seconds(steps));
                }
            }
            let ratio = fastest[1] / fastest[0];
            assert!((1.4..=3.0).contains(&ratio), "{name}: {ratio}");
            // One thread of anything from the last ten years; a debug build is optimised too.
            let gflops = twice as f64 * multiply_add.step_flops / fastest[1] * 1e-9;
            let most = 1000.0 * multiply_add.rate;
            assert!((1.0..=most).contains(&gflops), "{name}: {gflops} GFLOP/s");
        }
    }

    /// Instructions of bf16 do twice, or in tiles 16 times, what two f32 units do.
    #[test]
    fn a_type_has_the_instructions_of_its_level() {
        let rate = |simd, dtype| MultiplyAdd::of(simd, dtype).rate;
        let bf16 = Simd::ALL.iter().map(|&simd| (simd.name(), rate(simd, DType::Bf16)));
        let x86 = cfg!(target_arch = "x86_64");
        let [tiles, pairs] = if x86 { [16.0, 2.0] } else { [1.0; 2] };
        let expected =
            [("amx", tiles), ("avx512bf16", pairs), ("avx512", 1.0), ("avx2", 1.0), ("portable", 1.0)];
        assert!(bf16.eq(expected));
        for &simd in Simd::ALL {
            assert_eq!([DType::F16, DType::F32].map(|dtype| rate(simd, dtype)), [1.0; 2], "{simd}");
        }
    }

    #[test]
    fn a_call_does_what_it_says() {
        for (name, multiply_add) in loops() {
            for flops in [0.0, 1e9, 1e12] {
                let peak = Peak::new(multiply_add, flops);
                let asked = flops.clamp(multiply_add.rate * FEWEST, multiply_add.rate * MOST);
                let made = peak.flops();
                assert!(made >= asked && made < asked * 1.001 + 1e6, "{name}, {flops}: {made}");
            }
        }
    }
}

use fused_lora_kernels::{
    params::{Adapter, Lora},
    table::{KERNELS, SM90_KERNELS, Target},
};

use super::*;
use crate::plan::assignment::Assignment;

fn operands(adapters: Adapters<'_>) -> Operands<'_> {
    Operands {
        x: Global::from_address(0x1000),
        w: Global::from_address(0x2000),
        y: Global::from_address(0x3000),
        bias: Global::from_address(0x4000),
        activation: None,
        residuals: [Added::NONE; 2],
        base: Added::NONE,
        m: 130,
        n: 300,
        k: 72,
        ldx: 80,
        ldw: 72,
        ldy: 301,
        adapters,
        layout: Layout { counters: Global::from_address(0x5000), h: Global::from_address(0x5100) },
    }
}

fn slabs() -> Lora {
    Lora {
        a: Global::from_address(0x6000),
        b: Global::from_address(0x7000),
        lda: 72,
        ldb: 272,
        ..Lora::default()
    }
}

fn uniform(rank: u32) -> Adapters<'static> {
    let uniform = Adapter { rank, scale: 0.5, last_column: 300, ..Adapter::default() };
    Adapters::uniform(Lora { uniform, ..slabs() })
}

fn kernel(name: &str) -> &'static Kernel {
    KERNELS.iter().chain(SM90_KERNELS).find(|kernel| kernel.name == name).unwrap()
}

/// The first words of the parameters, as the driver copies them: those before `lora`.
fn words(params: &Params) -> [u32; 24] {
    const { assert!(std::mem::offset_of!(Params, lora) >= 24 * 4) };
    // SAFETY: `Params` is `repr(C)`, and its first 24 words are u64 and u32 without a gap.
    unsafe { std::ptr::from_ref(params).cast::<[u32; 24]>().read() }
}

/// With an epilogue in which nothing can stand in for anything else.
fn with_epilogue(operands: Operands<'_>) -> Operands<'_> {
    let added = |address, ld| Added { from: Global::from_address(address), ld };
    Operands {
        activation: Some(Activation::GeluTanh),
        residuals: [added(0xa000, 302), added(0xb000, 303)],
        ..operands
    }
}

#[test]
fn the_base_product_gets_x_w_y_and_bias_at_the_offsets_of_the_ptx() {
    let params = operands(Adapters::None).params(kernel("gemm_64x64"));
    let words = words(&params);
    // x, w, y: 64 bits each.
    assert_eq!(words[..6], [0x1000, 0, 0x2000, 0, 0x3000, 0]);
    // m, n, k, ldx, ldw, ldy.
    assert_eq!(words[6..12], [130, 300, 72, 80, 72, 301]);
    // Addend, bias, residuals: 64 bits each; strides of all but the bias, activation.
    assert_eq!(words[12..20], [0, 0, 0x4000, 0, 0, 0, 0, 0]);
    assert_eq!(words[20..], [0, 0, 0, 0]);
    assert!(params.lora.a.is_null() && params.lora.h.is_null() && params.lora.counters.is_null());
    assert_eq!((params.lora.h_items, params.lora.uniform.rank), (0, 0));
}

#[test]
fn one_launch_gets_the_whole_epilogue() {
    for (name, adapters) in [
        ("gemm_64x64", Adapters::None),
        ("sm90_gemm_split_k_64x64", Adapters::None),
        ("fused_64x64", uniform(10)),
        ("fused_recompute_64x64_h16", uniform(10)),
        ("sm90_fused_cooperative_64x64_h16", uniform(10)),
    ] {
        let words = words(&with_epilogue(operands(adapters)).params(kernel(name)));
        assert_eq!(words[12..20], [0, 0, 0x4000, 0, 0xa000, 0, 0xb000, 0], "{name}");
        assert_eq!(words[20..], [0, 302, 303, 1], "{name}");
    }
}

#[test]
fn fused_gets_the_adapter_and_the_workspace() {
    let params = operands(uniform(250)).params(kernel("fused_64x128"));
    let lora = params.lora;
    assert_eq!((lora.a.address(), lora.b.address(), lora.lda, lora.ldb), (0x6000, 0x7000, 72, 272));
    assert_eq!((lora.h.address(), lora.counters.address(), lora.ldh), (0x5100, 0x5000, 256));
    assert_eq!((lora.uniform.rank, lora.uniform.scale, lora.uniform.last_column), (250, 0.5, 300));
    assert!(lora.segments.is_null() && lora.row_tiles.is_null());
    // 3 row tiles of 64, 2 chunks of 128.
    assert_eq!(lora.h_items, 6);
    assert_eq!(params.epilogue.bias.address(), 0x4000);
    // And by the chunks of the kernel's own tile.
    for (name, items) in [
        ("fused_64x64", 3 * 4),
        ("fused_128x128", 2 * 2),
        ("fused_128x256", 2),
        // Tiles of h of 64 columns, whatever those of y have.
        ("sm90_fused_64x128", 3 * 4),
        ("sm90_fused_128x256", 2 * 4),
        ("sm90_fused_256x128", 4),
    ] {
        assert_eq!(operands(uniform(250)).params(kernel(name)).lora.h_items, items, "{name}");
    }
}

#[test]
fn recomputed_and_cooperative_h_get_no_workspace() {
    for name in ["fused_recompute_64x64_h16", "sm90_fused_cooperative_64x64_h16"] {
        let lora = operands(uniform(10)).params(kernel(name)).lora;
        assert!(lora.h.is_null() && lora.counters.is_null());
        assert_eq!((lora.a.address(), lora.uniform.rank), (0x6000, 10));
    }
}

#[test]
fn unfused_adds_the_bias_with_the_base_and_all_else_with_the_expand() {
    // The base product waits in y, or beside h.
    for (address, ld) in [(0x3000, 301), (0xc000, 304)] {
        let base = Added { from: Global::from_address(address), ld };
        let operands = Operands { base, ..with_epilogue(operands(uniform(100))) };
        let [gemm, shrink, expand] =
            ["gemm_128x128", "shrink_64x64", "expand_128x128"].map(|name| operands.params(kernel(name)));
        assert_eq!((gemm.y.address(), gemm.ldy), (address, ld));
        assert_eq!(words(&gemm)[12..20], [0, 0, 0x4000, 0, 0, 0, 0, 0]);
        assert_eq!(words(&gemm)[20..], [0, 0, 0, 0]);

        assert!(shrink.w.is_null() && shrink.y.is_null());
        assert_eq!(words(&shrink)[12..], [0; 12]);
        assert_eq!(
            (shrink.x.address(), shrink.lora.h.address(), shrink.lora.h_items),
            (0x1000, 0x5100, 3 * 2)
        );

        assert!(expand.x.is_null() && expand.w.is_null());
        assert_eq!((expand.y.address(), expand.ldy), (0x3000, 301));
        assert_eq!(words(&expand)[12..20], [address as u32, 0, 0, 0, 0xa000, 0, 0xb000, 0]);
        assert_eq!(words(&expand)[20..], [ld, 302, 303, 1]);
        assert_eq!((expand.lora.h.address(), expand.lora.ldh), (0x5100, shrink.lora.ldh));
    }
}

#[test]
fn a_batch_gets_its_tables_for_the_kernels_own_tile() {
    let rows = [(0..5, 1), (5..70, 0), (100..130, 2)];
    let assignment = Assignment::new(130, &rows, &[0, 10, 250]).unwrap();
    let lora =
        Lora { segments: Global::from_address(0x8000), adapters: Global::from_address(0x9000), ..slabs() };
    let with_adapters =
        |kernel: &&Kernel| !matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK);
    for kernel in KERNELS.iter().chain(SM90_KERNELS).filter(with_adapters) {
        let lora = operands(Adapters::batch(lora, &assignment)).params(kernel).lora;
        let tiles = assignment.tiles(kernel).unwrap();
        assert_eq!(
            (lora.segments.address(), lora.adapters.address(), lora.segment_count),
            (0x8000, 0x9000, 2)
        );
        assert_eq!(lora.row_tiles.address(), 0x8000 + tiles.offset as u64);
        // Rank 10 in the first row tile, 250 in the last two, be they of 64 or of 128; in one of 256 rows
        // both.
        let items = 256u32.div_ceil(kernel.h_columns);
        let row_tiles = if kernel.block_m == 256 { 1 } else { 2 };
        assert_eq!(lora.h_items, 1 + row_tiles * items, "{}", kernel.name);
        // On 9.0 those of a row tile lie side by side.
        let together = kernel.target == Target::Sm90a && kernel.block_m > 64;
        let ldh = if together { 16 + 256 } else { 256 };
        assert_eq!((lora.ldh, lora.uniform.rank), (ldh, 0), "{}", kernel.name);
    }
}

#[test]
fn h_of_a_row_tiles_segments_lies_side_by_side_on_9_0() {
    // 16 and 112 columns meet in rows 0 to 63.
    let assignment = Assignment::new(130, &[(0..5, 0), (5..30, 1)], &[10, 100]).unwrap();
    let ldh = |name| operands(Adapters::batch(slabs(), &assignment)).params(kernel(name)).lora.ldh;
    assert_eq!([ldh("fused_64x64"), ldh("shrink_128x128")], [112, 112]);
    assert_eq!(
        [ldh("sm90_fused_64x64"), ldh("sm90_fused_128x256"), ldh("sm90_fused_cooperative_64x64_h16")],
        [128; 3]
    );
}

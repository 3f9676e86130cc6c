use fused_lora_kernels::{Global, params::Lora, table::SM90_KERNELS};

use super::*;

fn params() -> Params {
    Params {
        x: Global::from_address(0x1000),
        w: Global::from_address(0x2000),
        y: Global::from_address(0x3000),
        m: 130,
        n: 300,
        k: 77,
        ldx: 88,
        ldw: 80,
        ldy: 304,
        lora: Lora {
            a: Global::from_address(0x4000),
            b: Global::from_address(0x5000),
            h: Global::from_address(0x6000),
            lda: 80,
            ldb: 272,
            ldh: 32,
            ..Lora::default()
        },
        ..Params::default()
    }
}

fn kernel(name: &str) -> &'static Kernel {
    SM90_KERNELS.iter().find(|kernel| kernel.name == name).unwrap()
}

/// Operand, address, rows × columns, stride, box.
type Listed = (&'static str, u64, [u32; 2], u32, [u32; 2]);

fn listed(name: &str, cluster: u32) -> Vec<Listed> {
    let boxed = boxes(kernel(name), cluster, &params());
    let line = |b: Boxed| (b.operand, b.address, [b.rows, b.columns], b.stride, [b.box_rows, b.box_columns]);
    boxed.into_iter().flatten().map(line).collect()
}

#[test]
fn each_kernel_gets_the_boxes_that_it_copies() {
    let x = |rows| ("x", 0x1000, [130, 77], 88, [rows, 64]);
    let w = |rows| ("W", 0x2000, [300, 77], 80, [rows, 64]);
    let y = |columns| ("y", 0x3000, [130, 300], 304, [64, columns]);
    let a = |rows| ("A", 0x4000, [272, 77], 80, [rows, 64]);
    let b = |rows| ("B", 0x5000, [300, 272], 272, [rows, 64]);
    assert_eq!(listed("sm90_gemm_128x256", 1), [x(128), w(256), y(64)]);
    assert_eq!(listed("sm90_gemm_128x256", 4), [x(32), w(256), y(64)]);
    assert_eq!(listed("sm90_gemm_64x32", 8), [x(8), w(32), y(32)]);
    assert_eq!(listed("sm90_gemm_64x16", 1), [x(64), w(16), y(16)]);
    // These share K, not x.
    assert_eq!(listed("sm90_gemm_split_k_64x128", 8), [x(64), w(128), y(64)]);
    assert_eq!(listed("sm90_fused_cooperative_64x32_h32", 2), [x(32), w(32), y(32), a(16), b(32)]);
    let h = ("h", 0x6000, [130, 32], 32, [256, 64]);
    assert_eq!(listed("sm90_fused_256x128", 1), [x(256), w(128), y(64), a(64), b(128), h]);
}

/// What `cuTensorMapEncodeTiled` demands of boxes: at most 256 in a dimension, rows of no more bytes than the
/// swizzle.
#[test]
fn boxes_are_of_sizes_that_the_driver_takes() {
    for kernel in SM90_KERNELS {
        for cluster in crate::plan::clusters::cluster_sizes(kernel, 4096) {
            for boxed in boxes(kernel, cluster, &params()).into_iter().flatten() {
                let span = match boxed.swizzle() {
                    Swizzle::Bytes32 => 32,
                    Swizzle::Bytes64 => 64,
                    Swizzle::Bytes128 => 128,
                };
                assert_eq!(2 * boxed.box_columns, span, "{}: {boxed:?}", kernel.name);
                assert!((1..=256).contains(&boxed.box_rows), "{}: {boxed:?}", kernel.name);
                assert_eq!(boxed.check(), Ok(()));
            }
        }
    }
}

#[test]
fn what_cannot_be_addressed_is_named_with_its_reason() {
    let refused = |change: fn(&mut Params)| {
        let mut params = params();
        change(&mut params);
        // Refused before the driver is asked, of which there may be none.
        boxes(kernel("sm90_fused_64x64"), 1, &params)
            .into_iter()
            .flatten()
            .find_map(|boxed| boxed.check().err().map(|error| error.to_string()))
    };
    assert_eq!(refused(|_| ()), None);
    for (change, operand, reason) in [
        ((|p| p.x = Global::from_address(0x1008)) as fn(&mut Params), "x", "address 0x1008"),
        (|p| p.ldx = 84, "x", "168 bytes apart"),
        // Less than a row.
        (|p| p.ldx = 72, "x", "a row of 154"),
        (|p| p.ldx = 0, "x", "0 bytes apart"),
        (|p| p.y = Global::from_address(0x3002), "y", "address 0x3002"),
        (|p| p.ldy = 301, "y", "602 bytes apart"),
        (|p| p.lora.ldb = 0, "A", "0 rows of 77"),
        (|p| p.lora.ldh = 0, "h", "130 rows of 0"),
    ] {
        let said = refused(change).unwrap();
        assert!(
            said.starts_with(&format!("no tensor map for {operand}: ")) && said.contains(reason),
            "{said}"
        );
    }
}

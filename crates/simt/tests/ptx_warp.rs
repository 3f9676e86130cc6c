//! PTX snippets: what lanes of a warp exchange, and matrices in registers.

mod common {
    pub(crate) mod kinds;
    pub(crate) mod snippets;
}

use common::{
    kinds::{early, operand},
    snippets::{fails_on, run_on, words},
};
use fused_lora_simt::{Kind, Schedule};

fn expect(body: &str, of_lane: impl Fn(u32) -> u32) {
    assert_eq!(words(body), (0..32).map(of_lane).collect::<Vec<_>>(), "{body}");
}

#[test]
fn shuffles_in_all_modes() {
    let add = "@%p1 add.u32 %v, %v, 100;";
    expect(&format!("shfl.sync.up.b32 %v|%p1, %lane, 3, 0, -1; {add}"), |lane| {
        if lane < 3 { lane } else { lane - 3 + 100 }
    });
    expect(&format!("shfl.sync.down.b32 %v|%p1, %lane, 3, 31, -1; {add}"), |lane| {
        if lane > 28 { lane } else { lane + 3 + 100 }
    });
    // Segments of eight: the clamp's upper part keeps the lane's upper bits.
    expect("shfl.sync.idx.b32 %v, %lane, 2, 0x181f, -1;", |lane| lane / 8 * 8 + 2);
    expect("shfl.sync.bfly.b32 %v, %lane, 5, 31, -1;", |lane| lane ^ 5);
    // Eight lanes alone, while the others do something else.
    let few = "setp.lt.u32 %p1, %lane, 8; mov.u32 %v, 0; @!%p1 bra $end;
        shfl.sync.bfly.b32 %v, %lane, 1, 31, 0xff; $end:";
    expect(few, |lane| if lane < 8 { lane ^ 1 } else { 0 });
    fails_on(32, &few.replace("%lane, 1, 31", "%lane, 9, 31"), operand);
    fails_on(32, "shfl.sync.idx.b32 %v, %lane, 0, 31, 0xff;", |kind| {
        matches!(kind, Kind::Operand { .. } | Kind::Deadlock { .. })
    });
    // A lane of the mask that has left.
    let gone = "setp.eq.u32 %p1, %lane, 7; @%p1 ret; shfl.sync.bfly.b32 %v, %lane, 1, 31, 0xff;";
    fails_on(32, gone, |kind| matches!(kind, Kind::Divergence { .. } | Kind::Operand { .. }));
}

#[test]
fn votes_matches_and_reductions() {
    let odd = "and.b32 %r1, %lane, 1; setp.ne.u32 %p1, %r1, 0;";
    expect(&format!("{odd} vote.sync.ballot.b32 %v, %p1, -1;"), |_| 0xaaaa_aaaa);
    expect(&format!("{odd} vote.sync.ballot.b32 %v, !%p1, -1;"), |_| 0x5555_5555);
    for (mode, expected) in [("all", 0), ("any", 1), ("uni", 0)] {
        expect(&format!("{odd} vote.sync.{mode}.pred %p2, %p1, -1; selp.u32 %v, 1, 0, %p2;"), |_| expected);
    }
    expect("shr.u32 %r1, %lane, 3; match.any.sync.b32 %v, %r1, -1;", |lane| 0xff << (lane / 8 * 8));
    expect("match.all.sync.b32 %v|%p1, 5, -1; @!%p1 mov.u32 %v, 0;", |_| u32::MAX);
    expect("match.all.sync.b32 %v|%p1, %lane, -1; @%p1 mov.u32 %v, 1;", |_| 0);
    expect("redux.sync.add.u32 %v, %lane, -1;", |_| 496);
    expect("sub.s32 %r1, %lane, 9; redux.sync.min.s32 %v, %r1, -1;", |_| (-9i32).cast_unsigned());
    expect("redux.sync.xor.b32 %v, %lane, -1;", |_| 0);
}

/// One leader, the same each time for a mask; another one under another schedule.
#[test]
fn one_lane_is_elected() {
    let body = "elect.sync %r1|%p1, -1; elect.sync %r2|%p2, -1; shl.b32 %v, %r1, 1; selp.u32 %r3, 1, 0, %p1;
        or.b32 %v, %v, %r3; xor.pred %p3, %p1, %p2; @%p3 mov.u32 %v, 0xdead;";
    let mut leaders = Vec::new();
    for schedule in Schedule::standard(12) {
        let words = run_on(32, body, &schedule).unwrap_or_else(|report| panic!("{report}"));
        let leader = words[0] >> 1;
        let expected: Vec<u32> = (0..32).map(|lane| leader << 1 | u32::from(lane == leader)).collect();
        assert_eq!(words, expected);
        leaders.push(leader);
    }
    leaders.dedup();
    assert!(leaders.len() > 1, "always lane {leaders:?}");
}

#[test]
fn fewer_matrices_and_transposed_ones() {
    // Row r of eight holds 8 r + column, as halves; ldmatrix reads it once straight and once transposed.
    let store = "
    and.b32 %r1, %lane, 7;
    mad.lo.u32 %r2, %r1, 16, %mem;
    shl.b32 %r3, %r1, 3;
    mad.lo.u32 %r4, %r3, 0x10001, 0x10000;
    add.u32 %r5, %r4, 0x20002; add.u32 %r6, %r4, 0x40004; add.u32 %r7, %r4, 0x60006;
    setp.lt.u32 %p1, %lane, 8;
    @%p1 st.shared.v4.b32 [%r2], {%r4, %r5, %r6, %r7};
    bar.warp.sync -1;";
    // Lanes beyond the first eight give no address that is looked at.
    let only = "@!%p1 mov.u32 %r2, 3;";
    let pair = |lane: u32| (8 * (lane / 4) + 2 * (lane % 4)) * 0x10001 + 0x10000;
    expect(&format!("{store} {only} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%v}}, [%r2];"), pair);
    let turned = |lane: u32| {
        let at = |row: u32| 8 * row + lane / 4;
        at(2 * (lane % 4)) | at(2 * (lane % 4) + 1) << 16
    };
    expect(&format!("{store} {only} ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {{%v}}, [%r2];"), turned);
    // Stored transposed and loaded transposed it is what it was.
    let body = format!(
        "{store} {only} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r8}}, [%r2]; bar.warp.sync -1;
        stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r2], {{%r8}}; bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {{%v}}, [%r2];"
    );
    expect(&body, pair);
    let unordered = store.replace("bar.warp.sync -1;", "");
    fails_on(32, &format!("{unordered} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%v}}, [%r2];"), |kind| {
        matches!(kind, Kind::Race { .. } | Kind::Poison { .. } | Kind::Misaligned { .. })
    });
}

#[test]
fn a_product_of_bf16() {
    // All of a are 1.5, all of b 2: 16 times 3, and 0.25.
    let body = "
    mov.b32 %r1, 0x3fc03fc0; mov.b32 %r2, 0x40004000; mov.b32 %r3, 0f3e800000;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r4, %r5, %r6, %v}, {%r1, %r1, %r1, %r1}, {%r2,
    %r2}, {%r3, %r3, %r3, %r3};";
    expect(body, |_| 48.25f32.to_bits());
}

#[test]
fn a_barrier_of_some_lanes() {
    let body = |sync: &str| {
        format!(
            "mad.lo.u32 %r1, %lane, 4, %mem; mov.u32 %v, 7; setp.gt.u32 %p1, %lane, 7; @%p1 bra $end;
            st.shared.b32 [%r1], %lane; {sync}
            xor.b32 %r1, %r1, 16; ld.shared.b32 %v, [%r1]; $end:"
        )
    };
    expect(&body("bar.warp.sync 0xff;"), |lane| if lane < 8 { lane ^ 4 } else { 7 });
    fails_on(32, &body(""), early);
}

#[test]
fn products_of_other_numbers() {
    let mma = |name: &str, b: &str, d: &str| {
        format!("mma.sync.aligned.{name} {{{d}}}, {{%r1, %r1, %r1, %r1}}, {{{b}}}, {{%r3, %r3, %r3, %r3}};")
    };
    let all = "%r4, %r5, %r6, %v";
    for (a, b, c, mma, expected) in [
        // 16 times 3, and 1, to two f16.
        (
            0x3e00_3e00,
            0x4000_4000,
            0x3c00_3c00,
            "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r4, %v}, {%r1, %r1, %r1, %r1}, {%r2, %r2},
                {%r3, %r3};"
                .to_owned(),
            0x5220_5220,
        ),
        // 1 and three quarters of its last place: towards zero.
        (
            0x0400_0400,
            0x0600_0600,
            0x3f80_0000,
            mma("m16n8k16.row.col.f32.f16.f16.f32", "%r2, %r2", all),
            1f32.to_bits(),
        ),
        // 1.5, whose lower 13 bits do not count.
        (
            0x3fc0_1fff,
            0x4000_0000,
            0x3e80_0000,
            mma("m16n8k8.row.col.f32.tf32.tf32.f32", "%r2, %r2", all),
            24.25f32.to_bits(),
        ),
        (
            0x3fc0_1fff,
            0x4000_0000,
            0x3e80_0000,
            mma("m16n8k4.row.col.f32.tf32.tf32.f32", "%r2", all)
                .replace("{%r1, %r1, %r1, %r1}", "{%r1, %r1}"),
            12.25f32.to_bits(),
        ),
        // -1 and 2, 255 and 2, each 16 times 3.
        (0x02ff_02ff, 0x0303_0303, 5, mma("m16n8k32.row.col.s32.s8.s8.s32", "%r2, %r2", all), 53),
        (0x02ff_02ff, 0x0303_0303, 5, mma("m16n8k32.row.col.s32.u8.s8.s32", "%r2, %r2", all), 12341),
        (
            0x02ff_02ff,
            0x0303_0303,
            0x7fff_ffff,
            mma("m16n8k32.row.col.s32.s8.s8.s32", "%r2, %r2", all),
            0x8000_002f,
        ),
        (
            0x02ff_02ff,
            0x0303_0303,
            0x7fff_ffff,
            mma("m16n8k32.row.col.satfinite.s32.s8.s8.s32", "%r2, %r2", all),
            0x7fff_ffff,
        ),
    ] {
        expect(&format!("mov.b32 %r1, {a}; mov.b32 %r2, {b}; mov.b32 %r3, {c}; {mma}"), |_| expected);
    }
    let doubles = "mov.b64 %d1, 0d3ff8000000000000; mov.b64 %d2, 0d4000000000000000;
        mov.b64 %d3, 0d3fd0000000000000;
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d4, %d5}, {%d1}, {%d2}, {%d3, %d3};
        cvt.rn.f32.f64 %v, %d5;";
    expect(doubles, |_| 12.25f32.to_bits());
}

/// A has the lane's number in column 4t (of f32: t) of row g; B is 1 where that meets column t, and 0
/// elsewhere.
#[test]
fn fragments_of_words_and_bytes() {
    let lane_of = |lane: u32| if lane % 4 < 2 { lane / 4 * 4 + 2 * (lane % 4) } else { 0 };
    let ones = |one: &str| {
        format!(
            "shr.u32 %r1, %lane, 2; and.b32 %r2, %lane, 3; setp.eq.u32 %p1, %r1, %r2;
                selp.b32 %r3, {one}, 0, %p1; mov.b32 %r4, 0;"
        )
    };
    let bytes = format!(
        "{} mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {{%v, %r5, %r6, %r7}}, {{%lane, %r4, %r4, %r4}},
            {{%r3, %r4}}, {{%r4, %r4, %r4, %r4}};",
        ones("1")
    );
    expect(&bytes, lane_of);
    let words = format!(
        "{} cvt.rn.f32.u32 %r8, %lane;
            mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {{%r9, %r5, %r6, %r7}}, {{%r8, %r4, %r4,
            %r4}}, {{%r3, %r4}}, {{%r4, %r4, %r4, %r4}}; cvt.rzi.u32.f32 %v, %r9;",
        ones("0x3f800000")
    );
    expect(&words, lane_of);
    // An f64 of a lane is row g, column t of A; column g, row t of B.
    let doubles = "cvt.rn.f64.u32 %d1, %lane; shr.u32 %r1, %lane, 2; and.b32 %r2, %lane, 3;
        setp.eq.u32 %p1, %r1, %r2;
        selp.b64 %d2, 0x3ff0000000000000, 0, %p1; mov.b64 %d3, 0;
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d4, %d5}, {%d1}, {%d2}, {%d3, %d3};
        cvt.rzi.u32.f64 %v, %d4;";
    expect(doubles, lane_of);
}

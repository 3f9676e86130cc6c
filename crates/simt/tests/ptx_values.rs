//! PTX snippets: what arithmetic, conversions, addresses and accesses of all widths give.

mod common {
    pub(crate) mod kinds;
    pub(crate) mod snippets;
}

use common::{
    kinds::{misaligned, out_of_bounds, poison},
    snippets::{fails_on, launch, parse, words},
};
use fused_lora_simt::{Kind, Machine, Schedule};

/// The same word in all lanes.
fn value(body: &str) -> u32 {
    let words = words(body);
    assert!(words.iter().all(|word| *word == words[0]), "{body}");
    words[0]
}

#[test]
fn integers() {
    for (body, expected) in [
        ("mov.u32 %r1, 7; mov.u32 %r2, 0; div.u32 %r3, %r1, %r2; rem.s32 %r4, %r1, %r2; mov.u32 %v, 1;", 1),
        ("mul.hi.s32 %v, -2, 0x40000000;", u32::MAX),
        ("mad.hi.u32 %v, 0x80000000, 4, 5;", 7),
        ("bfe.s32 %v, 0xab0, 4, 8;", 0xffff_ffab),
        ("mov.b32 %r1, 0xff; bfi.b32 %v, 0x5, %r1, 4, 4;", 0x5f),
        ("mov.b32 %r1, 0x33221100; mov.b32 %r2, 0x776655c4; prmt.b32 %v, %r1, %r2, 0xc47;", 0x00ff_c477),
        ("mov.b32 %r1, 0x80000001; shf.l.wrap.b32 %v, %r1, 0x7, 33;", 0xf),
        ("mov.b32 %r1, 0x80000001; shf.r.clamp.b32 %v, %r1, 0x7, 40;", 0x7),
        ("lop3.b32 %v, 0xf0, 0xcc, 0xaa, 0xe8;", 0xe8),
        ("clz.b32 %v, 0x10000;", 15),
        ("brev.b32 %v, 1;", 0x8000_0000),
        ("bfind.s32 %v, -5;", 2),
        ("sad.u32 %v, 3, 8, 100;", 105),
        ("add.sat.s32 %v, 0x7fffffff, 1;", 0x7fff_ffff),
        ("min.s32 %v, -4, 3;", 0xffff_fffc),
        ("slct.b32.s32 %v, 1, 2, -1;", 2),
        ("setp.lt.and.s32 %p1|%p2, 1, 2, 0; selp.u32 %v, 1, 0, %p1; @%p2 add.u32 %v, %v, 8;", 0),
        ("setp.lt.s32 %p1|%p2, 2, 1; selp.u32 %v, 1, 0, %p1; @%p2 add.u32 %v, %v, 8;", 8),
        ("mov.pred %p1, -1; mov.u32 %v, 3; @!%p1 mov.u32 %v, 4;", 3),
        ("mul24.lo.u32 %v, 0x1000003, 5;", 15),
        ("add.cc.u32 %r1, 0xffffffff, 2; addc.u32 %v, 5, 6;", 12),
        ("add.cc.u32 %r1, 0xffffffff, 0; addc.u32 %v, 5, 6;", 11),
        ("sub.cc.u32 %r1, 1, 2; subc.u32 %v, 9, 3;", 5),
        ("mad.lo.cc.u32 %r1, 0xffff, 0x10001, 1; madc.hi.u32 %v, 0x80000000, 4, 5;", 8),
        ("add.cc.u64 %d1, -1, 1; addc.cc.u64 %d1, -1, 0; addc.u32 %v, 0, 0;", 1),
        ("dp4a.s32.s32 %v, 0x01ff02fe, 0x02030405, 10;", 7),
        ("dp4a.u32.s32 %v, 0x000000ff, 0x000000fe, 1;", (-509i32).cast_unsigned()),
        ("bfind.shiftamt.u32 %v, 0x10000;", 15),
        ("max.u16x2 %v, 0x0001ffff, 0x00020003;", 0x0002_ffff),
        ("min.s16x2 %v, 0x0001ffff, 0x00020003;", 0x0001_ffff),
        ("set.lt.u32.s32 %v, -1, 1;", u32::MAX),
        ("set.eq.f32.u32 %v, 4, 4;", 0x3f80_0000),
        // What is narrower than its register is extended by its sign.
        ("cvt.s8.s32 %h1, 0x80; cvt.s32.s16 %v, %h1;", (-128i32).cast_unsigned()),
        ("mad.lo.u32 %r1, %lane, 4, %mem; st.shared.b8 [%r1], 0x90; ld.shared.s8 %v, [%r1];", 0xffff_ff90),
        (
            "mad.lo.u32 %r1, %lane, 4, %mem; st.shared.b32 [%r1], -2; ld.shared.s32 %d1, [%r1];
                shr.u64 %d1, %d1, 32; cvt.u32.u64 %v, %d1;",
            u32::MAX,
        ),
        (
            "mov.u64 %d1, %clock64; mov.u64 %d2, %globaltimer; setp.gt.u64 %p1, %d2, %d1;
                selp.u32 %v, 1, 0, %p1;",
            1,
        ),
    ] {
        assert_eq!(value(body), expected, "{body}");
    }
}

#[test]
fn floats() {
    let f = |value: f32| value.to_bits();
    for (body, expected) in [
        ("add.rz.f32 %v, 0f3f800000, 0f33000000;", f(1.0)),
        ("add.rp.f32 %v, 0f3f800000, 0f33000000;", f(1.0 + f32::EPSILON)),
        ("mul.ftz.f32 %v, 0f00800000, 0f3f000000;", 0),
        ("add.sat.f32 %v, 0f40000000, 0f3f800000;", f(1.0)),
        ("max.f32 %v, 0f7fc00000, 0fbf800000;", f(-1.0)),
        ("max.NaN.f32 %v, 0f7fc00000, 0fbf800000;", 0x7fff_ffff),
        ("div.rn.f32 %v, 0f40e00000, 0f40000000;", f(3.5)),
        ("setp.neu.f32 %p1, 0f7fc00000, 0f00000000; selp.u32 %v, 1, 0, %p1;", 1),
        ("setp.num.f32 %p1, 0f7fc00000, 0f00000000; selp.u32 %v, 1, 0, %p1;", 0),
        ("mov.b32 %r1, 0x3c004000; add.f16x2 %v, %r1, %r1;", 0x4000_4400),
        ("mov.b32 %r1, 0x3f804000; fma.rn.bf16x2 %v, %r1, %r1, %r1;", 0x4000_40c0),
        ("mov.b16 %h1, 0x3c00; neg.f16 %h2, %h1; cvt.u32.u16 %v, %h2;", 0xbc00),
        ("cvt.rn.bf16x2.f32 %v, 0f3f800000, 0fbf800000;", 0x3f80_bf80),
        ("cvt.rz.f16x2.f32 %v, 0f45003000, 0f3f800000;", 0x6801_3c00),
        ("min.xorsign.abs.f32 %v, 0fc0400000, 0f40000000;", f(-2.0)),
        ("max.NaN.xorsign.abs.f32 %v, 0fc0400000, 0fc0000000;", f(3.0)),
        // 1.5 and -900, which is beyond the largest of e4m3, -448.
        ("cvt.rn.satfinite.e4m3x2.f32 %h1, 0f3fc00000, 0fc4610000; cvt.u32.u16 %v, %h1;", 0x3cfe),
        ("mov.b32 %r1, 0x3c017bff; cvt.rn.satfinite.e5m2x2.f16x2 %h1, %r1; cvt.u32.u16 %v, %h1;", 0x3c7b),
        ("mov.b16 %h1, 0x38b8; cvt.rn.f16x2.e4m3x2 %v, %h1;", 0x3c00_bc00),
        ("mov.b16 %h1, 0x3c42; cvt.rn.f16x2.e5m2x2 %v, %h1;", 0x3c00_4200),
        // Between two of tf32.
        ("cvt.rna.tf32.f32 %v, 0f3f801000;", 0x3f80_2000),
        ("cvt.rn.tf32.f32 %v, 0f3f801000;", 0x3f80_0000),
        ("mov.b16 %h1, 0x3c00; cvt.bf16.f16 %h2, %h1; cvt.u32.u16 %v, %h2;", 0x3f80),
        ("set.nan.f16x2.f16x2 %v, 0x7e003c00, 0x3c003c00;", 0x3c00_0000),
        // The lower halves first: 2 is not below 1, 1 is below 2.
        ("setp.lt.f16x2 %p1|%p2, 0x3c004000, 0x40003c00; selp.u32 %v, 1, 0, %p1; @%p2 add.u32 %v, %v, 8;", 8),
        ("mov.b32 %r1, 0x3c004000; ex2.approx.f16x2 %v, %r1;", 0x4000_4400),
        ("mov.f64 %f1, 0d4010000000000000; rcp.approx.ftz.f64 %f2, %f1; cvt.rn.f32.f64 %v, %f2;", f(0.25)),
        ("mov.f64 %f1, 0d4010000000000000; rsqrt.approx.ftz.f64 %f2, %f1; cvt.rn.f32.f64 %v, %f2;", f(0.5)),
        // Powers of two are exact, as libraries want.
        ("ex2.approx.f32 %v, 0fc0400000;", f(0.125)),
        ("cvt.rn.bf16.f32 %h1, 0f3fc00000; cvt.f32.bf16 %v, %h1;", f(1.5)),
        ("cvt.rzi.s32.f32 %v, 0fc0200000;", (-2i32).cast_unsigned()),
        ("cvt.rni.f32.f32 %v, 0f40200000;", f(2.0)),
        ("mov.f64 %f1, 0d3ff8000000000000; mul.f64 %f2, %f1, %f1; cvt.rn.f32.f64 %v, %f2;", f(2.25)),
        (
            "cvt.f64.f32 %f1, 0f40000000; sqrt.rn.f64 %f2, %f1; cvt.rn.f32.f64 %v, %f2;",
            f(std::f32::consts::SQRT_2),
        ),
    ] {
        assert_eq!(value(body), expected, "{body}");
    }
}

/// Approximations differ between schedules, within what the manual names.
#[test]
fn approximations_stay_within_their_bounds() {
    for (instruction, exact, relative) in [
        ("div.full.f32 %v, 0f3f800000, 0f40400000;", 1.0 / 3.0, 2f64.powi(-22)),
        ("div.approx.ftz.f32 %v, 0f3f800000, 0f40400000;", 1.0 / 3.0, 2f64.powi(-22)),
        ("sqrt.approx.ftz.f32 %v, 0f40000000;", 2f64.sqrt(), 2f64.powi(-23)),
        ("lg2.approx.f32 %v, 0f40400000;", 3f64.log2(), 2f64.powi(-22)),
        ("tanh.approx.f32 %v, 0f3f000000;", 0.5f64.tanh(), 2f64.powi(-11)),
        ("ex2.approx.f32 %v, 0f3f000000;", 2f64.sqrt(), 2f64.powi(-22)),
        ("sin.approx.f32 %v, 0f3f000000;", 0.5f64.sin(), 2f64.powi(-19)),
    ] {
        let mut seen = Vec::new();
        for seed in 0..12 {
            let found = common::snippets::run_on(32, instruction, &Schedule::random(seed))
                .expect("nothing is wrong")[0];
            let error = (f64::from(f32::from_bits(found)) - exact).abs();
            assert!(error <= exact.abs() * relative, "{instruction} {found:x}");
            seen.push(found);
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 1, "{instruction} has one result");
    }
}

#[test]
fn accesses_of_all_widths() {
    let body = "
    mad.lo.u32 %r1, %lane, 16, %mem;
    st.shared.v4.b16 [%r1], {1, 2, 3, 4};
    st.shared.b8 [%r1+8], 0x1ff;
    st.shared.u8 [%r1+9], 7;
    st.shared.v2.b8 [%r1+10], {8, 9};
    st.shared.b32 [%r1+12], 0x10000;
    ld.shared.b64 %d1, [%r1];
    ld.shared.v2.b64 {%d2, %d3}, [%r1];
    ld.shared.v2.b16 {%h1, %h2}, [%r1+4];
    ld.shared.u8 %h3, [%r1+8];
    ld.shared.b16 {%h4}, [%r1+14];
    cvt.u32.u64 %v, %d1;
    setp.ne.b64 %p1, %d1, %d2;
    @%p1 mov.u32 %v, 0;
    cvt.u32.u16 %r2, %h2; cvt.u32.u16 %r3, %h3; cvt.u32.u16 %r4, %h4;
    add.u32 %v, %v, %r2; add.u32 %v, %v, %r3; add.u32 %v, %v, %r4;";
    assert_eq!(value(body), 0x2_0001 + 4 + 0xff + 1);
    // A vector is aligned as a whole.
    let apart = "st.shared.v4.b32 [%mem+4], {1, 2, 3, 4}; mov.u32 %v, 0;";
    fails_on(32, apart, misaligned);
    fails_on(32, "ld.shared.b8 %h1, [%mem+5]; mov.u32 %v, 0;", poison);
}

#[test]
fn generic_addresses_are_of_their_space() {
    let body = "
    mad.lo.u32 %r1, %lane, 4, %mem;
    cvt.u64.u32 %d1, %r1;
    cvta.shared.u64 %d2, %d1;
    st.b32 [%d2], %lane;
    cvta.to.shared.u64 %d3, %d2;
    cvt.u32.u64 %r2, %d3;
    ld.shared.b32 %r3, [%r2];
    mad.wide.u32 %at, %lane, 4, %to;
    cvta.global.u64 %d4, %at;
    st.b32 [%d4], %r3;
    ld.b32 %v, [%d4];
    isspacep.shared %p1, %d2;
    @!%p1 mov.u32 %v, 99;
    isspacep.shared %p1, %d4;
    @%p1 mov.u32 %v, 99;";
    assert_eq!(words(body), (0..32).collect::<Vec<_>>());
    // A generic address is none of shared memory, nor the other way round.
    let not_converted = "cvt.u64.u32 %d1, %mem; cvta.shared.u64 %d2, %d1; cvt.u32.u64 %r1, %d2;
        st.shared.b32 [%r1], 0; mov.u32 %v, 0;";
    fails_on(32, not_converted, out_of_bounds);
    let not_made = "cvt.u64.u32 %d1, %mem; st.b32 [%d1], 0; mov.u32 %v, 0;";
    fails_on(32, not_made, out_of_bounds);
}

#[test]
fn shared_memory_with_a_size_lies_before_what_has_none() {
    let body = "
    .shared .align 16 .b8 own[20];
    mad.lo.u32 %r1, %lane, 4, memory;
    st.shared.b32 [%r1], %lane;
    mov.u32 %r2, table;
    setp.eq.u32 %p1, %lane, 0;
    @%p1 st.shared.b64 [own+8], 77;
    @%p1 st.shared.b16 [%r2+6], 5;
    ld.shared.b32 %v, [%r1];";
    let module =
        parse(".shared .align 8 .b16 table[4];\n", body).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(module.entries()[0].static_shared(), 1024);
    let mut machine = Machine::new();
    let to = machine.buffer(4 * 32);
    let launch = module.launch(&module.entries()[0], &to.to_le_bytes(), 1, 32, 128);
    machine.run(&[launch], &Schedule::random(0)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(machine.read::<u32>(to, 32).expect("written"), (0..32).collect::<Vec<_>>());
}

#[test]
fn three_dimensions() {
    // The word of a lane says where it is; its place is by PTX's own order of x, y, z.
    let body = "
    .reg .b32 %t<3>, %c<3>, %n<3>;
    mov.u32 %t0, %tid.x; mov.u32 %t1, %tid.y; mov.u32 %t2, %tid.z;
    mov.u32 %c0, %ctaid.x; mov.u32 %c1, %ctaid.y; mov.u32 %c2, %ctaid.z;
    mov.u32 %n0, %nctaid.x; mov.u32 %n1, %nctaid.y;
    mad.lo.u32 %r1, %c2, %n1, %c1;
    mad.lo.u32 %r1, %r1, %n0, %c0;
    mad.lo.u32 %r2, %t2, 4, %t1;
    mad.lo.u32 %r2, %r2, 8, %t0;
    mad.lo.u32 %lane, %r1, 64, %r2;
    mov.u32 %r3, %cluster_ctaid.y;
    mov.u32 %r4, %clusterid.y;
    mad.lo.u32 %r4, %r4, 2, %r3;
    setp.ne.u32 %p1, %r4, %c1;
    mov.u32 %v, %lane;
    @%p1 mov.u32 %v, 0xdead;";
    for schedule in Schedule::standard(5) {
        let mut machine = Machine::new();
        let (launch, to) = launch(&mut machine, 64 * 24, body);
        let launch = launch.dimensions([3, 4, 2], [8, 4, 2], [1, 2, 1]);
        machine.run(&[launch], &schedule).unwrap_or_else(|report| panic!("{report}"));
        let found = machine.read::<u32>(to, 64 * 24).expect("all lanes write");
        assert_eq!(found, (0..64 * 24).collect::<Vec<_>>());
    }
    let mut machine = Machine::new();
    let (launch, _) = launch(&mut machine, 1, "mov.u32 %v, 0;");
    let report = machine.run(&[launch.dimensions([3, 1, 1], [32, 1, 1], [2, 1, 1])], &Schedule::random(0));
    assert!(matches!(report.unwrap_err().kind, Kind::Launch { .. }));
}

#[test]
fn a_branch_by_index() {
    let body = "
    and.b32 %r1, %lane, 3;
    bra.uni $go;
    $table: .branchtargets $a, $b, $c, $a;
    $go:
    brx.idx %r1, $table;
    $a: mov.u32 %v, 10; bra.uni $end;
    $b: mov.u32 %v, 20; bra.uni $end;
    $c: mov.u32 %v, 30;
    $end:";
    assert_eq!(words(body), (0..32).map(|lane| [10, 20, 30, 10][lane % 4]).collect::<Vec<_>>());
    let beyond = body.replace("and.b32 %r1, %lane, 3", "mov.b32 %r1, 4");
    fails_on(32, &beyond, |kind| matches!(kind, Kind::Panic { .. }));
}

fn is_panic(kind: &Kind) -> bool {
    matches!(kind, Kind::Panic { .. })
}

#[test]
fn local_memory() {
    let body = |rest: &str| format!(".local .align 8 .b8 mine[16]; mov.b32 %r1, mine; {rest}");
    let stored = "st.local.v2.b32 [%r1+8], {%lane, 5}; cvt.u64.u32 %d1, %r1; cvta.local.u64 %d1, %d1;
        isspacep.local %p1, %d1; ld.b32 %r2, [%d1+8]; ld.local.b32 %r3, [mine+12]; add.u32 %v, %r2, %r3;
        @!%p1 mov.u32 %v, 0;";
    assert_eq!(words(&body(stored)), (5..37).collect::<Vec<_>>());
    // What nobody wrote, and what is beyond the end or not aligned.
    for wrong in ["ld.local.b32 %v, [%r1];", "st.local.b32 [%r1+16], 1;", "st.local.b32 [%r1+2], 1;"] {
        fails_on(32, &body(&format!("{wrong} mov.u32 %v, 0;")), is_panic);
    }
}

/// Runs a body behind declarations of a module: what a warp leaves.
fn with_module(module: &str, body: &str) -> Result<Vec<u32>, fused_lora_simt::Report> {
    let module = parse(module, body).unwrap_or_else(|refused| panic!("{refused}\n{body}"));
    let mut machine = Machine::new();
    let to = machine.buffer(128);
    machine
        .run(&[module.launch(&module.entries()[0], &to.to_le_bytes(), 1, 32, 1024)], &Schedule::random(1))?;
    machine.read(to, 32)
}

#[test]
fn functions_are_called() {
    // Twice its parameter, but for 3; its registers and labels are its own.
    let twice = ".func (.param .b32 r) twice(.param .b32 a);
        .func (.param .b32 r) twice(.param .b32 a) {
        .reg .b32 %r<4>; .reg .pred %p<2>;
        ld.param.b32 %r1, [a]; st.param.b32 [r], %r1; setp.eq.u32 %p1, %r1, 3; @%p1 ret;
        setp.ne.u32 %p1, %r1, 5; @%p1 bra $end; nanosleep.u32 1;
        $end: add.u32 %r1, %r1, %r1; st.param.b32 [r], %r1; ret; }";
    let call = |guard: &str| {
        format!(
            "setp.lt.u32 %p1, %lane, 8; mov.u32 %r1, 9;
            {{ .param .b32 x; .param .b32 y; st.param.b32 [x], %lane; st.param.b32 [y], 100;
            {guard} call.uni (y), twice, (x); ld.param.b32 %v, [y]; }}
            {{ .param .b32 x; .param .b32 y; st.param.b32 [x], %v; call (y), twice, (x);
            ld.param.b32 %v, [y]; }}
            setp.ne.u32 %p1, %r1, 9; @%p1 mov.u32 %v, 0;"
        )
    };
    let doubled = |value: u32| if value == 3 { 3 } else { 2 * value };
    let all: Vec<u32> = (0..32).map(|lane| doubled(doubled(lane))).collect();
    assert_eq!(with_module(twice, &call("")).unwrap(), all);
    let some: Vec<u32> = (0..32).map(|lane| if lane < 8 { all[lane as usize] } else { 200 }).collect();
    assert_eq!(with_module(twice, &call("@%p1")).unwrap(), some);
    for (module, body, wrong) in [
        (".func f() { call f; ret; }", "call f;", "a recursion"),
        (".extern .func (.param .b32 r) f();", "call f;", "no function `f`"),
        (twice, "call twice;", "other parameters"),
    ] {
        let refused = parse(module, body).unwrap_err();
        assert!(refused.to_string().contains(wrong), "{refused}");
    }
}

#[test]
fn variables_of_a_module() {
    let table = ".global .align 4 .u32 table[4] = {10, 20, -1}; .const .f32 half = 0f3f000000;";
    let lookup = "mov.u64 %d1, table; and.b32 %r1, %lane, 3; mad.wide.u32 %d1, %r1, 4, %d1;
        ld.global.nc.u32 %v, [%d1];
        ld.const.b32 %r2, [half]; setp.ne.b32 %p1, %r2, 0x3f000000; @%p1 mov.u32 %v, 7;";
    assert_eq!(with_module(table, lookup).unwrap()[..5], [10, 20, u32::MAX, 0, 10]);
    for wrong in ["st.global.u32 [%d1], 1;", "ld.global.u32 %r1, [%d1+20];"] {
        let report = with_module(table, &format!("mov.u64 %d1, table; {wrong} mov.u32 %v, 0;")).unwrap_err();
        assert!(is_panic(&report.kind), "{report}");
    }
    // A launch that writes what it reads by ld.global.nc is at fault.
    let written = "mad.wide.u32 %at, %lane, 4, %to; st.global.u32 [%at], 1; ld.global.nc.u32 %v, [%at];";
    fails_on(32, written, |kind| matches!(kind, Kind::NonCoherent { .. }));
}

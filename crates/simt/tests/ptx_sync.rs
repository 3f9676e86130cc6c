//! PTX snippets: atomics, fences, barriers, mbarriers, and what happens without them.

mod common {
    pub(crate) mod kinds;
    pub(crate) mod snippets;
}

use common::{
    kinds::{deadlock, early, operand},
    snippets::{fails_on, launch, run_on, words, words_on},
};
use fused_lora_simt::{Kind, Machine, Report, Schedule};

/// The words of the lanes of a cluster of two CTAs with a warp each.
fn run(body: &str, schedule: &Schedule) -> Result<Vec<u32>, Report> {
    let mut machine = Machine::new();
    let (launch, to) = launch(&mut machine, 64, body);
    machine.run(&[launch.dimensions([2, 1, 1], [32, 1, 1], [2, 1, 1])], schedule)?;
    machine.read::<u32>(to, 64)
}

/// Lane 0 stores a word to `%mem`, for all.
const ZERO: &str = "setp.eq.u32 %p1, %lane, 0; @%p1 st.shared.b64 [%mem], 0; bar.sync 0;";

#[test]
fn atomics_on_shared_memory() {
    for (atomic, expected) in [
        ("atom.shared.add.u32 %r1, [%mem], %lane", 496),
        ("red.shared.max.u32 [%mem], %lane", 31),
        ("red.relaxed.cta.shared::cta.or.b32 [%mem], %lane", 31),
        ("atom.shared.inc.u32 %r1, [%mem], 9", 2),
        ("atom.shared.dec.u32 %r1, [%mem], 9", 8),
        ("red.shared.add.f32 [%mem], 0f3f800000", 32f32.to_bits()),
        ("red.shared.add.noftz.f16x2 [%mem], 0x3c004000", 0x5000_5400),
        ("red.shared.add.u64 [%mem], 3", 96),
        ("atom.shared.cas.b32 %r1, [%mem], 0, 5", 5),
        ("cvta.shared.u64 %d2, %d1; red.add.u32 [%d2], 2", 64),
    ] {
        let body = format!("{ZERO} cvt.u64.u32 %d1, %mem; {atomic}; bar.sync 0; ld.shared.b32 %v, [%mem];");
        assert!(words(&body).iter().all(|&word| word == expected), "{atomic}: {:x?}", words(&body));
    }
    // Each lane gets another ticket.
    let mut tickets =
        run_on(32, &format!("{ZERO} atom.shared.add.u32 %v, [%mem], 1;"), &Schedule::random(3)).unwrap();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..32).collect::<Vec<_>>());
    // Weak and strong accesses race, and so do weak ones.
    let weak = format!("{ZERO} ld.shared.b32 %v, [%mem]; add.u32 %v, %v, 1; st.shared.b32 [%mem], %v;");
    fails_on(32, &weak, early);
    let mixed = format!("{ZERO} red.shared.add.u32 [%mem], 1; ld.shared.b32 %v, [%mem];");
    fails_on(32, &mixed, early);
}

#[test]
fn atomics_on_global_memory_and_vectors() {
    let body = "
    setp.eq.u32 %p1, %lane, 0;
    @%p1 st.global.v4.b32 [%to], {0, 0, 0, 0};
    bar.sync 0;
    red.global.gpu.relaxed.add.v4.f32 [%to], {0f3f800000, 0f40000000, 0f40400000, 0f40800000};
    bar.sync 0;
    and.b32 %r1, %lane, 3;
    mad.wide.u32 %at, %r1, 4, %to;
    ld.global.b32 %v, [%at];
    bar.sync 0;";
    let expected: Vec<u32> = (0..32).map(|lane| (32.0 * (lane % 4 + 1) as f32).to_bits()).collect();
    assert_eq!(words(body), expected);
    fails_on(32, &body.replace("v4.f32 [%to]", "v4.f32 [%to+4]"), operand);
}

/// One warp tells another by a flag in shared memory.
#[test]
fn flags_order_by_release_and_acquire_or_by_fences() {
    let body = |before: &str, store: &str, load: &str, after: &str| {
        format!(
            "{ZERO} mov.u32 %v, 0; setp.eq.u32 %p2, %lane, 0; setp.eq.u32 %p3, %lane, 32;
            @%p2 bra $tell; @%p3 bra $poll; bra.uni $end;
            $tell: st.shared.b32 [%mem+64], 42; {before} {store} [%mem], 1; bra.uni $end;
            $poll: {load} %r1, [%mem]; setp.eq.u32 %p4, %r1, 0; @%p4 bra $poll; {after}
            ld.shared.b32 %v, [%mem+64];
            $end:"
        )
    };
    let (release, acquire) = ("st.release.cta.shared.b32", "ld.acquire.cta.shared.b32");
    let (relaxed_store, relaxed_load) = ("st.relaxed.cta.shared.b32", "ld.relaxed.cta.shared.b32");
    let fence = "fence.acq_rel.cta;";
    for body in [
        body("", release, acquire, ""),
        body(fence, relaxed_store, relaxed_load, fence),
        body("membar.cta;", "st.volatile.shared.b32", acquire, ""),
        body("", release, "ld.volatile.shared.b32", "fence.sc.cta;"),
        body("", "red.release.cta.shared.add.u32", acquire, ""),
    ] {
        let words = words_on(64, &body);
        assert_eq!((words[32], words[0], words[33]), (42, 0, 0), "{body}");
    }
    for body in [
        body("", relaxed_store, acquire, ""),
        body("", release, relaxed_load, ""),
        body(fence, relaxed_store, relaxed_load, ""),
        body("", relaxed_store, relaxed_load, fence),
        body("", "st.shared.b32", acquire, ""),
    ] {
        fails_on(64, &body, early);
    }
}

#[test]
fn barriers_with_numbers_and_arrivals() {
    // Warp 0 produces, warp 1 waits for it; warp 0 does not.
    let body = |arrive: &str, wait: &str| {
        format!(
            "mov.u32 %v, 1; setp.lt.u32 %p1, %lane, 32; mad.lo.u32 %r1, %lane, 4, %mem; @!%p1 bra $wait;
            st.shared.b32 [%r1], %lane; {arrive} bra.uni $end;
            $wait: {wait} ld.shared.b32 %v, [%r1+-128];
            $end:"
        )
    };
    let right = body("bar.arrive 3, 64;", "bar.sync 3, 64;");
    let expected: Vec<u32> = (0..64).map(|lane| if lane < 32 { 1 } else { lane - 32 }).collect();
    assert_eq!(words_on(64, &right), expected);
    assert_eq!(words_on(64, &body("barrier.sync 3;", "barrier.cta.sync 3, 64;")), expected);
    fails_on(64, &body("", ""), early);
    fails_on(64, &body("", "bar.sync 3, 64;"), deadlock);
    fails_on(64, &body("bar.arrive 4, 64;", "bar.sync 3, 64;"), deadlock);
    fails_on(64, &body("bar.arrive 3, 32;", "bar.sync 3, 64;"), |kind| !matches!(kind, Kind::Panic { .. }));
}

/// Lane 0 initialises an mbarrier at `%mem` for `count` arrivals.
fn init(count: u32) -> String {
    format!("setp.eq.u32 %p1, %lane, 0; @%p1 mbarrier.init.shared::cta.b64 [%mem], {count}; bar.sync 0;")
}

const STORE: &str = "mad.lo.u32 %r1, %lane, 4, %mem; st.shared.b32 [%r1+64], %lane;";
const LOAD: &str = "xor.b32 %r2, %lane, 31; mad.lo.u32 %r2, %r2, 4, %mem; ld.shared.b32 %v, [%r2+64];";

#[test]
fn arrivals_with_counts_and_states() {
    let wait = |test: &str| format!("$w: {test} @!%p2 bra $w;");
    let by_state = "mbarrier.arrive.shared::cta.b64 %d1, [%mem];";
    let by_count = "mbarrier.arrive.release.cta.shared::cta.b64 _, [%mem], 2;";
    let in_two =
        "mbarrier.arrive.noComplete.shared.b64 %d2, [%mem], 1; mbarrier.arrive.shared.b64 %d1, [%mem];";
    let dropped = "mbarrier.arrive_drop.shared.b64 %d1, [%mem];";
    for (count, arrive, test) in [
        (32, by_state, "mbarrier.test_wait.shared::cta.b64 %p2, [%mem], %d1;"),
        (32, by_state, "mbarrier.try_wait.shared::cta.b64 %p2, [%mem], %d1;"),
        (32, by_state, "mbarrier.try_wait.acquire.cta.shared::cta.b64 %p2, [%mem], %d1, 1000;"),
        (64, by_count, "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%mem], 0, 1000;"),
        (64, in_two, "mbarrier.test_wait.parity.shared.b64 %p2, [%mem], 0;"),
        (32, dropped, "mbarrier.test_wait.shared.b64 %p2, [%mem], %d1;"),
    ] {
        let body = format!("{} {STORE} {arrive} {} {LOAD}", init(count), wait(test));
        assert_eq!(words(&body), (0..32).rev().collect::<Vec<_>>(), "{body}");
        // Without the wait, and with an arrival too few.
        fails_on(32, &format!("{} {STORE} {arrive} {LOAD}", init(count)), early);
        let body = format!("{} {STORE} {arrive} {} {LOAD}", init(count + 1), wait(test));
        fails_on(32, &body, deadlock);
    }
    // The arrivals that are missing, by the state before.
    let body =
        format!("{} mbarrier.arrive.shared.b64 %d1, [%mem]; mbarrier.pending_count.b64 %v, %d1;", init(32));
    let mut counts = run_on(32, &body, &Schedule::random(1)).unwrap_or_else(|report| panic!("{report}"));
    counts.sort_unstable();
    assert_eq!(counts, (1..=32).collect::<Vec<_>>());
    for wrong in [
        "mbarrier.arrive.shared.b64 _, [%mem], 3; mov.u32 %v, 0;",
        "mbarrier.arrive.noComplete.shared.b64 _, [%mem], 1; mov.u32 %v, 0;",
        "mov.b64 %d1, 5; mbarrier.test_wait.shared.b64 %p2, [%mem], %d1; mov.u32 %v, 0;",
        "mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 2; mov.u32 %v, 0;",
    ] {
        fails_on(32, &format!("{} {wrong}", init(32)), operand);
    }
}

#[test]
fn an_mbarrier_is_invalidated_and_initialised_again() {
    let round = |number: u32, before: &str| {
        format!(
            "{} {} {STORE} mbarrier.arrive.shared.b64 _, [%mem];
            $w{number}: mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 0; @!%p2 bra $w{number};
            {LOAD} {before} @%p1 mbarrier.inval.shared::cta.b64 [%mem];",
            "setp.eq.u32 %p1, %lane, 0;", "@%p1 mbarrier.init.shared::cta.b64 [%mem], 32; bar.sync 0;"
        )
    };
    let both =
        |before: &str| format!("{} {} @%p1 st.shared.b64 [%mem], 0;", round(1, before), round(2, before));
    assert_eq!(words(&both("bar.sync 0;")), (0..32).rev().collect::<Vec<_>>());
    // Others may still wait for it.
    fails_on(32, &both(""), |kind| early(kind) || operand(kind));
    // While it is there, it is no place for data, nor for another one; afterwards it is no mbarrier.
    fails_on(32, &format!("{} @%p1 st.shared.b64 [%mem], 0; mov.u32 %v, 0;", init(1)), operand);
    let again = format!("{} @%p1 mbarrier.init.shared.b64 [%mem], 1; mov.u32 %v, 0;", init(1));
    fails_on(32, &again, operand);
    let gone = format!(
        "{} @%p1 mbarrier.inval.shared.b64 [%mem]; @%p1 mbarrier.arrive.shared.b64 _, [%mem]; mov.u32 %v, 0;",
        init(1)
    );
    fails_on(32, &gone, early);
}

#[test]
fn copies_of_four_and_eight_bytes() {
    // What each lane left in its word goes to shared memory, zeros where fewer bytes are read.
    let body = |wait: &str| {
        format!(
            "mad.wide.u32 %at, %lane, 4, %to; add.u32 %r1, %lane, 7; st.global.u32 [%at], %r1;
            mad.lo.u32 %r1, %lane, 8, %mem; and.b32 %r2, %lane, 1; shl.b32 %r2, %r2, 2;
            st.shared.b32 [%r1+4], 1000;
            cp.async.ca.shared.global [%r1], [%at], 4, %r2;
            cp.async.commit_group; {wait}
            ld.shared.v2.b32 {{%v, %r3}}, [%r1]; add.u32 %v, %v, %r3;"
        )
    };
    let expected: Vec<u32> = (0..32).map(|lane| if lane % 2 == 1 { lane + 1007 } else { 1000 }).collect();
    assert_eq!(words(&body("cp.async.wait_group 0;")), expected);
    fails_on(32, &body(""), early);
}

#[test]
fn clusters_meet_relaxed_or_not() {
    // Each CTA of two stores a word, and an mbarrier; the other one arrives there.
    let body = |fence: &str, arrive: &str, wait: &str| {
        format!(
            "setp.eq.u32 %p1, %lane, 0; @%p1 mbarrier.init.shared.b64 [%mem], 1; {fence}
            {arrive} {wait}
            mov.u32 %r1, %cluster_ctarank; xor.b32 %r2, %r1, 1;
            mapa.shared::cluster.u32 %r3, %mem, %r2;
            @%p1 mbarrier.arrive.shared::cluster.b64 _, [%r3], 1;
            $w: mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 0; @!%p2 bra $w;
            mad.lo.u32 %lane, %r1, 32, %lane; mov.u32 %v, %lane;"
        )
    };
    let (fence, wait) = ("@%p1 fence.mbarrier_init.release.cluster;", "barrier.cluster.wait;");
    for schedule in Schedule::standard(9) {
        for arrive in [
            "barrier.cluster.arrive;",
            "barrier.cluster.arrive.relaxed;",
            "barrier.cluster.arrive.release.aligned;",
            "barrier.cluster.arrive.relaxed.aligned;",
        ] {
            let found = run(&body(fence, arrive, wait), &schedule);
            assert_eq!(found.unwrap_or_else(|report| panic!("{report}")), (0..64).collect::<Vec<_>>());
            // Without the fence nobody but the lane has seen the initialisation.
            let report = run(&body("", arrive, wait), &schedule).unwrap_err();
            let is_it = matches!(
                report.kind,
                Kind::Race { .. } | Kind::Proxy { .. } | Kind::NotStarted { .. } | Kind::Poison { .. }
            );
            assert!(is_it, "{report}");
        }
        // A relaxed arrival tells of no ordinary store.
        let data = |arrive: &str| {
            format!(
                "mad.lo.u32 %r1, %lane, 4, %mem; st.shared.b32 [%r1], %lane; {arrive} {wait}
                xor.b32 %r1, %r1, 4; ld.shared.b32 %v, [%r1]; mov.u32 %r1, %cluster_ctarank;
                mad.lo.u32 %lane, %r1, 32, %lane;"
            )
        };
        run(&data("barrier.cluster.arrive;"), &schedule).unwrap_or_else(|report| panic!("{report}"));
        let report = run(&data("barrier.cluster.arrive.relaxed;"), &schedule).unwrap_err();
        assert!(early(&report.kind), "{report}");
    }
}

/// What CTA 1 of a cluster does to an mbarrier of CTA 0 before that is invalidated.
#[test]
fn an_mbarrier_is_invalidated_after_what_others_did() {
    let body = |arrivals: u32, meet: &str| {
        format!(
            "setp.eq.u32 %p1, %lane, 0; mov.u32 %r1, %cluster_ctarank; setp.eq.u32 %p3, %r1, 1;
                and.pred %p3, %p1, %p3;
            @%p1 mbarrier.init.shared.b64 [%mem], {arrivals}; @%p1 fence.mbarrier_init.release.cluster;
            barrier.cluster.arrive; barrier.cluster.wait;
            mapa.shared::cluster.u32 %r3, %mem, 0;
            @%p3 mbarrier.arrive.shared::cluster.b64 _, [%r3];
            {meet}
            mad.lo.u32 %lane, %r1, 32, %lane; mov.u32 %v, %lane;"
        )
    };
    let inval = "@%p1 mbarrier.inval.shared.b64 [%mem];";
    let meet = "barrier.cluster.arrive; barrier.cluster.wait;";
    let first = "setp.eq.u32 %p4, %r1, 0;";
    let wait = format!(
        "{first} $w: @%p4 mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 0; @!%p4 bra $past; @!%p2 bra $w;
            $past:"
    );
    for schedule in Schedule::standard(9) {
        // Ordered by the barrier of the cluster, in the middle of a phase or behind one; or by a wait for the
        // phase.
        for (arrivals, ordered) in [(1, meet), (2, meet), (1, &*wait)] {
            let between = if ordered == meet { String::new() } else { "bar.warp.sync -1;".to_owned() };
            run(&body(arrivals, &format!("{ordered} {between} {inval} {meet}")), &schedule)
                .unwrap_or_else(|report| panic!("{report}"));
        }
        // By nothing; or by a barrier that does not release.
        for unordered in ["", "barrier.cluster.arrive.relaxed; barrier.cluster.wait;"] {
            let report = run(&body(2, &format!("{unordered} {inval} {meet}")), &schedule).unwrap_err();
            assert!(early(&report.kind) || operand(&report.kind), "{report}");
        }
    }
    // Lanes of the own CTA that may still wait.
    let waits = "setp.eq.u32 %p1, %lane, 0; @%p1 mbarrier.init.shared.b64 [%mem], 1; bar.sync 0;
        @%p1 mbarrier.arrive.shared.b64 _, [%mem];
        $w: mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 0; @!%p2 bra $w;";
    let inval = "@%p1 mbarrier.inval.shared.b64 [%mem]; mov.u32 %v, 0;";
    fails_on(32, &format!("{waits} {inval}"), early);
    words(&format!("{waits} bar.sync 0; {inval}"));
}

#[test]
fn copies_that_arrive_at_an_mbarrier() {
    // Each lane copies a word of its own; all read their neighbour's.
    let body = |count: u32, arrive: &str, wait: &str| {
        format!(
            "setp.eq.u32 %p1, %lane, 0; @%p1 mbarrier.init.shared.b64 [%mem], {count}; bar.sync 0;
            mad.wide.u32 %at, %lane, 4, %to; st.global.u32 [%at], %lane; mad.lo.u32 %r1, %lane, 4, %mem;
            cp.async.ca.shared.global [%r1+16], [%at], 4;
            {arrive} {wait}
            mul.lo.u32 %r1, %lane, 4; xor.b32 %r1, %r1, 4; add.u32 %r1, %r1, %mem;
            ld.shared.b32 %v, [%r1+16];"
        )
    };
    let wait = "$w: mbarrier.try_wait.parity.shared.b64 %p2, [%mem], 0; @!%p2 bra $w;";
    let expected: Vec<u32> = (0..32).map(|lane| lane ^ 1).collect();
    let expects = "cp.async.mbarrier.arrive.noinc.shared.b64 [%mem];";
    assert_eq!(words(&body(32, expects, wait)), expected);
    // One that is not expected leaves the count as it was.
    let both = "cp.async.mbarrier.arrive.shared.b64 [%mem]; mbarrier.arrive.shared.b64 _, [%mem];";
    assert_eq!(words(&body(32, both, wait)), expected);
    fails_on(32, &body(32, "mbarrier.arrive.shared.b64 _, [%mem];", wait), |kind| {
        !matches!(kind, Kind::Panic { .. })
    });
    fails_on(32, &body(32, expects, ""), early);
    // Without groups.
    let all = "cp.async.wait_all; bar.sync 0;";
    assert_eq!(words(&body(1, all, "")), expected);
    fails_on(32, &body(1, "bar.sync 0;", ""), early);
}

#[test]
fn lanes_read_and_write_shared_memory_of_the_cluster() {
    // Each CTA stores its own words, and reads the other one's; or stores there, and reads its own.
    let body = |access: &str, between: &str, end: &str| {
        format!(
            "mov.u32 %r1, %cluster_ctarank; xor.b32 %r2, %r1, 1; mad.lo.u32 %r4, %lane, 4, %mem;
            mapa.shared::cluster.u32 %r3, %r4, %r2; mad.lo.u32 %r5, %r1, 100, %lane;
            {} {between} {} {end}
            mad.lo.u32 %lane, %r1, 32, %lane;",
            if access == "ld" {
                "st.shared.b32 [%r4], %r5;"
            } else {
                "barrier.cluster.arrive; barrier.cluster.wait; st.shared::cluster.b32 [%r3], %r5;"
            },
            if access == "ld" { "ld.shared::cluster.b32 %v, [%r3];" } else { "ld.shared.b32 %v, [%r4];" },
        )
    };
    let meet = "barrier.cluster.arrive; barrier.cluster.wait;";
    let expected: Vec<u32> = (100..132).chain(0..32).collect();
    for schedule in Schedule::standard(9) {
        for access in ["ld", "st"] {
            let found = run(&body(access, meet, meet), &schedule).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(found, expected, "{access}");
            // Before the other one has started, or written; and a CTA must not end while others read its
            // memory.
            let relaxed = "barrier.cluster.arrive.relaxed; barrier.cluster.wait;";
            run(&body(access, relaxed, meet), &schedule).unwrap_err();
        }
        let report = run(&body("ld", meet, ""), &schedule).unwrap_err();
        assert!(matches!(report.kind, Kind::Departed { .. }), "{report}");
    }
}

//! What is reported, and not where it is allowed.

mod common {
    pub(crate) mod kinds;
    pub(crate) mod snippets;
}

use common::{
    kinds::{divergence, operand, race},
    snippets::run_on,
};
use fused_lora_simt::{Allowance, Allowed, Kind, Op, Schedule, Site};

/// Without the allowance a report of this kind, with it none; at another instruction it does not help.
fn is_needed(lanes: u32, body: &str, op: Op, allowed: Allowed, is_it: impl Fn(&Kind) -> bool) {
    for schedule in Schedule::standard(9) {
        let allow = |op| schedule.clone().allow(Allowance { site: Site::all(op), allowed });
        for schedule in [schedule.clone(), allow(Op::LdGlobal)] {
            let report = run_on(lanes, body, &schedule).expect_err(body);
            assert!(is_it(&report.kind), "{report}");
        }
        run_on(lanes, body, &allow(op)).unwrap_or_else(|report| panic!("{allowed:?}: {report}"));
    }
}

#[test]
fn stores_of_several_lanes_to_one_place() {
    let equal = "st.shared.b32 [%mem], 5; bar.sync 0; ld.shared.b32 %v, [%mem];";
    is_needed(32, equal, Op::StShared, Allowed::EqualStores, race);
    let any = "st.shared.b32 [%mem], %lane; bar.sync 0; ld.shared.b32 %v, [%mem];";
    is_needed(32, any, Op::StShared, Allowed::ConcurrentStores, race);
    // Only where they are equal; and no read among them.
    for (body, allowed) in [
        (any, Allowed::EqualStores),
        ("st.shared.b32 [%mem], 5; ld.shared.b32 %v, [%mem];", Allowed::EqualStores),
        ("st.shared.b32 [%mem], 5; ld.shared.b32 %v, [%mem];", Allowed::ConcurrentStores),
    ] {
        let schedule = Schedule::random(1).allow(Allowance { site: Site::all(Op::StShared), allowed });
        let report = run_on(32, body, &schedule).expect_err(body);
        assert!(race(&report.kind), "{report}");
    }
}

#[test]
fn rows_that_several_lanes_store() {
    // All rows of all lanes are the same, of one warp and of another.
    let body = |value: &str| {
        format!(
            "and.b32 %r1, %lane, 0; add.u32 %r1, %r1, %mem;
                stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r1], {{{value}}};
            bar.sync 0; ld.shared.b32 %v, [%mem];"
        )
    };
    let is_it = |kind: &Kind| matches!(kind, Kind::Race { .. } | Kind::Operand { .. });
    is_needed(64, &body("%mem"), Op::Stmatrix, Allowed::EqualStores, is_it);
    let site = Site::all(Op::Stmatrix);
    let schedule = Schedule::random(1).allow(Allowance { site, allowed: Allowed::EqualStores });
    let report = run_on(64, &body("%lane"), &schedule).expect_err("they differ");
    assert!(is_it(&report.kind), "{report}");
}

#[test]
fn parities_of_more_than_a_bit() {
    let body = "setp.eq.u32 %p1, %lane, 0; @%p1 mbarrier.init.shared.b64 [%mem], 1; bar.sync 0;
        mbarrier.try_wait.parity.shared.b64 %p2, [%mem], -1; mov.u32 %v, 0;";
    is_needed(32, body, Op::MbarrierTryWaitParity, Allowed::WideParity, operand);
}

#[test]
fn warps_that_share_out_registers_at_several_places() {
    let body =
        "setp.lt.u32 %p1, %lane, 64; @%p1 bra $first; setmaxnreg.dec.sync.aligned.u32 40; bra.uni $end;
        $first: setmaxnreg.dec.sync.aligned.u32 40; $end: mov.u32 %v, 0;";
    is_needed(128, body, Op::SetmaxnregDec, Allowed::SetmaxnregApart, divergence);
    let another = body
        .replace("$first: setmaxnreg.dec.sync.aligned.u32 40", "$first: setmaxnreg.dec.sync.aligned.u32 48");
    let site = Site::all(Op::SetmaxnregDec);
    let schedule = Schedule::random(1).allow(Allowance { site, allowed: Allowed::SetmaxnregApart });
    let report = run_on(128, &another, &schedule).expect_err(&another);
    assert!(divergence(&report.kind), "{report}");
}

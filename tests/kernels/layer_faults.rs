//! Seeded faults in attention and LayerNorm: *every* instruction by which threads wait for each other, for
//! copies, or exchange values, and every one that moves or multiplies tiles, in turn left out or made wrong.
//! Each must be caught.
//!
//! As in `faults.rs`, the kernel is clean with the same case under 20 schedules before that. Who has to catch
//! a fault depends on the instruction: what orders is the machine's to miss, what computes the reference's.

use fused_lora_simt::{Action, Kind, Machine, Op, Schedule, Site, SiteInfo};

use crate::{attention, layer::Subject, layer_norm};

const SCHEDULES: usize = 20;

/// Who has to catch a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The machine: two accesses without an order, or, if the schedule has it so, a read of what is not there
    /// yet.
    Order,
    /// The machine: lanes that end before their copies do.
    NotWaited,
    /// The machine: lanes of a warp that take different ways.
    Divergence,
    /// The reference.
    Reference,
}

/// What is tried on an instruction.
fn actions(op: Op) -> &'static [(&'static str, Action, By)] {
    const GONE: Action = Action::Drop;
    // To another row's chunk of the same eight: as if one side had no swizzle.
    const SWIZZLE: (&str, Action, By) = ("without its swizzle", Action::AddressXor(16), By::Reference);
    match op {
        Op::BarSync | Op::BarWarpSync => &[("gone", GONE, By::Order)],
        Op::CpAsyncCommitGroup => &[("gone", GONE, By::Order)],
        Op::CpAsyncWaitGroup => {
            &[("gone", GONE, By::Order), ("one group short", Action::WaitGroup(1), By::Order)]
        }
        Op::CpAsync => &[("of 2 bytes less", Action::ByteDelta(-2), By::Reference), SWIZZLE],
        Op::Ldmatrix | Op::LdmatrixTrans => &[SWIZZLE],
        Op::ShflBfly | Op::Mma => &[("gone", GONE, By::Reference)],
        _ => &[],
    }
}

/// All instructions that clean runs meet.
fn sites(subject: &impl Subject, machine: &mut Machine) -> Vec<SiteInfo> {
    let mut sites = Vec::new();
    for schedule in Schedule::standard(SCHEDULES) {
        let stats = subject.launch(machine, &schedule).unwrap_or_else(|report| panic!("clean: {report}"));
        subject.check(machine).unwrap_or_else(|what| panic!("clean: {what}"));
        sites.extend(stats.sites);
    }
    sites.sort();
    sites.dedup_by_key(|site| (site.file, site.line, site.column, site.op));
    sites
}

/// Who caught it, under the first schedule where somebody did.
fn caught(
    subject: &impl Subject,
    machine: &mut Machine,
    site: &Site,
    action: Action,
) -> Option<(By, String)> {
    Schedule::standard(SCHEDULES).into_iter().find_map(|schedule| {
        match subject.launch(machine, &schedule.with(site.clone().does(action))) {
            Ok(stats) => {
                assert!(stats.mutated > 0, "never met");
                subject.check(machine).err().map(|what| (By::Reference, what))
            }
            Err(report) => {
                let by = match report.kind {
                    Kind::Race { .. } | Kind::Poison { .. } => By::Order,
                    Kind::NotWaited { .. } => By::NotWaited,
                    Kind::Divergence { .. } => By::Divergence,
                    _ => panic!("went wrong in another way: {report}"),
                };
                Some((by, report.to_string()))
            }
        }
    })
}

/// Seeds every fault; gives how many there were of each instruction.
fn seed(subject: &impl Subject, machine: &mut Machine, wanted: &[(Op, usize)]) {
    let mut wrong = Vec::new();
    let mut met: Vec<(Op, usize)> = Vec::new();
    for site in sites(subject, machine) {
        for &(what, action, by) in actions(site.op) {
            let outcome = caught(subject, machine, &Site { ptx: None, ..Site::at(&site) }, action);
            println!("{site}, {what}: {outcome:?}");
            let right = |found: By| match (by, found) {
                // A lane that waits for nothing any more may end before it misses anything.
                (By::Order, By::NotWaited) => true,
                // What lanes decide together they no longer do.
                (By::Reference, By::Divergence) => site.op == Op::ShflBfly,
                _ => found == by,
            };
            if !outcome.as_ref().is_some_and(|(found, _)| right(*found)) {
                wrong.push(format!("{site}, {what}, for {by:?}: {outcome:?}"));
            }
        }
        if !actions(site.op).is_empty() {
            match met.iter_mut().find(|(op, _)| *op == site.op) {
                Some((_, count)) => *count += 1,
                None => met.push((site.op, 1)),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} faults were not caught as they should be:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    met.sort();
    assert_eq!(met, wanted, "other instructions than expected: nothing may be left out unseen");
}

/// Three blocks of queries, tails in queries and columns, two heads and sequences; a v that is not finite, so
/// that products are made key by key somewhere.
fn attention_case() -> attention::Case {
    let planted = vec![(20, 2 * 48 + 1, f32::INFINITY)];
    attention::Case { planted, seed: 11, ..attention::Case::new(2, 140, 2, 24) }
}

#[test]
fn faults_in_attention() {
    let mut machine = Machine::new();
    let subject = attention::Setup::new(&mut machine, &attention_case());
    let instructions = [
        (Op::BarSync, 3),
        (Op::BarWarpSync, 1),
        (Op::CpAsync, 1),
        (Op::CpAsyncCommitGroup, 2),
        (Op::CpAsyncWaitGroup, 3),
        (Op::Ldmatrix, 2),
        (Op::LdmatrixTrans, 2),
        (Op::Mma, 4),
        (Op::ShflBfly, 5),
    ];
    seed(&subject, &mut machine, &instructions);
}

#[test]
fn faults_in_layer_norm() {
    let mut machine = Machine::new();
    let subject = layer_norm::Setup::new(&mut machine, &layer_norm::Case::new(5, 300));
    seed(&subject, &mut machine, &[(Op::ShflBfly, 2)]);
}

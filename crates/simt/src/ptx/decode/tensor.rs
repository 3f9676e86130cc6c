//! Copies, `cp.async` and those of tensors, and `wgmma`. PTX ISA 9.7.9.25 to 9.7.9.27, 9.7.15.

use super::{
    super::{
        code::{Half, Operation as Op, Product},
        parsed::{Operand, Statement},
    },
    form::{
        Form,
        Slot::{self, Address, Box, Immediate, Must, Outs, Predicate, Value, Values},
        form,
    },
};

/// `cp.async` and what begins with it.
pub(super) fn copy(parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let rest = parts.strip_prefix(&["async"])?;
    match rest {
        ["commit_group"] => Some(form(Op::CpAsyncCommitGroup, [])),
        ["wait_group"] => Some(form(Op::CpAsyncWaitGroup, [Immediate])),
        ["wait_all"] => None,
        ["bulk", "commit_group"] => Some(form(Op::BulkCommitGroup, [])),
        ["bulk", "wait_group"] => Some(form(Op::BulkWaitGroup, [Immediate])),
        ["bulk", "wait_group", "read"] => Some(form(Op::BulkWaitGroupRead, [Immediate])),
        ["bulk", "shared::cluster", "shared::cta", "mbarrier::complete_tx::bytes"] => {
            Some(form(Op::BulkToCluster, [Address, Address, Value(32), Address]))
        }
        ["bulk", "prefetch", "tensor", dims, "L2", "global", ..] => {
            let dims = dimensions(dims)?;
            matches!(rest[6..], [] | ["tile"]).then(|| form(Op::TensorPrefetch(dims), [Box(dims)]))
        }
        ["bulk", "tensor", dims, rest @ ..] => of_tensor(dimensions(dims)?, rest),
        [cache @ ("ca" | "cg"), "shared" | "shared::cta", "global", hints @ ..] => {
            of_lane(cache, hints, statement)
        }
        _ => None,
    }
}

/// `cp.async.ca.shared.global [to], [from], bytes{, bytes that are read}`.
fn of_lane(cache: &str, hints: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let has_policy = match hints {
        [] | ["L2::64B" | "L2::128B" | "L2::256B"] => false,
        ["L2::cache_hint"] => true,
        _ => return None,
    };
    let bytes = match statement.operands.get(2)? {
        Operand::Immediate(bytes @ (4 | 8)) if cache == "ca" => *bytes as u32,
        // Whatever it is: 16 is what is told to be missing.
        _ => 16,
    };
    let mut slots = vec![Address, Address, Must(u64::from(bytes))];
    let with_source = statement.operands.len() - usize::from(has_policy).min(statement.operands.len());
    if with_source == 4 {
        slots.push(Value(32));
    }
    if has_policy {
        slots.push(Value(64));
    }
    Some(form(Op::CpAsync(bytes), slots))
}

/// `2d` is 2.
fn dimensions(part: &str) -> Option<u32> {
    part.strip_suffix('d')?.parse().ok().filter(|dims| (1..=5).contains(dims))
}

/// A copy of a box of so many dimensions. PTX ISA 9.7.9.27.1.2.
fn of_tensor(dims: u32, parts: &[&str]) -> Option<Form> {
    let (direction, mut rest) = parts.split_at_checked(2)?;
    if let ["tile", after @ ..] = rest {
        rest = after;
    }
    let (op, mut slots): (Op, Vec<Slot>) = match (direction, rest) {
        (["shared::cluster" | "shared::cta", "global"], ["mbarrier::complete_tx::bytes", after @ ..]) => {
            rest = after;
            match after {
                ["multicast::cluster", after @ ..] => {
                    rest = after;
                    (Op::TensorLoadMulticast(dims), vec![Address, Box(dims), Address, Value(16)])
                }
                _ => (Op::TensorLoad(dims), vec![Address, Box(dims), Address]),
            }
        }
        (["global", "shared::cta"], ["bulk_group", after @ ..]) => {
            rest = after;
            (Op::TensorStore(dims), vec![Box(dims), Address])
        }
        _ => return None,
    };
    match rest {
        [] => {}
        // The policy is a hint.
        ["L2::cache_hint"] => slots.push(Value(64)),
        _ => return None,
    }
    Some(form(op, slots))
}

/// `wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16` and what belongs to it.
pub(super) fn wgmma(parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let (shape, types) = match parts {
        ["fence", "sync", "aligned"] => return Some(form(Op::WgmmaFence, [])),
        ["commit_group", "sync", "aligned"] => return Some(form(Op::WgmmaCommitGroup, [])),
        ["wait_group", "sync", "aligned"] => return Some(form(Op::WgmmaWaitGroup, [Immediate])),
        ["mma_async", "sync", "aligned", shape, types @ ..] => (shape, types),
        _ => return None,
    };
    let half = match types {
        ["f32", "f16", "f16"] => Half::F16,
        ["f32", "bf16", "bf16"] => Half::Bf16,
        _ => return None,
    };
    let n: usize = shape.strip_prefix("m64n")?.strip_suffix("k16")?.parse().ok()?;
    let [Operand::List(registers), a, _, _, rest @ ..] = &statement.operands[..] else { return None };
    if !n.is_multiple_of(8) || n > 256 || 2 * registers.len() != n {
        return None;
    }
    let in_registers = matches!(a, Operand::List(_));
    let immediate = |at: usize| match rest.get(at) {
        Some(Operand::Immediate(value)) => Some(*value),
        _ => None,
    };
    // 1 or -1.
    let negated = [immediate(0)?, immediate(1)?].map(|sign| sign != 1);
    let transposed =
        if in_registers { [false, immediate(2)? == 1] } else { [immediate(2)? == 1, immediate(3)? == 1] };
    let mut slots = vec![Outs, if in_registers { Values(32) } else { Value(64) }, Value(64), Predicate];
    let sign = |is_negative: bool| Must(if is_negative { u64::MAX } else { 1 });
    slots.extend(negated.map(sign));
    slots.extend(transposed[usize::from(in_registers)..].iter().map(|&is| Must(u64::from(is))));
    Some(form(Op::Wgmma(Product { half, in_registers, negated, transposed, is_fenced: true }), slots))
}

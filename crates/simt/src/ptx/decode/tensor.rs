//! Copies, `cp.async` and those of tensors, and `wgmma`. PTX ISA, "Asynchronous copy", "Asynchronous
//! Warpgroup Level Matrix Multiply-Accumulate Instructions".

use super::{
    super::{
        code::{Field, Operation as Op, Product, Space, Types, Update},
        parsed::{Operand, Statement},
        types::Type,
    },
    form::{
        Form,
        Slot::{self, Address, Box, Immediate, Must, Outs, Predicate, Value, Values},
        form,
    },
};

/// `cp.async` and what begins with it.
pub(super) fn copy(parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    if let ["reduce", rest @ ..] = parts {
        return reduce(rest);
    }
    let rest = parts.strip_prefix(&["async"])?;
    match rest {
        ["commit_group"] => Some(form(Op::CpAsyncCommitGroup, [])),
        ["wait_group"] => Some(form(Op::CpAsyncWaitGroup, [Immediate])),
        ["wait_all"] => Some(form(Op::CpAsyncWaitAll, [])),
        ["mbarrier", "arrive", rest @ .., "shared" | "shared::cta", "b64"]
            if matches!(rest, [] | ["noinc"]) =>
        {
            Some(form(Op::CpAsyncMbarrierArrive { expected: !rest.is_empty() }, [Address]))
        }
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
        ["bulk", "shared::cluster" | "shared::cta", "global", "mbarrier::complete_tx::bytes", hints @ ..] => {
            hinted(Op::BulkLoad, [Address, Address, Value(32), Address], hints)
        }
        ["bulk", "global", "shared::cta", "bulk_group", hints @ ..] => {
            hinted(Op::BulkStore, [Address, Address, Value(32)], hints)
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

/// A form that may have a policy for caches, which is a hint.
fn hinted<const N: usize>(op: Op, slots: [Slot; N], hints: &[&str]) -> Option<Form> {
    let mut slots = slots.to_vec();
    match hints {
        [] => {}
        ["L2::cache_hint"] => slots.push(Value(64)),
        _ => return None,
    }
    Some(form(op, slots))
}

/// `cp.reduce.async.bulk`, of a tensor or not.
fn reduce(parts: &[&str]) -> Option<Form> {
    let update = |name: &str| {
        Some(match name {
            "add" => Update::Add,
            "min" => Update::Min,
            "max" => Update::Max,
            "inc" => Update::Inc,
            "dec" => Update::Dec,
            "and" => Update::And,
            "or" => Update::Or,
            "xor" => Update::Xor,
            _ => return None,
        })
    };
    match parts {
        ["async", "bulk", "tensor", dims, "global", "shared::cta", name, rest @ ..] => {
            let dims = dimensions(dims)?;
            let hints = rest.strip_prefix(&["tile"]).unwrap_or(rest).strip_prefix(&["bulk_group"])?;
            hinted(Op::TensorReduce(dims, update(name)?), [Box(dims), Address], hints)
        }
        ["async", "bulk", "global", "shared::cta", "bulk_group", rest @ .., ty] => {
            let ty = Type::named(ty).filter(|ty| ty.bits >= 16)?;
            let rest = rest.strip_suffix(&["noftz"]).unwrap_or(rest);
            let (name, hints) = rest.split_last()?;
            hinted(Op::BulkReduce(update(name)?, ty), [Address, Address, Value(32)], hints)
        }
        _ => None,
    }
}

/// `tensormap.replace` and `tensormap.cp_fenceproxy`.
pub(super) fn tensormap(parts: &[&str]) -> Option<Form> {
    match parts {
        ["replace", "tile", field, space @ .., "b1024", "b32" | "b64"] => {
            let space = match space {
                ["global"] => Space::Global,
                ["shared::cta"] => Space::Shared,
                [] => Space::Generic,
                _ => return None,
            };
            let field = Field::named(field)?;
            let op = Op::TensormapReplace(space, field);
            Some(match field.is_of_dimension() {
                true => form(op, [Address, Value(32), Value(64)]),
                false => form(op, [Address, Value(64)]),
            })
        }
        [
            "cp_fenceproxy",
            "global",
            "shared::cta",
            "tensormap::generic",
            "release",
            "cta" | "cluster" | "gpu" | "sys",
            "sync",
            "aligned",
        ] => Some(form(Op::TensormapCopy, [Address, Address, Must(128)])),
        _ => None,
    }
}

/// `2d` is 2.
fn dimensions(part: &str) -> Option<u32> {
    part.strip_suffix('d')?.parse().ok().filter(|dims| (1..=5).contains(dims))
}

/// A copy of a box of so many dimensions. PTX ISA, "cp.async.bulk.tensor".
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
    let types = match types {
        [d, a, b] => Types::named(d, a, b, false)?,
        [d, a, b, "satfinite"] => Types::named(d, a, b, true)?,
        _ => return None,
    };
    let (n, depth) = shape.strip_prefix("m64n")?.split_once('k')?;
    let (n, depth): (usize, usize) = (n.parse().ok()?, depth.parse().ok()?);
    let [Operand::List(registers), a, _, _, rest @ ..] = &statement.operands[..] else { return None };
    if !n.is_multiple_of(8) || n > 256 || types.columns(registers.len()) != n || depth * types.a.bytes() != 32
    {
        return None;
    }
    let in_registers = matches!(a, Operand::List(_));
    let immediate = |at: usize| match rest.get(at) {
        Some(Operand::Immediate(value)) => Some(*value),
        _ => None,
    };
    let mut slots = vec![Outs, if in_registers { Values(32) } else { Value(64) }, Value(64), Predicate];
    // Integers have no signs, and only numbers of 16 bits may be transposed.
    let (mut negated, mut transposed) = ([false; 2], [false; 2]);
    if !types.a.is_integer() {
        // 1 or -1.
        negated = [immediate(0)?, immediate(1)?].map(|sign| sign != 1);
        slots.extend(negated.map(|is_negative| Must(if is_negative { u64::MAX } else { 1 })));
    }
    if types.a.bytes() == 2 {
        let first = usize::from(in_registers);
        for (operand, is_transposed) in transposed[first..].iter_mut().enumerate() {
            *is_transposed = immediate(2 + operand)? == 1;
            slots.push(Must(u64::from(*is_transposed)));
        }
    }
    Some(form(Op::Wgmma(Product { types, in_registers, negated, transposed, is_fenced: true }), slots))
}

//! Control flow, barriers, fences, and what lanes of a warp do together. PTX ISA, "Control Flow
//! Instructions", "Parallel Synchronization and Communication Instructions", "Warp Level Matrix
//! Multiply-Accumulate Instructions".

use super::{
    super::{
        code::{Operation as Op, Shuffle, Space, Types, Update, Vote},
        parsed::{Operand, Statement},
        types::{Kind, Type},
    },
    form::{
        Form,
        Slot::{Address, Immediate, Label, Must, Out, Outs, Pair, Predicate, Value, Values},
        form,
    },
};

pub(super) fn decode(name: &str, parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let operands = &statement.operands[..];
    Some(match (name, parts) {
        ("bra", [] | ["uni"]) => form(Op::Branch(0), [Label]),
        ("brx", ["idx"]) => form(Op::BranchCase(0), [Value(32), Immediate, Immediate, Label]),
        ("ret", [] | ["uni"]) | ("exit", []) => form(Op::Return, []),
        ("trap", []) => form(Op::Trap, []),
        // The machine has no time.
        ("nanosleep", ["u32"]) => form(Op::Hint, [Value(32)]),
        ("bar" | "barrier", _) => return barrier(name, parts, operands),
        ("fence" | "membar", _) => return fence(name, parts),
        ("shfl", ["sync", mode, "b32"]) => {
            let mode = match *mode {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Butterfly,
                "idx" => Shuffle::Index,
                _ => return None,
            };
            form(Op::Shfl(mode), [Pair, Value(32), Value(32), Value(32), Value(32)])
        }
        ("vote", ["sync", mode, ty]) => {
            let mode = match (*mode, *ty) {
                ("all", "pred") => Vote::All,
                ("any", "pred") => Vote::Any,
                ("uni", "pred") => Vote::Uniform,
                ("ballot", "b32") => Vote::Ballot,
                _ => return None,
            };
            form(Op::Vote(mode), [Out, Predicate, Value(32)])
        }
        ("match", ["any", "sync", "b32"]) => form(Op::Match { all: false }, [Out, Value(32), Value(32)]),
        ("match", ["any", "sync", "b64"]) => form(Op::Match { all: false }, [Out, Value(64), Value(32)]),
        ("match", ["all", "sync", "b32"]) => form(Op::Match { all: true }, [Pair, Value(32), Value(32)]),
        ("match", ["all", "sync", "b64"]) => form(Op::Match { all: true }, [Pair, Value(64), Value(32)]),
        ("redux", ["sync", update, ty]) => {
            let ty =
                Type::named(ty).filter(|ty| ty.bits == 32 && matches!(ty.kind, Kind::Bits | Kind::Signed))?;
            let update = match *update {
                "add" => Update::Add,
                "min" => Update::Min,
                "max" => Update::Max,
                "and" => Update::And,
                "or" => Update::Or,
                "xor" => Update::Xor,
                _ => return None,
            };
            form(Op::Redux(update, ty), [Out, Value(32), Value(32)])
        }
        ("elect", ["sync"]) => form(Op::Elect, [Pair, Value(32)]),
        ("activemask", ["b32"]) => form(Op::ActiveMask, [Out]),
        ("ldmatrix" | "stmatrix", ["sync", "aligned", shape @ .., "b16"]) => {
            let is_known = |part: &&str| {
                matches!(*part, "m8n8" | "x1" | "x2" | "x4" | "trans" | "shared" | "shared::cta")
            };
            let trans = shape.contains(&"trans");
            let registers = |operand: usize| match operands.get(operand) {
                Some(Operand::List(list)) => list.len(),
                _ => 1,
            };
            let count = registers(usize::from(name == "stmatrix"));
            let has_count = shape.contains(&&*format!("x{count}"));
            if !shape.iter().all(is_known) || !shape.contains(&"m8n8") || !has_count {
                return None;
            }
            match name {
                "ldmatrix" => form(Op::Ldmatrix { trans }, [Outs, Address]),
                _ => form(Op::Stmatrix { trans }, [Address, Values(32)]),
            }
        }
        ("mma", ["sync", "aligned", shape, "row", "col", types @ ..]) => return mma(shape, types),
        ("mapa", ["shared::cluster", "u32"]) => form(Op::Mapa, [Out, Value(32), Value(32)]),
        ("prefetch", ["tensormap"] | ["param", "tensormap"]) => form(Op::PrefetchTensormap, [Address]),
        ("prefetch", ["global", "L1" | "L2" | "L2::evict_last" | "L2::evict_normal"])
        | ("prefetchu", ["L1"]) => form(Op::Hint, [Address]),
        ("isspacep", [space]) => {
            let space = match *space {
                "global" => Space::Global,
                "shared" | "shared::cta" => Space::Shared,
                "local" => Space::Local,
                _ => return None,
            };
            form(Op::IsSpace(space), [Out, Value(64)])
        }
        ("setmaxnreg", ["dec", "sync", "aligned", "u32"]) => form(Op::SetmaxnregDec, [Immediate]),
        ("setmaxnreg", ["inc", "sync", "aligned", "u32"]) => form(Op::SetmaxnregInc, [Immediate]),
        ("griddepcontrol", ["wait"]) => form(Op::DependentsWait, []),
        ("griddepcontrol", ["launch_dependents"]) => form(Op::DependentsLaunch, []),
        _ => return None,
    })
}

/// Barriers of a CTA, a warp, a cluster. PTX ISA, "bar, barrier", "bar.warp.sync", "barrier.cluster".
fn barrier(name: &str, parts: &[&str], operands: &[Operand<'_>]) -> Option<Form> {
    Some(match parts {
        ["warp", "sync"] if name == "bar" => form(Op::BarWarpSync, [Value(32)]),
        ["cluster", verb @ ("arrive" | "wait"), rest @ ..] if name == "barrier" => {
            let (rest, aligned) = match rest {
                [rest @ .., "aligned"] => (rest, true),
                _ => (rest, false),
            };
            match (*verb, rest) {
                ("arrive", [] | ["release"]) => form(Op::ClusterArrive { relaxed: false, aligned }, []),
                ("arrive", ["relaxed"]) => form(Op::ClusterArrive { relaxed: true, aligned }, []),
                ("wait", [] | ["acquire"]) => form(Op::ClusterWait { aligned }, []),
                _ => return None,
            }
        }
        [rest @ .., verb @ ("sync" | "arrive")] | [rest @ .., verb @ ("sync" | "arrive"), "aligned"]
            if matches!(rest, [] | ["cta"]) =>
        {
            match (*verb, operands) {
                ("sync", [Operand::Immediate(0)]) => form(Op::BarSync, [Must(0)]),
                // All threads of the CTA.
                ("sync", [_]) => form(Op::BarSyncNamed, [Value(32)]),
                ("sync", _) => form(Op::BarSyncNamed, [Value(32), Value(32)]),
                _ => form(Op::BarArrive, [Value(32), Value(32)]),
            }
        }
        _ => return None,
    })
}

/// `mma` of 16 rows and 8 columns, 32 or 16 bytes deep, and of f64.
fn mma(shape: &str, types: &[&str]) -> Option<Form> {
    let (types, saturates) = match types {
        ["satfinite", types @ ..] => (types, true),
        _ => (types, false),
    };
    let [d, a, b, c] = types else { return None };
    if c != d {
        return None;
    }
    if (shape, *d, *a, *b, saturates) == ("m8n8k4", "f64", "f64", "f64", false) {
        return Some(form(Op::Mma(None), [Outs, Values(64), Values(64), Values(64)]));
    }
    let types = Types::named(d, a, b, saturates)?;
    let depth: usize = shape.strip_prefix("m16n8k")?.parse().ok()?;
    let is_known = matches!(depth * types.a.bytes(), 16 | 32) && !(types.a.bytes() == 1 && *d == "f16");
    is_known.then(|| form(Op::Mma(Some(types)), [Outs, Values(32), Values(32), Values(32)]))
}

/// Fences. PTX ISA, "membar, fence".
fn fence(name: &str, parts: &[&str]) -> Option<Form> {
    let op = match (name, parts) {
        ("fence", ["proxy", "tensormap::generic", "acquire", "cta" | "cluster" | "gpu" | "sys"]) => {
            return Some(form(Op::TensormapFence, [Address, Must(128)]));
        }
        ("fence", ["proxy", "tensormap::generic", "release", "cta" | "cluster" | "gpu" | "sys"])
        | ("membar", ["cta" | "gl" | "sys"]) => Op::Fence,
        ("fence", [scope]) | ("fence", ["acq_rel" | "sc", scope])
            if matches!(*scope, "cta" | "cluster" | "gpu" | "sys") =>
        {
            Op::Fence
        }
        ("fence", ["mbarrier_init", "release", "cluster"]) => Op::FenceMbarrierInit,
        ("fence", ["proxy", "async", "shared::cta"]) => Op::FenceProxyShared,
        ("fence", ["proxy", "async", "global"]) => Op::FenceProxyGlobal,
        ("fence", ["proxy", "async"]) => Op::FenceProxy,
        // Of virtual addresses for one place, which are not here.
        ("fence", ["proxy", "alias"]) => Op::Hint,
        _ => return None,
    };
    Some(form(op, []))
}

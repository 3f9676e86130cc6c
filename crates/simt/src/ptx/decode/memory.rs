//! Loads, stores and atomics: `ld.shared::cta.v2.u32` and the like. PTX ISA, "ld", "st", "atom", "red".

use super::{
    super::{
        code::{Operation as Op, Order, Space, Update},
        parsed::{Operand, Statement},
        types::{Kind, Type},
    },
    form::{
        Form,
        Slot::{Address, Out, Outs, Value, Values},
        form,
    },
};

/// What follows the name, but for the type.
#[derive(Default)]
struct Qualifiers<'a> {
    space: Option<&'a str>,
    order: Option<Order>,
    update: Option<Update>,
    vector: bool,
    non_coherent: bool,
    /// Orders nothing, and says nothing of who sees it: a hint for caches, or what makes it an access like
    /// others.
    is_weak: bool,
}

impl<'a> Qualifiers<'a> {
    fn read(parts: &[&'a str]) -> Option<Self> {
        let mut all = Self::default();
        for &part in parts {
            match part {
                "global" | "shared" | "shared::cta" | "shared::cluster" | "param" | "local" | "const" => {
                    if all.space.replace(part).is_some() {
                        return None;
                    }
                }
                "relaxed" | "volatile" => all.order = Some(Order::Relaxed),
                "acquire" => all.order = Some(Order::Acquire),
                "release" => all.order = Some(Order::Release),
                "acq_rel" => all.order = Some(Order::AcquireRelease),
                // The machine has no narrower scopes: within one CTA all of them order the same.
                "gpu" | "sys" => {}
                "cta" | "cluster" if matches!(all.space, None | Some("shared" | "shared::cta")) => {}
                "weak" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" => all.is_weak = true,
                "L1::evict_normal"
                | "L1::evict_unchanged"
                | "L1::evict_first"
                | "L1::evict_last"
                | "L1::no_allocate"
                | "L2::64B"
                | "L2::128B"
                | "L2::256B" => {}
                "v2" | "v4" | "v8" => all.vector = true,
                "add" => all.update = Some(Update::Add),
                "min" => all.update = Some(Update::Min),
                "max" => all.update = Some(Update::Max),
                "inc" => all.update = Some(Update::Inc),
                "dec" => all.update = Some(Update::Dec),
                "and" => all.update = Some(Update::And),
                "or" => all.update = Some(Update::Or),
                "xor" => all.update = Some(Update::Xor),
                "exch" => all.update = Some(Update::Exchange),
                "cas" => all.update = Some(Update::CompareExchange),
                "noftz" => {}
                "nc" => all.non_coherent = true,
                _ => return None,
            }
        }
        Some(all)
    }

    fn space(&self) -> Space {
        match self.space {
            Some("global" | "const") => Space::Global,
            Some("local") => Space::Local,
            Some("shared::cluster") => Space::Cluster,
            Some(_) => Space::Shared,
            None => Space::Generic,
        }
    }
}

pub(super) fn decode(name: &str, parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let (&last, qualifiers) = parts.split_last()?;
    let ty = Type::named(last).filter(|ty| ty.bits >= 8)?;
    let with = Qualifiers::read(qualifiers)?;
    let (space, bits) = (with.space(), ty.bits);
    let is_vector = |operand: usize| {
        let operand = statement.operands.get(operand);
        matches!(operand, Some(Operand::List(list)) if list.len() > 1)
    };
    // Parameters of calls are variables in local memory.
    let address = statement.operands.get(usize::from(name == "ld"));
    let is_of_call =
        matches!(address, Some(Operand::Address(base, ..)) if matches!(**base, Operand::Local(_)));
    let is_plain = with.order.is_none() && with.update.is_none() && !with.non_coherent;
    match (name, with.space) {
        ("ld", Some("param")) if is_of_call && is_plain => {
            return Some(form(Op::Load(Space::Local, bits), [Outs, Address]));
        }
        ("st", Some("param")) if is_of_call && is_plain => {
            return Some(form(Op::Store(Space::Local, bits), [Address, Values(bits)]));
        }
        (_, Some("local" | "shared::cluster")) if !is_plain => return None,
        ("st" | "atom" | "red", Some("const")) => return None,
        _ => {}
    }
    if with.non_coherent {
        let is_known = name == "ld" && with.space == Some("global") && with.order.is_none();
        return is_known.then(|| form(Op::LoadNonCoherent(bits), [Outs, Address]));
    }
    match name {
        "ld" | "st" if with.update.is_some() || with.vector != is_vector(usize::from(name == "st")) => None,
        "ld" => match (with.order, with.space) {
            (None, Some("param")) => Some(form(Op::LoadParameter(bits), [Outs, Address])),
            (None, _) => Some(form(Op::Load(space, bits), [Outs, Address])),
            (Some(Order::Relaxed | Order::Acquire), Some("param")) => None,
            (Some(order @ (Order::Relaxed | Order::Acquire)), _) if !with.vector && !with.is_weak => {
                Some(form(Op::LoadStrong(space, bits, order), [Out, Address]))
            }
            _ => None,
        },
        "st" => match with.order {
            _ if with.space == Some("param") => None,
            None => Some(form(Op::Store(space, bits), [Address, Values(bits)])),
            Some(order @ (Order::Relaxed | Order::Release)) if !with.vector && !with.is_weak => {
                Some(form(Op::StoreStrong(space, bits, order), [Address, Value(bits)]))
            }
            _ => None,
        },
        _ => atomic(name == "atom", ty, &with),
    }
}

fn atomic(has_result: bool, ty: Type, with: &Qualifiers<'_>) -> Option<Form> {
    let update = with.update?;
    let is_known = match (update, ty.kind) {
        _ if with.is_weak || with.space == Some("param") || ty.bits == 8 => false,
        (Update::Add, Kind::Float | Kind::Brain | Kind::Floats | Kind::Brains) => true,
        (Update::Add | Update::Min | Update::Max, Kind::Bits | Kind::Signed) => ty.bits >= 32,
        (Update::Inc | Update::Dec, Kind::Bits) => ty.bits == 32,
        (Update::And | Update::Or | Update::Xor | Update::Exchange, Kind::Bits) => ty.bits >= 32,
        (Update::CompareExchange, Kind::Bits) => true,
        _ => false,
    };
    // Vectors are of floats, in global memory. PTX ISA, "red".
    if !is_known || with.vector && (!ty.is_float() || with.space != Some("global")) {
        return None;
    }
    let op = Op::Atomic(with.space(), update, ty, with.order.unwrap_or(Order::Relaxed));
    let value = Value(ty.bits);
    match (has_result, update) {
        (true, Update::CompareExchange) => Some(form(op, [Out, Address, value, value])),
        (true, _) => Some(form(op, [Outs, Address, Values(ty.bits)])),
        (false, Update::Exchange | Update::CompareExchange) => None,
        (false, _) => Some(form(op, [Address, Values(ty.bits)])),
    }
}

//! Instructions on mbarriers. PTX ISA, "mbarrier".

use super::{
    super::{
        code::{Arrival, Operation as Op, Scope},
        parsed::{Operand, Statement},
    },
    form::{
        Form,
        Slot::{Address, Out, Value},
        form,
    },
};

pub(super) fn decode(parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let (&verb, rest) = parts.split_first()?;
    let rest = rest.strip_suffix(&["b64"])?;
    let (mut space, mut parity) = (None, false);
    let mut arrival =
        Arrival { has_count: false, expects: false, drops: false, is_incomplete: false, scope: Scope::Cta };
    for &part in rest {
        match (verb, part) {
            (_, "shared" | "shared::cta" | "shared::cluster") => {
                if space.replace(part).is_some() {
                    return None;
                }
            }
            // What they are without it.
            ("arrive" | "arrive_drop", "release") | ("try_wait" | "test_wait", "acquire") => {}
            ("arrive" | "arrive_drop" | "try_wait" | "test_wait", "cta") => {}
            ("arrive" | "arrive_drop" | "try_wait" | "test_wait", "cluster") => {
                arrival.scope = Scope::Cluster;
            }
            ("expect_tx", "relaxed" | "cta" | "cluster") => {}
            ("try_wait" | "test_wait", "parity") => parity = true,
            ("arrive" | "arrive_drop", "expect_tx") => arrival.expects = true,
            ("arrive" | "arrive_drop", "noComplete") => arrival.is_incomplete = true,
            _ => return None,
        }
    }
    let in_cluster = space == Some("shared::cluster");
    match verb {
        "pending_count" if space.is_none() => Some(form(Op::MbarrierPendingCount, [Out, Value(64)])),
        // A generic address is a register that the machine would have to look into.
        _ if space.is_none() => None,
        "init" if !in_cluster => Some(form(Op::MbarrierInit, [Address, Value(32)])),
        "inval" if !in_cluster => Some(form(Op::MbarrierInval, [Address])),
        "expect_tx" if !in_cluster => Some(form(Op::MbarrierExpectTx, [Address, Value(32)])),
        "arrive" | "arrive_drop" => {
            arrival.drops = verb == "arrive_drop";
            // `_` or a state, but for an arrival at another CTA's.
            let has_state = !matches!(statement.operands.first(), Some(Operand::Address(..)));
            let mut slots = if has_state { vec![Out, Address] } else { vec![Address] };
            let is_longer = statement.operands.len() > slots.len();
            if is_longer {
                slots.push(Value(32));
            }
            arrival.has_count = is_longer && !arrival.expects;
            let is_known = (has_state || in_cluster)
                && (is_longer || !(arrival.expects || arrival.is_incomplete))
                && !(arrival.is_incomplete && (arrival.expects || in_cluster));
            let op =
                if in_cluster { Op::MbarrierArriveCluster(arrival) } else { Op::MbarrierArrive(arrival) };
            is_known.then(|| form(op, slots))
        }
        "try_wait" | "test_wait" if !in_cluster => {
            let can_limit = verb == "try_wait" && statement.operands.len() == 4;
            let (op, bits) = match (parity, verb) {
                (true, "try_wait") => (Op::MbarrierTryWait(arrival.scope), 32),
                (true, _) => (Op::MbarrierTestWait(arrival.scope), 32),
                (false, _) => {
                    let scope = arrival.scope;
                    (Op::MbarrierWaitState { sets_aside: verb == "try_wait", scope }, 64)
                }
            };
            let mut slots = vec![Out, Address, Value(bits)];
            if can_limit {
                // In nanoseconds: a hint, since the machine has no time.
                slots.push(Value(32));
            }
            Some(form(op, slots))
        }
        _ => None,
    }
}

//! `cvt` and `cvta`. PTX ISA, "cvt", "cvta".

use super::{
    super::{
        code::Operation as Op,
        lane::{GENERIC_LOCAL, GENERIC_SHARED, PARAMETERS},
        types::{Kind, Mode, Rounding, Type},
    },
    form::{
        Form,
        Slot::{Out, Value},
        form,
    },
};

/// `cvt`, by what follows it.
pub(super) fn decode(parts: &[&str]) -> Option<Form> {
    let [modifiers @ .., to, from] = parts else { return None };
    let (to, from) = (Type::named(to)?, Type::named(from)?);
    let mut rounding = Rounding::default();
    let mut mode = None;
    for &modifier in modifiers {
        match modifier {
            "ftz" => rounding.ftz = true,
            "sat" | "satfinite" => rounding.saturates = true,
            "relu" => rounding.relu = true,
            _ => {
                if mode.replace(named_mode(modifier)?).is_some() {
                    return None;
                }
            }
        }
    }
    rounding.mode = mode.unwrap_or_default();
    let is_integer_mode = mode.is_some_and(|mode| {
        matches!(mode, Mode::NearestInteger | Mode::ZeroInteger | Mode::DownInteger | Mode::UpInteger)
    });
    let of_eights = |ty: Type| matches!(ty.kind, Kind::Eights(_));
    if of_eights(to) || of_eights(from) {
        // `satfinite` is what conversions to 8 bits have to say.
        let is_known = mode == Some(Mode::Nearest) && !rounding.ftz && rounding.saturates == of_eights(to);
        let slots = match (to.kind, from.kind, from.bits) {
            (Kind::Eights(_), Kind::Float, 32) => vec![Out, Value(32), Value(32)],
            (Kind::Eights(_), Kind::Floats | Kind::Brains, _) => vec![Out, Value(32)],
            (Kind::Floats, Kind::Eights(_), _) => vec![Out, Value(16)],
            _ => return None,
        };
        return is_known.then(|| form(Op::ConvertEights(to, from, rounding), slots));
    }
    if to.kind == Kind::Tensor {
        let is_known = from == Type::new(32, Kind::Float)
            && matches!(mode, Some(Mode::Nearest | Mode::NearestAway | Mode::Zero))
            && !rounding.ftz
            && !(rounding.relu && mode == Some(Mode::NearestAway));
        return is_known.then(|| form(Op::Convert(to, from, rounding), [Out, Value(32)]));
    }
    if to.is_packed() {
        let is_known = from == Type::new(32, Kind::Float)
            && matches!(mode, Some(Mode::Nearest | Mode::Zero))
            && !rounding.ftz
            && !rounding.saturates;
        return is_known.then(|| form(Op::ConvertPair(to, rounding), [Out, Value(32), Value(32)]));
    }
    if from.is_packed()
        || from.kind == Kind::Tensor
        || mode == Some(Mode::NearestAway)
        || to.bits == 1
        || from.bits == 1
    {
        return None;
    }
    // What rounds has to say how; what does not must not, but for floats to integers of their own type.
    let is_known = match (to.is_float(), from.is_float()) {
        (true, true) if to.bits < from.bits => mode.is_some() && !is_integer_mode,
        (true, true) if to == from => mode.is_none() || is_integer_mode,
        // From f16 to bf16 and back: to the nearest.
        (true, true) if to.bits == from.bits => matches!(mode, None | Some(Mode::Nearest)),
        (true, true) => mode.is_none() && to.bits > from.bits,
        (true, false) => mode.is_some() && !is_integer_mode,
        (false, true) => is_integer_mode,
        (false, false) => mode.is_none() && !rounding.ftz,
    };
    let relus = rounding.relu && !(to.is_float() && to.bits == 16 && from.is_float());
    (is_known && !relus).then(|| form(Op::Convert(to, from, rounding), [Out, Value(from.bits)]))
}

/// A direction by its name.
pub(super) fn named_mode(name: &str) -> Option<Mode> {
    Some(match name {
        "rn" => Mode::Nearest,
        "rna" => Mode::NearestAway,
        "rz" => Mode::Zero,
        "rm" => Mode::Down,
        "rp" => Mode::Up,
        "rni" => Mode::NearestInteger,
        "rzi" => Mode::ZeroInteger,
        "rmi" => Mode::DownInteger,
        "rpi" => Mode::UpInteger,
        _ => return None,
    })
}

/// `cvta`: between addresses of a space and generic ones. Those of global memory are the same.
pub(super) fn address(parts: &[&str]) -> Option<Form> {
    let (space, is_back) = match parts {
        [space, "u64"] => (space, false),
        ["to", space, "u64"] => (space, true),
        _ => return None,
    };
    let start = match *space {
        "global" | "const" => 0,
        "local" => GENERIC_LOCAL,
        "param" => PARAMETERS,
        "shared" | "shared::cta" | "shared::cluster" => GENERIC_SHARED,
        _ => return None,
    };
    let offset = if is_back { start.wrapping_neg() } else { start };
    Some(form(Op::Offset(offset), [Out, Value(64)]))
}

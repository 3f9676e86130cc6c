//! What stands before the body of an entry: parameters, and dimensions. PTX ISA, "Parameter State Space",
//! "Performance-Tuning Directives".

use super::{
    parsed::Parameter,
    text::{Refused, Text},
};

/// The most bytes of parameters of an entry. PTX ISA, "Parameter State Space".
const MOST_PARAMETERS: u32 = 32_764;
/// The most of anything else that is counted.
pub(super) const MOST: u32 = i32::MAX as u32;

/// `(.param .align 64 .b8 name[976], …)`, if it is there.
pub(super) fn parameters<'a>(text: &mut Text<'a>) -> Result<Vec<Parameter<'a>>, Refused> {
    let (mut parameters, mut end) = (Vec::new(), 0u32);
    if !text.takes('(') || text.takes(')') {
        return Ok(parameters);
    }
    loop {
        let before = text.clone();
        let (mut size, mut align, mut is_pointer) = (None, None, false);
        let name = loop {
            match text.word("a parameter")? {
                ".param" | ".global" | ".shared" | ".const" | ".local" => {}
                // What follows is about what it points to.
                ".ptr" => is_pointer = true,
                ".align" => {
                    let value = text.number("an alignment", 1024)?;
                    align = if is_pointer { align } else { Some(value) };
                }
                ".b8" | ".u8" | ".s8" => size = Some(1),
                ".b16" | ".u16" | ".s16" | ".f16" => size = Some(2),
                ".b32" | ".u32" | ".s32" | ".f32" => size = Some(4),
                ".b64" | ".u64" | ".s64" | ".f64" => size = Some(8),
                word if word.starts_with('.') => {
                    return Err(before.refuse(format!("`{word}` of a parameter")));
                }
                name => break name,
            }
        };
        let size: u32 = size.ok_or_else(|| before.refuse(format!("the parameter {name} has no type")))?;
        let mut bytes = size;
        if text.takes('[') {
            bytes = size * text.number("the length of a parameter", MOST_PARAMETERS)?;
            text.expect(']')?;
        }
        let align = align.unwrap_or(size).max(1);
        let offset = end.next_multiple_of(align);
        end = offset + bytes;
        if end > MOST_PARAMETERS {
            return Err(before.refuse(format!("more than {MOST_PARAMETERS} bytes of parameters")));
        }
        parameters.push(Parameter { name, offset, bytes, align });
        if !text.takes(',') {
            break;
        }
    }
    text.expect(')')?;
    Ok(parameters)
}

/// `384, 1, 1`.
pub(super) fn product(text: &mut Text<'_>) -> Result<u32, Refused> {
    let mut product = text.number("a dimension", MOST)?;
    while text.takes(',') {
        product = product.saturating_mul(text.number("a dimension", MOST)?);
    }
    Ok(product)
}

//! Variables of a module in global and constant memory, with what they hold. The machine only reads them. PTX
//! ISA, "State Spaces", "Variables".

use super::{
    text::{Refused, Text, Token, immediate},
    types::{Kind, Type},
};

/// The most bytes of all of them.
const MOST: u32 = 1 << 24;

/// Where each lies, and what they hold.
#[derive(Default)]
pub(super) struct Constants<'a> {
    names: Vec<(&'a str, u32)>,
    pub(super) bytes: Vec<u8>,
}

impl<'a> Constants<'a> {
    /// `.align 4 .u32 name[2] = {1, 2};`, from behind `.global` or `.const`. One that is not understood has
    /// no name: whatever uses it is refused there.
    pub(super) fn declare(&mut self, text: &mut Text<'a>) -> Result<(), Refused> {
        let mut after = text.clone();
        after.skip_statement()?;
        let bytes = self.bytes.len();
        if self.read(text).is_none() {
            self.bytes.truncate(bytes);
        }
        *text = after;
        Ok(())
    }

    fn read(&mut self, text: &mut Text<'a>) -> Option<()> {
        let (mut align, mut ty) = (None, None);
        let name = loop {
            match text.word("a variable").ok()? {
                ".align" => align = Some(text.number("an alignment", 1 << 12).ok()?.max(1)),
                word if word.starts_with('.') => ty = Some(Type::named(&word[1..])?),
                name => break name,
            }
        };
        let ty = ty.filter(|ty| ty.bits >= 8)?;
        let size = ty.bits / 8;
        let mut count = Some(1u32);
        while text.takes('[') {
            let length =
                if text.peek() == Token::Mark(']') { None } else { text.number("a length", MOST).ok() };
            text.expect(']').ok()?;
            count = length.and_then(|length| count?.checked_mul(length));
        }
        let mut values = Vec::new();
        if text.takes('=') {
            while !matches!(text.peek(), Token::Mark(';')) {
                let is_negative = text.takes('-');
                match text.take() {
                    Token::Word(word) => {
                        let value = immediate(word)?;
                        values.push(if is_negative { value.wrapping_neg() } else { value });
                    }
                    Token::Mark('{' | '}' | ',') => {}
                    _ => return None,
                }
            }
        }
        let count = count.unwrap_or(values.len() as u32);
        let start = (self.bytes.len() as u32).next_multiple_of(align.unwrap_or(size));
        let end = start.checked_add(count.checked_mul(size)?).filter(|&end| end <= MOST)?;
        self.bytes.resize(start as usize, 0);
        let cut = Type::new(ty.bits, Kind::Bits);
        for value in values.into_iter().take(count as usize) {
            self.bytes.extend(&cut.cut(value).to_le_bytes()[..size as usize]);
        }
        // What has no value is 0.
        self.bytes.resize(end as usize, 0);
        self.names.push((name, start));
        Some(())
    }

    /// Where a name lies, from the first of them.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(known, _)| *known == name).map(|&(_, start)| start)
    }
}

//! Shared memory that a module or an entry declares. PTX ISA 5.1.6, 5.4.

use super::{
    text::{Refused, Text},
    types::Type,
};

/// The most bytes of shared memory of a CTA, and what a declaration may align it to.
const MOST_SHARED: u32 = 227 * 1024;
const MOST_ALIGN: u32 = 1024;

/// Names of shared memory: what is declared with a size, one behind another, then what has none.
#[derive(Clone, Default)]
pub(super) struct Shared<'a> {
    sized: Vec<(&'a str, u32)>,
    dynamic: Vec<&'a str>,
    /// Bytes of all with a size.
    end: u32,
}

impl<'a> Shared<'a> {
    /// `.extern .shared .align n .b8 name[];`, from behind `.extern`, or `.shared .align n .b8 name[m];`, from behind `.shared`.
    pub(super) fn declare(&mut self, text: &mut Text<'a>, is_extern: bool) -> Result<(), Refused> {
        let before = text.clone();
        let (mut align, mut size, mut is_shared) = (None, 1, !is_extern);
        let name = loop {
            match text.word("a declaration of shared memory")? {
                ".align" => align = Some(text.number("an alignment", 1024)?.max(1)),
                ".shared" => is_shared = true,
                word if word.starts_with('.') => {
                    let ty = Type::named(&word[1..]).filter(|ty| ty.bits >= 8 && is_shared);
                    size = ty.ok_or_else(|| before.refuse(format!("`{word}` of shared memory")))?.bits / 8;
                }
                name => break name,
            }
        };
        let mut count = Some(1);
        if text.takes('[') {
            count = None;
            if !text.takes(']') {
                count = Some(text.number("a length", MOST_SHARED)?);
                text.expect(']')?;
            }
        }
        text.expect(';')?;
        match count {
            None => self.dynamic.push(name),
            Some(count) => {
                let start = self.end.next_multiple_of(align.unwrap_or(size));
                self.end =
                    size.checked_mul(count).and_then(|bytes| start.checked_add(bytes)).unwrap_or(u32::MAX);
                if self.end > MOST_SHARED {
                    return Err(before.refuse(format!("more than {MOST_SHARED} bytes of shared memory")));
                }
                self.sized.push((name, start));
            }
        }
        Ok(())
    }

    /// Where a name lies, from the start of shared memory.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let sized = self.sized.iter().find(|(sized, _)| *sized == name).map(|&(_, start)| start);
        sized.or_else(|| self.dynamic.contains(&name).then_some(self.dynamic_start()))
    }

    /// Where dynamic shared memory starts: as its declarations may want to be aligned.
    pub(super) fn dynamic_start(&self) -> u32 {
        self.end.next_multiple_of(MOST_ALIGN)
    }
}

//! Shared memory that a module or an entry declares. PTX ISA, "Parameter State Space", "Variables".

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
    /// `.extern .shared .align n .b8 name[];`, from behind `.extern`, or `.shared .align n .b8 name[m];`,
    /// from behind `.shared`.
    pub(super) fn declare(&mut self, text: &mut Text<'a>, is_extern: bool) -> Result<(), Refused> {
        let before = text.clone();
        if is_extern && text.word("a declaration of shared memory")? != ".shared" {
            return Err(before.refuse("a variable of another module that is not shared memory".to_owned()));
        }
        let (name, align, bytes) = variable(text, MOST_SHARED)?;
        match bytes {
            None => self.dynamic.push(name),
            Some(bytes) => {
                let start = self.end.next_multiple_of(align);
                self.end = start.saturating_add(bytes);
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

/// `.align n .b8 name[m];`, from behind the space: the name, the alignment, and how many bytes it has, where
/// it says so.
pub(super) fn variable<'a>(text: &mut Text<'a>, most: u32) -> Result<(&'a str, u32, Option<u32>), Refused> {
    let before = text.clone();
    let (mut align, mut size) = (None, 1);
    let name = loop {
        match text.word("a variable")? {
            ".align" => align = Some(text.number("an alignment", 1024)?.max(1)),
            word if word.starts_with('.') => {
                let ty = Type::named(&word[1..]).filter(|ty| ty.bits >= 8);
                size = ty.ok_or_else(|| before.refuse(format!("a variable of `{word}`")))?.bits / 8;
            }
            name => break name,
        }
    };
    let mut count = Some(1);
    if text.takes('[') {
        count = None;
        if !text.takes(']') {
            count = Some(text.number("a length", most)?);
            text.expect(']')?;
        }
    }
    text.expect(';')?;
    Ok((name, align.unwrap_or(size), count.map(|count| size.saturating_mul(count))))
}

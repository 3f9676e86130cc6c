//! Which line of Rust a line of PTX came from.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::site::{Place, Trace};

/// What reports know of a module.
#[derive(Debug)]
pub(crate) struct Source {
    name: &'static str,
    lines: Lines,
    /// Whether a place only wraps instructions, so that its caller says more.
    is_wrapper: fn(&Place) -> bool,
}

impl Source {
    /// Of a module of which only the text is known; `name` is what reports call it.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: interned(name), lines: Lines::default(), is_wrapper: |_| false }
    }

    /// The same module, with the lines of Rust that its own came from.
    pub(crate) fn with_lines(&self, lines: Lines, is_wrapper: fn(&Place) -> bool) -> Self {
        Self { name: self.name, lines, is_wrapper }
    }

    /// Where an instruction on a line is: in Rust, if that is known.
    pub(crate) fn place(&self, line: u32) -> Place {
        let mut frames = self.lines.of(line);
        let wrappers = frames.iter().take_while(|frame| (self.is_wrapper)(frame)).count();
        let wrappers = if wrappers < frames.len() { wrappers } else { 0 };
        let callers = frames.split_off((wrappers + 1).min(frames.len()));
        let trace = Trace { module: self.name, line, callers };
        match frames.pop() {
            Some(place) => Place { ptx: Some(Arc::new(trace)), ..place },
            None => Place { file: self.name, line, column: 0, ptx: Some(Arc::new(trace)) },
        }
    }
}

/// Names of modules, which reports keep: each is leaked once.
static NAMES: LazyLock<Mutex<Vec<&'static str>>> = LazyLock::new(Mutex::default);

/// The name for good.
fn interned(name: &str) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.iter().find(|known| **known == name) {
        return known;
    }
    let new: &'static str = Box::leak(name.into());
    names.push(new);
    new
}

/// The table that `cuda-builder` makes beside a PTX file: frames, and which of them each line of the PTX has.
///
/// A frame is a place in a source file, and the frame that called it there, where it was inlined.
#[derive(Debug, Default)]
pub struct Lines {
    frames: Vec<(Place, Option<u32>)>,
    /// By the first line: how many, and their frame.
    runs: Vec<(u32, u32, u32)>,
}

impl Lines {
    /// Reads a table.
    ///
    /// # Errors
    ///
    /// The number of the first line that is not as the builder writes it.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut lines = Self::default();
        let mut files = Vec::new();
        for (number, line) in (1usize..).zip(text.lines()) {
            lines.line(line, &mut files).ok_or(number)?;
        }
        Ok(lines)
    }

    fn line(&mut self, line: &str, files: &mut Vec<&'static str>) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        if kind == "sources" {
            // Of what it is: for who compares it with the PTX.
            return Some(());
        }
        if kind == "file" {
            files.push(interned(rest));
            return Some(());
        }
        let numbers: Vec<u32> = rest.split(' ').map(|word| word.parse().ok()).collect::<Option<_>>()?;
        match (kind, &numbers[..]) {
            ("frame", &[file, line, column, ref caller @ ..]) if caller.len() <= 1 => {
                let caller = caller.first().copied();
                caller.is_none_or(|caller| (caller as usize) < self.frames.len()).then_some(())?;
                let file = files.get(file as usize)?;
                self.frames.push((Place { file, line, column, ptx: None }, caller));
            }
            ("lines", &[first, count, frame]) if (frame as usize) < self.frames.len() => {
                let end = self.runs.last().map_or(0, |(first, count, _)| first + count);
                (first >= end).then_some(())?;
                self.runs.push((first, count, frame));
            }
            _ => return None,
        }
        Some(())
    }

    /// Where a line of the PTX came from, and who called it, the innermost first.
    #[must_use]
    pub fn of(&self, line: u32) -> Vec<Place> {
        let run =
            self.runs.partition_point(|&(first, ..)| first <= line).checked_sub(1).map(|at| self.runs[at]);
        let mut frame = run.filter(|&(first, count, _)| line < first + count).map(|(.., frame)| frame);
        std::iter::from_fn(|| {
            let (place, caller) = &self.frames[frame? as usize];
            frame = *caller;
            Some(place.clone())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "file a.rs\nfile b.rs\nframe 0 10 1\nframe 1 20 2 0\nlines 5 2 1\nlines 9 1 0\n";

    #[test]
    fn a_line_has_the_frames_of_its_run() {
        let lines = Lines::parse(TABLE).expect("a table");
        let place = |file, line, column| Place { file, line, column, ptx: None };
        let (a, b) = (|| place("a.rs", 10, 1), || place("b.rs", 20, 2));
        for (line, expected) in
            [(4, vec![]), (5, vec![b(), a()]), (6, vec![b(), a()]), (7, vec![]), (9, vec![a()]), (10, vec![])]
        {
            assert_eq!(lines.of(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused_by_its_line() {
        for (from, to, line) in [
            ("file b.rs", "folder b.rs", 2),
            ("frame 1 20 2 0", "frame 2 20 2 0", 4),
            ("frame 1 20 2 0", "frame 1 20 2 1", 4),
            ("frame 1 20 2 0", "frame 1 x 2 0", 4),
            ("lines 5 2 1", "lines 5 2 2", 5),
            ("lines 9 1 0", "lines 6 1 0", 6),
        ] {
            assert_eq!(Lines::parse(&TABLE.replace(from, to)).unwrap_err(), line, "{to}");
        }
    }
}

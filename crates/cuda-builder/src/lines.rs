//! Which line of Rust each line of the PTX came from, and through which calls it was inlined.
//!
//! LLVM writes `.loc` for the innermost place alone. But it prints its own machine instructions with all of
//! them (`-print-after` of the last pass), one for each line of PTX, in the same order; what it prints is
//! matched with the PTX entry by entry, and a number that differs is an error.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Context, Result, ensure};
use indexmap::IndexSet;

/// The last pass before PTX is written.
const LAST_PASS: &str = "stack-frame-layout";

/// What starts and ends the dump of a function.
pub(crate) const BEGIN: &str = "# Machine code for function ";
const END: &str = "# End machine code for function ";

/// A place in a source file, and who called it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frame {
    file: usize,
    line: u32,
    column: u32,
    caller: Option<usize>,
}

/// Each frame and each file once, callers before those that they call.
#[derive(Default)]
struct Frames {
    files: IndexSet<String>,
    frames: IndexSet<Frame>,
}

/// The table for PTX as it is shipped, from what the compiler printed.
///
/// # Errors
///
/// If the compiler did not print an entry, or another number of instructions than its PTX has.
pub(crate) fn table(ptx: &str, printed: &str) -> Result<String> {
    let mut frames = Frames::default();
    let functions = functions(printed);
    // First line, how many, frame.
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (entry, lines) in bodies(ptx) {
        let instructions = functions.get(entry).with_context(|| {
            format!("the compiler did not print entry `{entry}` after its last pass, {LAST_PASS}")
        })?;
        let (ptx, printed) = (lines.len(), instructions.len());
        ensure!(
            ptx == printed,
            "entry `{entry}` has {ptx} lines of instructions in the PTX, and the compiler printed {printed}"
        );
        for (line, instruction) in lines.into_iter().zip(instructions) {
            let Some(frame) = frames.of(instruction) else { continue };
            match runs.last_mut() {
                Some((first, count, same)) if *same == frame && *first + *count == line => *count += 1,
                _ => runs.push((line, 1, frame)),
            }
        }
    }
    let mut table = String::new();
    for file in &frames.files {
        writeln!(table, "file {file}")?;
    }
    for Frame { file, line, column, caller } in &frames.frames {
        let caller = caller.map(|caller| format!(" {caller}")).unwrap_or_default();
        writeln!(table, "frame {file} {line} {column}{caller}")?;
    }
    for (line, count, frame) in runs {
        writeln!(table, "lines {line} {count} {frame}")?;
    }
    Ok(table)
}

impl Frames {
    /// The innermost frame of an instruction; None if the compiler knows no place.
    fn of(&mut self, instruction: &str) -> Option<usize> {
        let (_, places) = instruction.split_once("debug-location ")?;
        let (_, places) = places.rsplit_once("; ")?;
        let mut caller = None;
        for place in places.trim_end_matches([' ', ']']).rsplit(" @[ ") {
            let mut parts = place.rsplitn(3, ':');
            let column = parts.next()?.parse().ok()?;
            let line = parts.next()?.parse().ok()?;
            let path = parts.next()?;
            // Where the standard library lies differs from machine to machine.
            let path = path.find("/library/").map_or(path, |start| &path[start + 1..]);
            let (file, _) = self.files.insert_full(path.to_owned());
            caller = Some(self.frames.insert_full(Frame { file, line, column, caller }).0);
        }
        caller
    }
}

/// By the name of the function, the instruction behind each line of its PTX.
fn functions(printed: &str) -> HashMap<&str, Vec<&str>> {
    let mut functions = HashMap::new();
    let mut open: Option<(&str, Vec<&str>)> = None;
    for line in printed.lines() {
        if let Some(rest) = line.strip_prefix(BEGIN) {
            open = Some((rest.split(':').next().unwrap_or(rest), Vec::new()));
        } else if line.starts_with(END) {
            functions.extend(open.take());
        } else if let (Some((_, instructions)), Some(instruction)) = (&mut open, line.strip_prefix("  ")) {
            instructions.extend(std::iter::repeat_n(instruction, lines_of(instruction)));
        }
    }
    functions
}

/// How many lines of PTX an instruction becomes.
fn lines_of(instruction: &str) -> usize {
    let is_none = ["successors:", "predecessors:", "liveins:", ";", "DBG_", "CFI_"]
        .iter()
        .any(|start| instruction.starts_with(start));
    if is_none || instruction.trim().is_empty() || instruction.contains(" = IMPLICIT_DEF") {
        return 0;
    }
    // `INLINEASM &"first line\0Asecond line" [sideeffect] …`
    let Some((_, text)) = instruction.split_once("INLINEASM &\"") else { return 1 };
    let text = text.split("\" [").next().unwrap_or(text);
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.split("\\0A").filter(is_code).count()
}

/// Each entry with the numbers of its lines that hold instructions, from 1.
fn bodies(ptx: &str) -> Vec<(&str, Vec<usize>)> {
    let mut bodies: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(ptx.lines()) {
        if let Some((_, after)) = line.split_once(".entry ") {
            let end = after.find('(').unwrap_or(after.len());
            bodies.push((&after[..end], Vec::new()));
        } else if line == "{" {
            is_open = true;
        } else if line == "}" {
            is_open = false;
        } else if let (true, Some((_, lines))) = (is_open, bodies.last_mut()) {
            let word = line.trim_start();
            if !word.starts_with(".reg") && !word.ends_with(':') {
                lines.push(number);
            }
        }
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.version 7.0
.visible .entry gemm(
	.param .align 8 .b8 gemm_param_0[200]
)
{
	.reg .b32 	%r<3>;
	mov.u32 	%r1, %tid.x;
$L__BB0_1:
	bar.sync 0;
	{ .reg .pred p; a p; b p; }
	add.s32 	%r2, %r1, 1;
	ret;
}
";

    const PRINTED: &str = "\
warning: something else

# *** IR Dump After Stack Frame Layout Analysis (stack-frame-layout) ***:
# Machine code for function gemm: NoPHIs, TracksLiveness

bb.0 (%ir-block.1):
  successors: %bb.1(0x40000000); %bb.1(50.00%)

  %1:b32 = INT_PTX_SREG_TID_x debug-location !14; \
    /usr/lib/rustlib/src/rust/library/core/src/nvptx/mod.rs:125:5 \
    @[ kernels/src/device/thread.rs:14:22 @[ kernels/src/table.rs:100:26 ] ]
  %7:b32 = IMPLICIT_DEF
  INLINEASM &\"// nothing\" [sideeffect] [attdialect], debug-location !15; kernels/src/table.rs:9:9

bb.1 (%ir-block.2):
; predecessors: %bb.0
  liveins: $nothing
  INLINEASM &\"bar.sync 0;\\0A\\09{ .reg .pred p; a p; b p; }\" [sideeffect] [mayload], \
    !267, debug-location !16; kernels/src/device/barrier.rs:16:14 @[ kernels/src/table.rs:100:26 ]
  %2:b32 = ADDi32ri %1:b32, 1, debug-location !17 :: (load (s64)); kernels/src/table.rs:101:1
  Return

# End machine code for function gemm.
";

    #[test]
    fn each_line_has_its_frames() {
        let expected = "\
file kernels/src/table.rs
file kernels/src/device/thread.rs
file library/core/src/nvptx/mod.rs
file kernels/src/device/barrier.rs
frame 0 100 26
frame 1 14 22 0
frame 2 125 5 1
frame 3 16 14 0
frame 0 101 1
lines 7 1 2
lines 9 2 3
lines 11 1 4
";
        assert_eq!(table(PTX, PRINTED).expect("they match"), expected);
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let missing = table(PTX, &PRINTED.replace("function gemm", "function shrink")).unwrap_err();
        assert!(missing.to_string().contains("did not print entry `gemm`"), "{missing}");
        let counts = table(&PTX.replace("\tret;\n", ""), PRINTED).unwrap_err();
        let expected = "entry `gemm` has 4 lines of instructions in the PTX, and the compiler printed 5";
        assert_eq!(counts.to_string(), expected);
    }
}

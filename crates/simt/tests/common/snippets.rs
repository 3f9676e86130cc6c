//! PTX snippets on the machine: a body, run by a CTA or by several, under several schedules.
#![allow(dead_code)] // Each test uses its part.

use fused_lora_simt::{
    Kind, Launch, Machine, Report, Schedule,
    ptx::{Module, Refused},
};

const HEAD: &str =
    ".version 8.6\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 memory[];\n";

/// The beginning of a body: the lane's number in `%lane`, shared memory at `%mem`, and what a snippet needs.
const BEGIN: &str = "
    .reg .pred %p<8>;
    .reg .b16 %h<16>;
    .reg .b32 %r<32>, %lane, %mem, %v;
    .reg .b64 %d<16>, %to, %at;
    .reg .f64 %f<8>;
    mov.u32 %lane, %tid.x;
    mov.u32 %mem, memory;
    ld.param.u64 %to, [to];
";

/// The end: what is in `%v` goes to the lane's word.
const END: &str = "
    mad.wide.u32 %at, %lane, 4, %to;
    st.global.u32 [%at], %v;
    ret;";

/// The text of a module with one entry, which takes an address; `module` stands before it.
fn text(module: &str, body: &str) -> String {
    format!("{HEAD}{module}\n.visible .entry test(\n\t.param .u64 to\n)\n{{{BEGIN}{body}{END}\n}}\n")
}

pub(crate) fn parse(module: &str, body: &str) -> Result<Module, Refused> {
    Module::parse("test.ptx", &text(module, body))
}

/// The line of a snippet's module that a part of its body begins in, from 1.
pub(crate) fn line_of(body: &str, part: &str) -> u32 {
    let text = text("", body);
    let at = text.find(part).expect("it is there");
    1 + text[..at].matches('\n').count() as u32
}

/// Runs a snippet on so many lanes under one schedule: the words that they leave.
pub(crate) fn run_on(lanes: u32, body: &str, schedule: &Schedule) -> Result<Vec<u32>, Report> {
    let module = parse("", body).unwrap_or_else(|refused| panic!("{refused}\n{body}"));
    let mut machine = Machine::new();
    let to = machine.buffer(4 * lanes as usize);
    let launch = module.launch(&module.entries()[0], &to.to_le_bytes(), 1, lanes, 16 * 1024);
    machine.run(&[launch], schedule)?;
    machine.read(to, lanes as usize)
}

/// What a warp leaves, the same under each of some schedules.
pub(crate) fn words(body: &str) -> Vec<u32> {
    words_on(32, body)
}

/// Likewise a CTA of so many lanes.
pub(crate) fn words_on(lanes: u32, body: &str) -> Vec<u32> {
    let mut results = Schedule::standard(9)
        .into_iter()
        .map(|schedule| run_on(lanes, body, &schedule).unwrap_or_else(|report| panic!("{report}\n{body}")));
    let first = results.next().expect("a schedule");
    assert!(results.all(|other| other == first), "{body}");
    first
}

/// Under each schedule a report of this kind.
pub(crate) fn fails_on(lanes: u32, body: &str, is_it: impl Fn(&Kind) -> bool) {
    for schedule in Schedule::standard(9) {
        match run_on(lanes, body, &schedule) {
            Ok(_) => panic!("no report, seed {}\n{body}", schedule.seed),
            Err(report) => assert!(is_it(&report.kind), "{report}\n{body}"),
        }
    }
}

/// A launch of a snippet that leaves a word for each lane of each CTA, `%v`, at 4 times `%place`.
pub(crate) fn launch(machine: &mut Machine, words: usize, body: &str) -> (Launch, u64) {
    let module = parse("", body).unwrap_or_else(|refused| panic!("{refused}\n{body}"));
    let to = machine.buffer(4 * words);
    (module.launch(&module.entries()[0], &to.to_le_bytes(), 1, 32, 16 * 1024), to)
}

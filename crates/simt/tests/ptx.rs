//! PTX text on the machine: what is read, what is refused, what runs.

mod common {
    pub(crate) mod snippets;
}

use std::{fs, path::Path, time::Instant};

use common::snippets::{line_of, run_on, words};

use fused_lora_simt::{
    Kind, Machine, Schedule,
    ptx::{Coverage, Missing, Module, Refused},
};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

const HEAD: &str =
    ".version 8.0\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 memory[];\n";

/// A module with one entry of this body, which takes an address.
fn module(body: &str) -> Result<Module, Refused> {
    let text =
        format!("{HEAD}.visible .entry test(\n\t.param .u64 to\n)\n.maxntid 128, 1, 1\n{{\n{body}\n}}\n");
    Module::parse("test.ptx", &text)
}

/// The line of the first of a body's.
const FIRST: u32 = 10;

#[test]
fn registers_branches_and_predicates() {
    // The sum of the numbers below the lane's, by a loop; lane 7 leaves 1000.
    let body = "
    mov.u32 %r1, %tid.x;
    mov.b32 %v, 0;
    mov.b32 %r2, 0;
    setp.eq.u32 %p1, %r1, 0;
    @%p1 bra $done;
$again:
    add.s32 %v, %v, %r2;
    add.s32 %r2, %r2, 1;
    setp.lt.u32 %p2, %r2, %r1;
    @%p2 bra $again;
$done:
    setp.ne.u32 %p1, %r1, 7;
    @!%p1 mov.u32 %v, 1000;";
    let expected: Vec<u32> = (0..32).map(|lane| if lane == 7 { 1000 } else { (0..lane).sum() }).collect();
    assert_eq!(words(body), expected);
}

#[test]
fn names_and_labels_belong_to_their_braces() {
    let block = |value: u32| {
        format!(
            "{{ .reg .pred p; .reg .b32 x; mov.b32 x, {value}; setp.eq.u32 p, x, 0;
            @p bra skip; add.u32 %v, %v, x; skip: }}"
        )
    };
    let body = format!("mov.b32 %v, 5;\n{}\n{}\n{}", block(0), block(30), block(7));
    assert_eq!(words(&body), [42; 32]);
}

#[test]
fn vectors_shared_memory_and_a_barrier() {
    // Lane i stores i and 2 i, packed and unpacked on the way, and reads what lane 31 - i stored.
    let body = "
    mov.u32 %r1, %tid.x;
    shl.b32 %r2, %r1, 1;
    cvt.u16.u32 %h1, %r1;
    cvt.u16.u32 %h2, %r2;
    mov.b32 %r3, {%h1, %h2};
    mov.u32 %r4, memory;
    shl.b32 %r5, %r1, 3;
    add.s32 %r5, %r5, %r4;
    st.shared.v2.u32 [%r5], {%r3, %r1};
    bar.sync 0;
    sub.s32 %r5, 31, %r1;
    shl.b32 %r5, %r5, 3;
    add.s32 %r5, %r5, %r4;
    ld.shared.v2.u32 {%r6, _}, [%r5+0];
    mov.b32 {%h1, %h2}, %r6;
    cvt.u32.u16 %r7, %h1;
    cvt.u32.u16 %v, %h2;
    mad.lo.s32 %v, %r7, 1000, %v;";
    let expected: Vec<u32> = (0..32).map(|lane| 1002 * (31 - lane)).collect();
    assert_eq!(words(body), expected);
}

/// Reports name the line of the text.
#[test]
fn a_report_names_the_line() {
    let body = "mov.u32 %r1, memory;\nld.shared.u32 %v, [%r1+8];";
    let report = run_on(32, body, &Schedule::random(0)).unwrap_err();
    assert!(matches!(report.kind, Kind::Poison { .. }), "{report}");
    let line = line_of(body, "ld.shared");
    assert_eq!((report.location.file, report.location.line), ("test.ptx", line));
    assert!(report.to_string().contains(&format!("test.ptx:{line}: ld.shared reads")), "{report}");
}

/// A compiler may copy bar.warp.sync to both sides of a branch, but nothing that is `.aligned`.
#[test]
fn lanes_of_a_warp_meet_at_one_aligned_instruction() {
    let body = |barrier: &str| {
        format!(
            "mov.u32 %v, %tid.x; setp.lt.u32 %p1, %v, 4; @%p1 bra $few; {barrier}; bra.uni $both;
            $few: {barrier}; $both:"
        )
    };
    assert_eq!(words(&body("bar.warp.sync 0xffffffff")), (0..32).collect::<Vec<_>>());
    for barrier in ["bar.sync 0", "barrier.cluster.arrive.release.aligned"] {
        let report = run_on(32, &body(barrier), &Schedule::random(0)).unwrap_err();
        assert!(matches!(report.kind, Kind::Divergence { .. }), "{report}");
    }
}

/// Accumulators belong to the tensor cores from wgmma to the wait that covers it.
#[test]
fn accumulators_in_flight_are_not_touched() {
    let body = |between: &str| {
        format!(
            "
    .reg .b32 %a<5>;
    .reg .b64 %d;
    mov.u32 %r1, %tid.x;
    shl.b32 %r1, %r1, 4;
    mov.u32 %r2, memory;
    add.s32 %r1, %r1, %r2;
    mov.b32 %v, 0;
    st.shared.v4.u32 [%r1], {{%v, %v, %v, %v}};
    st.shared.v4.u32 [%r1+2048], {{%v, %v, %v, %v}};
    fence.proxy.async.shared::cta;
    bar.sync 0;
    mov.b64 %d, 0xC000001000010040;
    mov.b32 %a1, 0f3F800000;
    mov.b32 %a2, 0f40000000;
    mov.b32 %a3, 0f40400000;
    mov.b32 %a4, 0f40800000;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%a1, %a2, %a3, %a4}}, %d, %d, 1, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
    {between}
    wgmma.wait_group.sync.aligned 0;
    mov.b32 %v, %a3;"
        )
    };
    let run = |between: &str| run_on(128, &body(between), &Schedule::random(0));
    assert_eq!(run("add.s32 %v, %r1, 1;").expect("another register"), [3f32.to_bits(); 128]);
    for between in ["mov.b32 %v, %a2;", "mov.b32 %a4, 0;", "add.rn.f32 %a1, %a1, %a1;"] {
        let report = run(between).expect_err(between);
        let text = report.to_string();
        let line = line_of(&body(between), between);
        assert!(text.contains("before a wait covers it") && report.location.line == line, "{text}");
    }
}

#[test]
fn what_is_not_known_is_refused_where_it_stands() {
    for (body, line, column, part) in [
        ("wat.u32 %r1, %r2;", 0, 1, "`wat.u32`"),
        ("ret;\n  mov.b32 %x, 1;", 1, 3, "`mov.b32`"),
        (".reg .b32 %r;\nmov.b32 %r, name;", 1, 1, "`name`"),
        ("bra $nowhere;", 0, 1, "`$nowhere`"),
        ("$a:\n$a:\nret;", 1, 1, "second label"),
        (".reg .b99 %r;", 0, 6, ".b99"),
        (".reg .b32 %r;\nadd.s32 %r, %r;", 1, 1, "2 operands"),
        (".reg .b32 %r;\nadd.s32 %r, %r, [%r];", 1, 1, "operand"),
        (".reg .b32 %r;\ncp.async.cg.shared.global [%r], [%r], 8, %r;", 1, 1, "other than 16"),
        (".reg .b32 %r;\nshfl.sync.turn.b32 %r, %r, 1, 31, 0xff;", 1, 1, "`shfl.sync.turn.b32`"),
        (
            ".reg .b32 %r;\nldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r, %r, %r}, [%r];",
            1,
            1,
            "does not know",
        ),
        (".reg .b32 %r;\nld.global.v4.u64 {%r, %r, %r, %r}, [%r];", 1, 1, "vectors"),
        (".reg .b32 %r;\natom.global.add.v2.u32 {%r, %r}, [%r], {%r, %r};", 1, 1, "does not know"),
        (".reg .f32 %f;\nadd.rna.f32 %f, %f, %f;", 1, 1, "does not know"),
        (".reg .b32 %r;\nbrx.idx %r, nowhere;", 1, 1, "`nowhere`"),
        (".reg .b32 %r;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r, %r}, [%r];", 1, 1, "does not know"),
        (".reg .b32 %r;\n@%q mov.b32 %r, 1;", 1, 2, "`%q`"),
        (".reg .b32 %r;\nadd.s32 %r, %r, 1", 2, 1, "`;` expected"),
        (".reg .b32 %r<70000>;", 0, 14, "up to"),
        ("{", 2, 1, "the text ends"),
        (".sreg .b32 %r;", 0, 1, "`.sreg`"),
    ] {
        let refused = module(body).err().unwrap_or_else(|| panic!("{body} is not refused"));
        assert_eq!((refused.line, refused.column), (FIRST + line, column), "{body}: {refused}");
        assert!(refused.to_string().contains(part), "{body}: {refused}");
    }
    let entry = |text: &str| Module::parse("test.ptx", text).unwrap_err().to_string();
    assert!(entry(".version 8.0\n.target sm_80\n.func f()").contains("the text ends"));
    assert!(entry("").contains(".target"));
    let of_hopper = HEAD.replace("sm_90a", "sm_80") + ".entry e() { wgmma.fence.sync.aligned; }";
    assert!(entry(&of_hopper).contains("the target of the module does not have it"));
}

/// The files that are shipped, and those of single instructions.
fn shipped() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/ptx");
    let files = ["sm_80", "sm_90a", "sm_80_instructions", "sm_90a_instructions"];
    files
        .map(|name| {
            (
                name.to_owned(),
                fs::read_to_string(folder.join(format!("{name}.ptx"))).expect("it is checked in"),
            )
        })
        .into()
}

#[test]
fn the_shipped_modules_are_known_and_lanes_are_small() {
    for (name, text) in shipped() {
        let start = Instant::now();
        let module = Module::parse(&name, &text).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        println!("{name}: read and decoded in {:?}", start.elapsed());
        for entry in module.entries() {
            // 132 CTAs of 384 lanes in 600 MB.
            assert!(
                8 * entry.slots() < 600_000_000 / (132 * 384),
                "{}: {} slots",
                entry.name(),
                entry.slots()
            );
        }
    }
}

/// No text panics or hangs: characters of real PTX go, come twice, are exchanged.
#[test]
fn mutated_text_is_read_or_refused() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let texts = shipped();
    let pieces: Vec<&str> =
        "{ } ; [ ] %r 0 - @ : . :: \" // é < > 99999999999999999999 .reg bra".split(' ').collect();
    let pieces = [pieces, vec!["\n"]].concat();
    let mut refused = 0;
    for round in 0..400 {
        let (name, text) = &texts[round % texts.len()];
        // The head, and some of the entries' lines: a whole file takes 30 ms.
        let lines: Vec<&str> = text.lines().collect();
        let start = rng.random_range(0..lines.len().saturating_sub(400).max(1));
        let mut mutated: Vec<char> = lines[..7]
            .iter()
            .chain(&lines[start..(start + 400).min(lines.len())])
            .flat_map(|line| line.chars().chain(['\n']))
            .collect();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..mutated.len());
            match rng.random_range(0..4) {
                0 => drop(mutated.remove(at)),
                1 => mutated.truncate(at),
                2 => {
                    let other = rng.random_range(0..mutated.len());
                    mutated.swap(at, other);
                }
                _ => {
                    let piece = pieces.choose(&mut rng).expect("there are some");
                    mutated.splice(at..at, piece.chars());
                }
            }
            if mutated.is_empty() {
                break;
            }
        }
        let mutated: String = mutated.into_iter().collect();
        match Module::parse(name, &mutated) {
            Ok(module) => module.entries().iter().for_each(|entry| assert!(entry.slots() < 1 << 16)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}

/// What was not tried is told by line: a branch's other side, a loop that never went round, a wait of one
/// parity alone.
#[test]
fn coverage_tells_what_no_run_has_tried() {
    let body = "\
    .reg .pred %p, %q;
    .reg .b32 %v, %bar;
    mov.u32 %v, %tid.x;
    mov.u32 %bar, memory;
    setp.ne.u32 %p, %v, 0;
    @%p bra $made;
    mbarrier.init.shared::cta.b64 [%bar], 32;
$made:
    bar.sync 0;
$again:
    mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p, [%bar], 1;
    setp.gt.u32 %q, %v, 31;
    @%q bra $again;
    @%q bra $never;
    bra.uni $end;
$never:
    mov.u32 %v, 7;
$end:
    ret;";
    let line = |text: &str| {
        let at = body.lines().position(|line| line.trim().starts_with(text)).expect("it is there");
        FIRST + at as u32
    };
    let module = module(body).unwrap_or_else(|refused| panic!("{refused}"));
    let entry = &module.entries()[0];
    let missing = |coverage: &Coverage| -> Vec<_> {
        let all = module.covered(entry, coverage);
        all.iter().filter_map(|covered| Some((covered.line, covered.missing?))).collect()
    };
    let nothing = missing(&Coverage::default());
    assert!(nothing.len() > 10 && nothing.iter().all(|(_, missing)| *missing == Missing::Execution));

    let mut machine = Machine::new();
    let to = machine.buffer(4 * 32);
    let launch = module.launch(entry, &to.to_le_bytes(), 1, 32, 1024);
    let stats = machine.run(&[launch], &Schedule::random(0)).unwrap_or_else(|report| panic!("{report}"));
    let wait = line("mbarrier.try_wait");
    assert_eq!(
        missing(&stats.coverage),
        [
            (wait, Missing::Parity(0)),
            (line("@%q bra $again"), Missing::Loop),
            (line("mov.u32 %v, 7"), Missing::Execution)
        ]
    );
    let vital: Vec<_> =
        module.covered(entry, &stats.coverage).iter().filter(|c| c.is_vital).map(|c| c.line).collect();
    assert!(vital.contains(&wait) && !vital.contains(&line("setp.gt")), "{vital:?}");
    assert_eq!(stats.mbarrier_phases.into_values().collect::<Vec<_>>(), [0]);
}

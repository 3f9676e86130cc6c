//! The command line, from outside.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Drawing, fixture, fixture_path, layer_fixture, layer_path};
use fused_lora_records::{Record, read};

const STEM: &str = "linear-1024x1024-cpu";

fn heatmap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heatmap")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Draws a file of records into a folder, and checks what every success has in common.
fn draw(data: &[&Path], out: &Path, more: &[&str]) -> (String, String) {
    let mut arguments = vec!["--out", text(out), "--data"];
    arguments.extend(data.iter().map(|path| text(path)));
    arguments.extend(more);
    let output = heatmap(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    (String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output))
}

#[test]
fn the_written_files_are_listed_on_stdout_and_nothing_else() {
    let layer_stem = "gpt2-medium-layer-cpu-adapter-h-adapter-l";
    let mut of_layer = layer_fixture();
    of_layer.retain(|record| !record.method.starts_with("lora"));
    for (path, rows, stem, expected) in [
        (fixture_path(), &[][..], STEM, fixture()),
        (layer_path(), &["--rows", "adapter-h,adapter-l"], layer_stem, of_layer),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (stdout, stderr) = draw(&[&path], folder.path(), rows);
        let files = ["svg", "png", "csv"].map(|extension| folder.path().join(format!("{stem}.{extension}")));
        let lines: Vec<&Path> = stdout.lines().map(Path::new).collect();
        assert_eq!(lines, files);
        assert_eq!(stderr, "", "no progress where no terminal is");
        let svg = fs::read_to_string(&files[0]).unwrap();
        assert_eq!(Drawing::parse(&svg).cells.len(), 144);
        assert_eq!(&fs::read(&files[1]).unwrap()[..8], b"\x89PNG\r\n\x1a\n");
        let sorted = |mut records: Vec<Record>| {
            records.sort_by_key(|record| (record.method.clone(), record.cell()));
            records
        };
        let written = read(&files[2..]).unwrap().records;
        assert!(written.iter().any(|record| ["base", "none"].contains(&record.method.as_str())));
        assert_eq!(sorted(written), sorted(expected), "the CSV holds every record drawn, and the base");
    }
}

#[test]
fn the_csv_draws_the_same_figure_again_in_any_metric() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    draw(&[&fixture_path()], &first, &[]);
    let csv = first.join(format!("{STEM}.csv"));
    draw(&[&csv], &second, &[]);
    for extension in ["svg", "png", "csv"] {
        let of = |folder: &Path| fs::read(folder.join(format!("{STEM}.{extension}"))).unwrap();
        assert!(of(&first) == of(&second), "{extension}");
    }
    for metric in ["time", "gflops", "over-floor", "over-limit"] {
        draw(&[&csv], &second, &["--metric", metric]);
        assert!(second.join(format!("{STEM}-{metric}.svg")).exists());
    }
}

#[test]
fn two_files_of_records_give_two_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.csv");
    let records = fs::read_to_string(fixture_path()).unwrap();
    let changed =
        records.replacen(",0.33,-0.17,", ",22.2,-0.17,", 1).replace(",22.2,-0.17,0.83,", ",22.2,20,25,");
    assert_ne!(records, changed);
    fs::write(&other, changed).unwrap();
    let pictures = [fixture_path(), other].map(|path| {
        let out = folder.path().join(path.file_stem().unwrap());
        draw(&[&path], &out, &[]);
        ["svg", "png"].map(|extension| fs::read(out.join(format!("{STEM}.{extension}"))).unwrap())
    });
    assert!(pictures[0][0] != pictures[1][0], "the SVGs are the same");
    assert!(pictures[0][1] != pictures[1][1], "the PNGs are the same");
}

#[test]
fn missing_cells_and_torn_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let torn = folder.path().join("torn.csv");
    let records = fs::read_to_string(fixture_path()).unwrap();
    fs::write(&torn, records.trim_end()).unwrap();
    let (_, stderr) = draw(&[&torn], &folder.path().join("out"), &[]);
    let lines: Vec<&str> = stderr.lines().collect();
    let warning = format!("warning: {}:164: the last line is cut off and was dropped", torn.display());
    assert_eq!(lines, [warning.as_str(), "missing: fused at seq512/batch32/r250"]);
}

#[test]
fn several_files_are_drawn_as_one_grid() {
    let folder = tempfile::tempdir().unwrap();
    let records = fs::read_to_string(fixture_path()).unwrap();
    let (frame, lines) = records.split_at(records.find("\nmade-up").unwrap() + 1);
    let halves = [0, 1].map(|half| {
        let path = folder.path().join(format!("{half}.csv"));
        let own: Vec<&str> = lines.lines().skip(half).step_by(2).collect();
        fs::write(&path, format!("{frame}{}\n", own.join("\n"))).unwrap();
        path
    });
    let (_, stderr) = draw(&[&halves[0], &halves[1]], &folder.path().join("out"), &[]);
    assert_eq!(stderr, "", "nothing is missing");
    let (_, stderr) = draw(&[&halves[0]], &folder.path().join("out"), &[]);
    assert!(stderr.lines().count() > 60 && stderr.lines().all(|line| line.starts_with("missing: ")));
}

#[test]
fn options_reach_the_figure() {
    let folder = tempfile::tempdir().unwrap();
    let drawing = |more: &[&str], stem: &str| {
        draw(&[&fixture_path()], folder.path(), more);
        Drawing::parse(&fs::read_to_string(folder.path().join(format!("{stem}.svg"))).unwrap())
    };
    let plain = drawing(&[], STEM);
    assert_eq!(plain.polygons.len(), 1);
    assert_eq!(drawing(&["--vmax", "auto"], STEM).polygons.len(), 0);
    assert_eq!(drawing(&["--vmax", "72.4"], STEM).polygons.len(), 1);
    let mako = drawing(&["--colormap", "mako"], STEM);
    assert_ne!(plain.cell(1, 1, 1, 2).1, mako.cell(1, 1, 1, 2).1);
    assert_eq!(drawing(&["--rows", "fused"], "linear-1024x1024-cpu-fused").rows.len(), 1);
}

/// Each mistake: its exit code, what stderr must name, and that nothing was written or changed.
#[test]
fn mistakes_are_named_and_leave_the_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = fixture_path();
    let records = fs::read_to_string(&good).unwrap();
    fs::write(path("text.csv"), "some text\n").unwrap();
    fs::write(path("empty.csv"), "").unwrap();
    fs::write(path("nan.csv"), records.replacen(",1683258.1,", ",NaN,", 1)).unwrap();
    fs::write(path("column.csv"), records.replacen(",simd,", ",smid,", 1)).unwrap();
    let out = path("out");
    fs::create_dir(&out).unwrap();
    let old = ["svg", "png", "csv"].map(|extension| out.join(format!("{STEM}.{extension}")));
    for file in &old {
        fs::write(file, "old").unwrap();
    }
    let (missing, text_csv, empty, nan, column) =
        (path("none.csv"), path("text.csv"), path("empty.csv"), path("nan.csv"), path("column.csv"));
    let under_a_file = path("text.csv/deeper");
    let (g, o) = (text(&good), text(&out));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--data", text(&missing), "--out", o], 1, "none.csv: cannot be read"),
        (&["--data", text(&text_csv), "--out", o], 1, "text.csv:1: not a file of records"),
        (&["--data", text(&empty), "--out", o], 1, "there are no records in"),
        (&["--data", text(&nan), "--out", o], 1, "nan.csv:4: time_ns = 'NaN': not a finite number"),
        (&["--data", text(&column), "--out", o], 1, "column.csv:2: unknown column 'smid'"),
        (&["--data", g, g, "--out", o], 1, "already, at"),
        (&["--data", g, "--out", text(&under_a_file)], 1, "cannot be written"),
        (&["--data", g, "--out", o, "--rows", "fused,gemm"], 1, "no record has method 'gemm'"),
        (&["--data", g, "--out", o, "--workload", "linear-4096x4096"], 1, "no record has workload"),
        (&["--data", g, "--out", o, "--device", "H100"], 1, "no record has device 'H100'; there are fixture"),
        (&["--data", g, "--out", o, "--workload", "linear-1x1"], 2, "linear-1024x1024, linear-4096x4096"),
        (&["--data", g, "--out", o, "--dtype", "bf16"], 1, "no record has dtype 'bf16'; there are f16"),
        (&["--data", g, "--out", o, "--adapters", "2"], 1, "no record has adapters '2'; there are 1"),
        (
            &["--data", g, "--out", o, "--metric", "speed"],
            2,
            "slowdown, time, gflops, over-floor, over-limit",
        ),
        (&["--data", g, "--out", o, "--colormap", "jet"], 2, "rocket"),
        (&["--data", g, "--out", o, "--publish"], 2, "--publish"),
        (&["--data", g, "--device", "x", "--mix-devices"], 2, "--mix-devices"),
        (&["--data", g, "--report", "--publish"], 2, "--report"),
        (&["--data", g, "--report", "--mix-devices"], 2, "--report"),
        (&["--data", "--out", o], 2, "--data"),
        (&["--data", g, "--out"], 2, "--out"),
        (&["stray"], 2, "stray"),
        (&["--report", "stray"], 2, "stray"),
        (&["--dat", g], 2, "--dat"),
    ];
    let values = [
        ("--vmax", &["0", "-5", "NaN", "inf", "", "lots"][..], "neither a number above 0"),
        ("--adapters", &["0", "two"], "not a whole number above 0"),
        ("--adapters", &["-1"], "'-1'"),
        ("--rows", &["", "fused,"], "a row has no name"),
        ("--rows", &["fused,fused"], "'fused' is twice among the rows"),
        ("--rows", &["a,b,c,d,e"], "at most 4 fit"),
    ];
    let mut cases: Vec<_> =
        cases.iter().map(|(arguments, code, says)| (arguments.to_vec(), *code, *says)).collect();
    for (option, texts, says) in values {
        cases.extend(texts.iter().map(|text| (vec![option, text], 2, says)));
    }
    for (arguments, code, says) in cases {
        let output = heatmap(&arguments);
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        for file in &old {
            assert_eq!(fs::read_to_string(file).unwrap(), "old", "{arguments:?}");
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "{arguments:?}: something was left behind");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let output = Command::new(env!("CARGO_BIN_EXE_heatmap"))
        .args(["--vmax", "0"])
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(!stderr(&output).contains('\u{1b}'));
}

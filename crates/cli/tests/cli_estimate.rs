//! `fused-lora estimate`: its table and its CSV, and what it refuses.

mod support;

use std::process::Output;

use support::command::{fused_lora, stderr};

/// As where there is no driver: a data sheet needs none.
fn estimate(args: &[&str]) -> Output {
    let mut command = fused_lora();
    command.arg("estimate").args(args).env("FUSED_LORA_LIBCUDA", "no-such-folder/libcuda.so.1");
    command.output().unwrap()
}

#[test]
fn a_wrong_command_line_lists_what_there_is() {
    for (args, part) in [
        (&[][..], "--gpu"),
        (&["--gpu", "voodoo2"], "h100, h200, a100, l4, rtx4090"),
        (&["--gpu", "h200", "--device", "0"], "cannot be used with"),
        (&["--gpu", "h200", "--workload", "linear-1x1"], "linear-1024x1024"),
        (&["--device", "cuda:0"], "--device"),
    ] {
        let output = estimate(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(output.stdout, b"", "{args:?}");
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
}

mod with_the_model {
    use super::*;
    use std::{fs, path::Path};

    fn stdout(args: &[&str]) -> String {
        let output = estimate(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The header first, then the values of each line by column.
    fn rows(csv: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
        let mut lines = csv.lines().skip(1);
        let columns: Vec<_> = lines.next().unwrap().split(',').collect();
        // No value but the quoted ones at the end has a comma in it, and those have none either.
        (columns, lines.map(|line| line.split(',').collect()).collect())
    }

    #[test]
    fn every_output_says_first_that_nothing_was_measured() {
        for gpu in ["h100", "h200", "a100", "l4", "rtx4090"] {
            for more in [&[][..], &["--csv"]] {
                let args = [&["--gpu", gpu, "--workload", "linear-1024x1024"], more].concat();
                let first = stdout(&args).lines().next().unwrap().to_owned();
                assert!(first.contains("estimate, not measured") && first.contains("NVIDIA"), "{first}");
            }
        }
    }

    #[test]
    fn the_csv_has_every_cell_with_slowdowns_that_follow_from_its_times() {
        let csv = stdout(&["--gpu", "h200", "--csv"]);
        let (columns, rows) = rows(&csv);
        assert_eq!(rows.len(), 3 * 72);
        let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
        for row in &rows {
            assert_eq!(row.len(), columns.len(), "{row:?}");
            let number = |name: &str| row[at(name)].parse::<f64>().unwrap();
            assert_eq!(number("m"), number("seq_len") * number("batch"));
            for set in ["optimistic", "pessimistic"] {
                let of = |name: &str| number(&format!("{set}_{name}"));
                let slowdown = of("fused_slowdown_pct");
                let by_times = 100.0 * (of("fused_us") / of("base_us") - 1.0);
                assert!((by_times - slowdown).abs() < 0.1, "{row:?}");
                assert!(slowdown >= 0.0 && (slowdown == 0.0) == (number("rank") == 0.0), "{row:?}");
            }
            assert!(number("optimistic_base_us") < number("pessimistic_base_us"), "{row:?}");
            assert!(number("optimistic_fused_us") < number("pessimistic_fused_us"), "{row:?}");
            assert!(row[at("fused_kernels")].contains("sm90_"), "{row:?}");
        }
        // One workload alone has the same lines.
        let alone = stdout(&["--gpu", "h200", "--csv", "--workload", "linear-4096x4096"]);
        let lines: Vec<_> = csv.lines().filter(|line| line.starts_with("linear-4096x4096,")).collect();
        assert_eq!(alone.lines().skip(2).collect::<Vec<_>>(), lines);
    }

    /// What stands in `figures/` is what the model says now. (A package of this crate alone has no such
    /// folder.)
    #[test]
    fn the_published_estimates_are_those_of_this_model() {
        let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../figures");
        if figures.is_dir() {
            let path = figures.join("estimates/h200.csv");
            let published = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let now = stdout(&["--gpu", "h200", "--csv"]);
            let line = now.lines().zip(published.lines()).position(|(now, then)| now != then);
            let mend = "`cargo run -p fused-lora-cli -- estimate --gpu h200 --csv` writes it";
            assert!(
                now == published,
                "{} differs from line {:?} on: {mend}",
                path.display(),
                line.map(|i| i + 1)
            );
        }
    }

    #[test]
    fn the_table_has_a_part_for_each_workload() {
        let text =
            stdout(&["--gpu", "a100", "--workload", "linear-1024x1024", "--workload", "gpt2-medium-linears"]);
        for part in ["\nlinear-1024x1024\n", "\ngpt2-medium-linears\n", "µs", "floor_pad", " 16384  250 "] {
            assert!(text.contains(part), "{part:?}: {text}");
        }
        assert!(!text.contains("linear-4096x4096") && !text.contains("sm90_"));
        // Two lines of head, and for each workload an empty line, its name, the columns, the cells.
        assert_eq!(text.lines().count(), 2 + 2 * (3 + 72));
    }

    #[test]
    fn the_goals_for_hopper_end_the_table_of_all_workloads() {
        let goals = "the goals for Hopper by the pessimistic constants, asked | expected";
        assert!(stdout(&["--gpu", "h200"]).contains(goals));
        // Other kernels, and not all of the cells.
        assert!(!stdout(&["--gpu", "l4"]).contains("goals"));
        assert!(!stdout(&["--gpu", "h200", "--workload", "linear-1024x1024"]).contains("goals"));
        assert!(!stdout(&["--gpu", "h200", "--csv"]).contains("goals"));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let output = estimate(&["--device", "0"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
        assert!(stderr(&output).starts_with("error: no CUDA driver: "), "{}", stderr(&output));
    }
}

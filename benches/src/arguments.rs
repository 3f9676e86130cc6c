//! What Criterion was asked to do.
//!
//! Criterion keeps its filter and mode to itself, yet the budget needs to know what remains to be measured
//! and the records whether this is a measurement at all. So its flags are read a second time, after Criterion
//! has refused what is wrong with them. Criterion's own filter still decides what runs.

use std::time::Duration;

use regex::Regex;

/// Criterion's flags that take a value: what follows them is no filter.
const WITH_VALUE: [&str; 19] = [
    "--color",
    "--save-baseline",
    "--baseline",
    "--baseline-lenient",
    "--load-baseline",
    "--format",
    "--profile-time",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
    "--plotting-backend",
    "--output-format",
    "-c",
    "-s",
    "-b",
];

/// What happens to each id that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is measured and recorded.
    Measure,
    /// It is for Criterion only: a list, a profile, a quick look, or samples loaded from a baseline.
    NoRecord,
    /// It is run once and checked.
    Test,
}

/// Criterion's command line, as far as the harness acts on it.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What happens to each id.
    pub mode: Mode,
    /// `--sample-size`
    pub sample_size: Option<usize>,
    /// `--measurement-time`: how long an id takes.
    pub measurement_time: Option<Duration>,
    filter: Regex,
}

impl Arguments {
    /// Reads the process's arguments. To be called after Criterion has read them.
    pub fn from_env() -> Arguments {
        Arguments::read(std::env::args().skip(1))
    }

    fn read(arguments: impl IntoIterator<Item = String>) -> Arguments {
        let mut flags = Vec::new();
        let mut pattern = None;
        let mut arguments = arguments.into_iter();
        let mut only_positional = false;
        while let Some(argument) = arguments.next() {
            if only_positional || !argument.starts_with('-') {
                pattern = Some(argument);
            } else if argument == "--" {
                only_positional = true;
            } else if let Some((flag, value)) = argument.split_once('=') {
                flags.push((flag.to_owned(), value.to_owned()));
            } else {
                let takes_value = WITH_VALUE.contains(&argument.as_str());
                let value = if takes_value { arguments.next() } else { None };
                flags.push((argument, value.unwrap_or_default()));
            }
        }
        let value = |name: &str| flags.iter().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str());
        let flag = |name| value(name).is_some();
        let seconds = |name| Duration::try_from_secs_f64(value(name)?.parse().ok()?).ok();

        // `cargo bench` passes --bench, `cargo test --benches` does not.
        let mode = if flag("--list") {
            Mode::NoRecord
        } else if flag("--test") || !flag("--bench") {
            Mode::Test
        } else if ["--profile-time", "--quick", "--load-baseline"].into_iter().any(flag) {
            Mode::NoRecord
        } else {
            Mode::Measure
        };
        let pattern = match pattern {
            // Of nothing.
            _ if flag("--ignored") => "[a&&b]".to_owned(),
            Some(name) if flag("--exact") => format!("^{}$", regex::escape(&name)),
            pattern => pattern.unwrap_or_default(),
        };
        Arguments {
            mode,
            sample_size: value("--sample-size").and_then(|text| text.parse().ok()),
            measurement_time: seconds("--measurement-time"),
            filter: Regex::new(&pattern).expect("Criterion has parsed it already"),
        }
    }

    /// Whether Criterion will run this id.
    pub fn selects(&self, id: &str) -> bool {
        self.filter.is_match(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "linear-1024x1024/seq128/batch1/r10/fused";

    fn read(line: &str) -> Arguments {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_mode_is_criterions() {
        for (line, mode) in [
            ("--bench", Mode::Measure),
            ("--bench --save-baseline x seq128", Mode::Measure),
            ("--bench --baseline=x", Mode::Measure),
            ("--bench --test", Mode::Test),
            ("--bench --test --profile-time 3", Mode::Test),
            ("", Mode::Test),
            ("seq128", Mode::Test),
            ("--bench --list", Mode::NoRecord),
            ("--list --test", Mode::NoRecord),
            ("--bench --profile-time 5", Mode::NoRecord),
            ("--bench --quick", Mode::NoRecord),
            ("--bench --load-baseline x", Mode::NoRecord),
        ] {
            assert_eq!(read(line).mode, mode, "{line:?}");
        }
    }

    #[test]
    fn the_filter_is_found_among_the_flags() {
        for line in [
            "--bench",
            "--bench seq128",
            "seq128/batch1/r10/ --bench",
            "--bench --save-baseline nothing seq128",
            "--bench -s nothing -b nothing seq128",
            "--bench --sample-size 20 batch1/r(10|100)/fused$",
            "--bench --color=never seq128",
            "--bench --noplot seq128",
            "--bench --exact linear-1024x1024/seq128/batch1/r10/fused",
            "--bench -- seq128",
        ] {
            assert!(read(line).selects(ID), "{line:?}");
        }
        for line in [
            "--bench seq256",
            "--bench --save-baseline seq128 seq256",
            "--bench --exact seq128",
            "--bench --ignored",
            "--bench batch1/r10$",
            "--bench --measurement-time 1 r100",
        ] {
            assert!(!read(line).selects(ID), "{line:?}");
        }
    }

    #[test]
    fn what_the_user_fixes_stays_fixed() {
        let arguments = read("--bench --sample-size=30 --measurement-time 2");
        assert_eq!(arguments.sample_size, Some(30));
        assert_eq!(arguments.measurement_time, Some(Duration::from_secs(2)));
        let arguments = read("--bench --warm-up-time 2.5");
        assert_eq!((arguments.sample_size, arguments.measurement_time), (None, None));
    }
}

//! `fused-lora info`, and what holds for every command: exit codes, streams, colour.

mod support;

use fused_lora::cpu::Simd;
use serde_json::Value;
use support::command::{fused_lora, stderr};

fn stdout(args: &[&str], variable: Option<(&str, &str)>) -> String {
    let output = fused_lora().args(args).envs(variable).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    assert_eq!(stderr(&output), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn says_what_the_library_finds() {
    let text = stdout(&["info"], None);
    let names: Vec<_> = Simd::available().into_iter().map(Simd::name).collect();
    assert!(text.contains(&format!("\nsimd: {}\nsimd-chosen-by: best available\n", names[0])), "{text}");
    assert!(text.contains(&format!("\nsimd-available: {}\n", names.join(", "))), "{text}");
    assert!(text.lines().all(|line| line.contains(": ")), "{text}");
}

#[test]
fn the_environment_decides() {
    for (args, variable) in
        [(&["info"][..], Some(("FUSED_LORA_SIMD", "portable"))), (&["info", "--simd", "portable"], None)]
    {
        let text = stdout(args, variable);
        let line = "\nsimd: portable\nsimd-chosen-by: --simd or FUSED_LORA_SIMD\n";
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(stdout(&["info"], Some(("FUSED_LORA_SIMD", ""))), stdout(&["info"], None));
    let text = stdout(&["info"], Some(("RAYON_NUM_THREADS", "3")));
    assert!(text.contains("\nthreads: 3\n"), "{text}");
}

#[test]
fn json_holds_the_same() {
    let object: Value = serde_json::from_str(&stdout(&["info", "--json"], None)).unwrap();
    let text = stdout(&["info"], None);
    let keys: Vec<_> = text.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(object.as_object().unwrap().len(), keys.len());
    assert!(keys.iter().all(|key| object.get(key).is_some()), "{object}");
    assert_eq!(object["simd"], Simd::available()[0].name());
}

#[test]
fn a_wrong_level_fails_and_lists_the_levels() {
    for args in [&["info"][..], &["info", "--json"]] {
        let output = fused_lora().args(args).env("FUSED_LORA_SIMD", "sse2").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
        let error = stderr(&output);
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
        for part in ["sse2", "avx512, avx2, portable", "FUSED_LORA_SIMD"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for (args, part) in [
        (&[][..], "Usage"),
        (&["apply"], "--base"),
        (&["info", "--yaml"], "--yaml"),
        (&["measure"], "measure"),
        (&["apply", "--strategy", "fusd"], "base, unfused, fused"),
    ] {
        let output = fused_lora().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(output.stdout, b"", "{args:?}");
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    for args in [&["--help"][..], &["info"], &["measure"]] {
        let output = fused_lora().args(args).output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{args:?}");
    }
}

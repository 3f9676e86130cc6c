//! The whole road on real input: measure two cells, write them as records, draw the picture from the file.

use std::time::{Duration, Instant};

use fused_lora::{DType, cpu::Simd};
use fused_lora_benches::{
    linear::{Linears, ours, this_library},
    machine::Machine,
    measure::{Budget, measure},
    method::Suite as _,
    processor::Processor,
    records::RecordTemplate,
    revision::Revision,
    settings::Settings,
    size::Size,
};
use fused_lora_heatmap::{Colormap, Figure, Metric, Query, Source, Vmax, draw_svg, png_from_svg};
use fused_lora_records::{Record, RunFile};
use half::f16;

const SIZE: Size = Size { seq_len: 128, batch: 1 };
const RANKS: [usize; 2] = [0, 250];

#[test]
fn from_the_kernels_to_the_picture() {
    let simd = Simd::detect().unwrap();
    let template = RecordTemplate {
        run: "road".to_owned(),
        settings: Settings::default(),
        machine: Machine::cpu(simd, DType::F16),
        revision: Revision::named("unknown"),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("road.csv");
    let mut file = RunFile::create(&path).unwrap();

    // Base, unfused and fused in the same rounds, checked first.
    let ours = vec![this_library("", ours)];
    let mut cpu = Linears::new(Processor::<f16>::new(simd, 0), &template.settings, ours, None);
    let mut methods = cpu.methods(SIZE);
    methods.retain(|method| RANKS.contains(&method.rank));
    let budget = Budget {
        started: Instant::now(),
        total: Duration::from_secs(20),
        reserved: Duration::ZERO,
        least: 7,
        fixed: Some(Duration::from_micros(1)),
        threads: 2,
        distance: 0,
    };
    let report = measure(&mut cpu, vec![(SIZE, methods)], &budget, &mut |suite, outcome| {
        Ok(file.put(&template.records(suite, outcome, None))?)
    });
    assert!(report.unwrap().dropped.is_empty());
    let records: Vec<Record> = file.records().to_vec();
    assert_eq!(records.len(), 1 + RANKS.len() * 2);
    assert!(records.iter().all(|record| record.limit_ns.is_some() && record.samples > 0));
    drop(file);

    let source = Source::load(std::slice::from_ref(&path), folder.path()).unwrap();
    assert_eq!(source.records, records, "the file holds what was measured");
    assert!(source.warnings.is_empty());
    let selection = Query::default().select(source.records, Metric::Slowdown).unwrap();
    let figure =
        Figure::new(&selection, Metric::Slowdown, Vmax::default_of(Metric::Slowdown), Colormap::Rocket);
    assert_eq!(figure.missing().len(), 2 * (72 - RANKS.len()), "the other cells are missing, by name");

    let svg = draw_svg(&figure).unwrap();
    for record in records.iter().filter(|record| record.method != "base") {
        let number = format!("{:.1}", record.slowdown_pct.unwrap()).replace("-0.0", "0.0");
        // A text is a line of its own; coordinates stand within tags.
        let drawn = svg.lines().any(|line| line == number);
        assert!(drawn, "{} at {} is not in the figure: {number}", record.method, record.cell());
    }
    assert!(svg.contains(&template.machine.device), "the footer names the device");
    assert!(png_from_svg(&svg).unwrap().starts_with(b"\x89PNG"));
}

//! The whole road on real input: measure two cells, write them as records, draw the picture from the file.

use fused_lora::{Strategy, cpu::Simd};
use fused_lora_benches::{
    calls::{Calls, Rounds},
    fingerprint::Fingerprint,
    host::Host,
    machine::Machine,
    method::{Method, Ours},
    model::Model,
    records::{Subject, Template, flops},
    revision::Revision,
    settings::{Cache, Settings},
    stage::Stage,
};
use fused_lora_heatmap::{Colormap, Figure, Metric, Query, Source, Vmax, draw_svg, png_from_svg};
use fused_lora_records::{Cell, Record, RecordFile};

const CELLS: [Cell; 2] =
    [Cell { seq_len: 128, batch: 1, rank: 0 }, Cell { seq_len: 128, batch: 1, rank: 250 }];

/// Base, unfused and fused in the same rounds, checked first.
fn measure(template: &Template, model: &mut Model<Simd>, cell: Cell) -> Rounds {
    let mut stage = Stage::rehearsal(template.settings.workload, cell.m(), Cache::Cold);
    let slots = stage.furnish(model, cell.rank, Strategy::ALL.len()).unwrap();
    let mut methods: Vec<Box<dyn Method>> = Vec::new();
    for strategy in Strategy::ALL {
        let mut method = Ours::new(strategy.name(), strategy, slots, cell.rank);
        stage.check(&mut method, slots, cell.rank).unwrap();
        methods.push(Box::new(method));
    }
    let mut lineup = stage.line_up(methods);
    let mut calls = Calls::default();
    for rounds in [1, 7] {
        calls.push((0..rounds).map(|_| lineup.round().unwrap()).collect());
    }
    calls.measured(1).unwrap()
}

#[test]
fn from_the_kernels_to_the_picture() {
    let simd = Simd::detect().unwrap();
    let template = Template {
        run: "road".to_owned(),
        settings: Settings::default(),
        machine: Machine::cpu(Host::detect(), simd),
        revision: Revision { commit: "unknown".to_owned(), dirty: false, changes: Fingerprint::new() },
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("road.csv");
    let mut file = RecordFile::create(&path).unwrap();
    let mut model = Model::new(template.settings.workload, simd);
    let mut records: Vec<Record> = Vec::new();
    for cell in CELLS {
        let rounds = measure(&template, &mut model, cell);
        for (place, strategy) in Strategy::ALL.into_iter().enumerate() {
            let base = (strategy != Strategy::Base).then_some(0);
            if base.is_none() && cell.rank > 0 {
                continue;
            }
            let flops = flops(&template.settings, cell, strategy);
            let subject = Subject { cell, method: strategy.name(), place, base, flops, ours: true };
            let record = template.record(&subject, &rounds);
            file.append(&record).unwrap();
            records.push(record);
        }
    }
    drop(file);

    let source = Source::load(std::slice::from_ref(&path), folder.path()).unwrap();
    assert_eq!(source.records, records, "the file holds what was measured");
    assert!(source.warnings.is_empty());
    let selection = Query::default().select(source.records, Metric::Slowdown).unwrap();
    let figure =
        Figure::new(&selection, Metric::Slowdown, Vmax::default_of(Metric::Slowdown), Colormap::Rocket);
    assert_eq!(figure.missing().len(), 2 * (72 - CELLS.len()), "the other cells are missing, by name");

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

//! The reader's page: what is in the file, and what a browser makes of it.

mod browser;
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use browser::Browser;
use clap::ValueEnum as _;
use common::{Drawing, fixture, layer_fixture};
use fused_lora_heatmap::{Colormap, Figure, Metric, Query, Report, Vmax, draw_svg};
use fused_lora_records::{Cell, Clock, Record, to_csv};
use serde_json::Value;

/// What the tests put on the page: both workloads, LoRA on q and v beside the layer's rows, and the linear
/// layer measured on a second device, with another state of the caches, with another backend, in another type
/// and with several adapters.
fn records() -> Vec<Record> {
    let mut records = layer_fixture();
    let mut qv = layer_fixture();
    qv.retain(|record| record.method == "lora-fused");
    for record in &mut qv {
        record.method = "lora-fused-qv".into();
        record.slowdown_pct = record.slowdown_pct.map(|slowdown| slowdown / 4.0);
        (record.slowdown_lo_pct, record.slowdown_hi_pct) = (None, None);
    }
    let again = |change: fn(&mut Record)| {
        let mut records = fixture();
        records.iter_mut().for_each(change);
        records
    };
    let second = again(|record| {
        record.device = "another <device> & \"co\"</script>".into();
        record.slowdown_pct = record.slowdown_pct.map(|slowdown| slowdown + 1.0);
        record.slowdown_hi_pct = None;
    });
    let warm = again(|record| record.cache = "warm-w".into());
    let cuda = again(|record| {
        record.backend = "cuda".into();
        record.device = "GPU".into();
    });
    let bf16 = again(|record| {
        record.dtype = "bf16".into();
        record.slowdown_pct = record.slowdown_pct.map(|slowdown| slowdown + 2.0);
        (record.slowdown_lo_pct, record.slowdown_hi_pct, record.limit_ns) = (None, None, None);
        (record.time_lo_ns, record.time_hi_ns) = (None, None);
    });
    let mut adapters = again(|record| {
        record.adapters = 16;
        record.slowdown_pct = record.slowdown_pct.map(|slowdown| slowdown + 3.0);
        (record.repeated, record.ratio_by) = (7, Clock::Cpu);
    });
    adapters.retain(|record| record.method != "base");
    records.extend([qv, fixture(), second, warm, cuda, bf16, adapters].concat());
    // Not measured.
    records.retain(|record| (record.method.as_str(), record.cell()) != ("adapter-l", MISSING));
    records
}

const MISSING: Cell = Cell { seq_len: 512, batch: 32, rank: 250 };

fn report() -> Report {
    Report {
        query: Query::default(),
        metric: Metric::Slowdown,
        vmax: Vmax::default_of(Metric::Slowdown),
        colormap: Colormap::Rocket,
    }
}

/// A file of the target folder, which is kept.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn write(name: &str, html: &str) -> PathBuf {
    let path = kept(name);
    fs::write(&path, html).unwrap();
    path
}

/// The figures as text: from each `<svg` to its end.
fn figures(html: &str) -> Vec<&str> {
    let parts = html.split("<svg ").skip(1);
    let starts = parts.map(|part| part.as_ptr() as usize - html.as_ptr() as usize - "<svg ".len());
    starts.map(|start| &html[start..start + html[start..].find("</svg>").unwrap() + "</svg>".len()]).collect()
}

fn data(html: &str) -> Value {
    let (_, data) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

fn find<'a>(records: &'a [Record], workload: &str, method: &str, cell: Cell) -> &'a Record {
    let is_it = |record: &&Record| {
        record.workload == workload
            && record.method == method
            && record.cell() == cell
            && record.cache == "cold"
            && (record.dtype.as_str(), record.adapters) == ("f16", 1)
    };
    records.iter().find(is_it).unwrap()
}

#[test]
fn every_figure_and_every_record_is_in_the_file() {
    let records = records();
    let html = report().html(records.clone()).unwrap();
    let data = data(&html);
    let sheets = data["sheets"].as_array().unwrap();
    // The layer with its rows and with LoRA on q and v; the linear layer, and five others of it.
    assert_eq!(sheets.len(), 2 + 6);
    // No limit was recorded of bf16.
    assert_eq!(figures(&html).len(), sheets.len() * Metric::value_variants().len() - 1);
    let on_page: usize = sheets.iter().map(|sheet| sheet["records"].as_array().unwrap().len()).sum();
    // The bare layer's are on both of the layer's sheets, those of the base on the sheet of several adapters
    // too.
    assert_eq!(on_page, records.len() + 18 + 18);
    assert_eq!(html.matches(" hidden>\n<svg").count(), figures(&html).len() - 1, "one figure is visible");
    for record in &records {
        let has_it = |sheet: &&Value| {
            let of_sheet = [&record.workload, &record.backend, &record.device, &record.cache, &record.dtype];
            ["workload", "backend", "device", "cache", "dtype"]
                .iter()
                .zip(of_sheet)
                .all(|(name, is)| sheet[*name] == **is)
                && sheet["adapters"] == record.adapters
                && sheet["records"].as_array().unwrap().iter().any(|found| {
                    found["method"] == record.method
                        && found["time_ns"] == record.time_ns
                        && found["slowdown_hi_pct"].as_f64() == record.slowdown_hi_pct
                        && found["floor_pad_pct"].as_f64() == record.floor_pad_pct
                        && found["limit_ns"].as_f64() == record.limit_ns
                        && found["samples"] == record.samples
                        && found["repeated"] == record.repeated
                        && found["ratio_by"] == record.ratio_by.to_string()
                })
        };
        assert!(sheets.iter().any(|sheet| has_it(&sheet)), "{record:?}");
    }
}

#[test]
fn the_figures_are_those_that_are_drawn_alone() {
    let mut records = layer_fixture();
    records.retain(|record| record.batch != 16);
    let html = report().html(records.clone()).unwrap();
    assert!(
        html.contains(".view polyline { fill: none; }") && html.contains(".view text { font-family: DejaVu")
    );
    let figures = figures(&html);
    assert_eq!(figures.len(), Metric::value_variants().len());
    for (&metric, svg) in Metric::value_variants().iter().zip(figures) {
        let selection = Query::default().select(records.clone(), metric).unwrap();
        let figure = Figure::new(&selection, metric, Vmax::default_of(metric), Colormap::Rocket);
        let alone = draw_svg(&figure).unwrap();
        let alone = roxmltree::Document::parse(&alone).unwrap();
        let here = roxmltree::Document::parse(svg).unwrap();
        // Attributes that hold anyway may be left out.
        let is_implied = |element: &str, name: &str, value: &str| match name {
            "font-family" => true,
            "opacity" | "stroke-width" => value == "1",
            "stroke" => value == "none",
            "fill" => element == "polyline" && value == "none",
            _ => false,
        };
        let elements = |document: &roxmltree::Document<'_>| -> Vec<String> {
            let drawn = |node: &roxmltree::Node<'_, '_>| {
                node.is_element()
                    && !["svg", "g"].contains(&node.tag_name().name())
                    && node.attribute("class") != Some("cell")
            };
            let text = |node: roxmltree::Node<'_, '_>| {
                let element = node.tag_name().name();
                let kept = node.attributes().filter(|a| !is_implied(element, a.name(), a.value()));
                let attributes: Vec<String> = kept.map(|a| format!("{}={}", a.name(), a.value())).collect();
                format!("{element} {attributes:?} {:?}", node.text())
            };
            document.descendants().filter(drawn).map(text).collect()
        };
        assert!(elements(&alone).len() > 600);
        assert_eq!(elements(&alone), elements(&here), "{metric:?}");
        // An area over each cell, which knows what it is over.
        let drawing = Drawing::parse(&draw_svg(&figure).unwrap());
        let areas: Vec<_> =
            here.descendants().filter(|node| node.attribute("class") == Some("cell")).collect();
        assert_eq!(areas.len(), drawing.cells.len());
        let (rect, _) = drawing.cell(1, 2, 3, 2);
        let place = [
            ("data-method", "adapter-l"),
            ("data-seq-len", "512"),
            ("data-batch", "8"),
            ("data-rank", "100"),
        ];
        let is_there = |area: &&roxmltree::Node<'_, '_>| {
            place.iter().all(|(name, value)| area.attribute(*name) == Some(*value))
        };
        let area: Vec<_> = areas.iter().filter(is_there).collect();
        assert_eq!(area.len(), 1);
        let number = |name: &str| area[0].attribute(name).unwrap().parse::<i32>().unwrap();
        assert_eq!(
            (number("x"), number("y"), number("width"), number("height")),
            (rect.x, rect.y, rect.width, rect.height)
        );
    }
}

#[test]
fn no_text_of_a_record_can_leave_its_place() {
    let mut records = fixture();
    let hostile =
        "</script><script>alert(1)</script><img src=\"https://example.com/x\"> opacity=\"1\" &amp; '";
    for record in &mut records {
        record.device = hostile.into();
        record.workload = hostile.into();
        if record.method == "fused" {
            record.method = hostile.into();
        }
    }
    let html = report().html(records).unwrap();
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("</script>").count(), 2);
    assert!(!html.contains("<img"));
    assert_eq!(data(&html)["sheets"][0]["device"], hostile);
    for svg in figures(&html) {
        roxmltree::Document::parse(svg).unwrap();
    }
}

#[test]
fn options_choose_what_is_shown_first() {
    let first = |report: Report| {
        let html = report.html(records()).unwrap();
        let number =
            html.split("<figure ").skip(1).position(|figure| !figure.contains(" hidden>\n")).unwrap();
        let data = data(&html);
        let view = data["views"][number].clone();
        let sheet = data["sheets"][view["sheet"].as_u64().unwrap() as usize].clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let columns = ["workload", "backend", "device", "cache", "dtype"].map(|name| text(&sheet[name]));
        (
            text(&view["metric"]),
            format!("{}; {}", columns.join("; "), sheet["adapters"]),
            sheet["rows"].clone(),
            data["sheets"].as_array().unwrap().len(),
        )
    };
    let (metric, columns, rows, sheets) = first(report());
    assert_eq!(
        (metric.as_str(), columns.as_str()),
        ("slowdown", "gpt2-medium-layer; cpu; fixture; cold; f16; 1")
    );
    assert_eq!((rows.as_array().unwrap().len(), sheets), (4, 8));
    let query = Query {
        workload: Some("linear-1024x1024".into()),
        backend: Some("cpu".into()),
        device: Some("fixture".into()),
        cache: Some("warm-w".into()),
        ..Query::default()
    };
    let [bf16, adapters] = [(Some("bf16".to_owned()), None), (None, Some(16))]
        .map(|(dtype, adapters)| Query { cache: None, dtype, adapters, ..query.clone() });
    let (_, columns, ..) = first(Report { query: bf16, ..report() });
    assert_eq!(columns, "linear-1024x1024; cpu; fixture; cold; bf16; 1");
    let (_, columns, ..) = first(Report { query: adapters, ..report() });
    assert_eq!(columns, "linear-1024x1024; cpu; fixture; cold; f16; 16");
    let (metric, columns, ..) = first(Report { query, metric: Metric::OverFloor, ..report() });
    assert_eq!(
        (metric.as_str(), columns.as_str()),
        ("over-floor", "linear-1024x1024; cpu; fixture; warm-w; f16; 1")
    );
    let query = Query { rows: vec!["lora-fused-qv".into(), "adapter-l".into()], ..Query::default() };
    let (_, columns, rows, sheets) = first(Report { query, ..report() });
    assert_eq!(columns, "gpt2-medium-layer; cpu; fixture; cold; f16; 1");
    assert_eq!((rows, sheets), (serde_json::json!(["lora-fused-qv", "adapter-l"]), 1));
    // The lightest colour is that of the metric that is shown first.
    let colours = |vmax: Vmax| figures(&Report { vmax, ..report() }.html(fixture()).unwrap()).join("").len();
    assert_ne!(colours(Vmax::Fixed(35.0)), colours(Vmax::Fixed(1000.0)));
    let query = Query { device: Some("H100".into()), ..Query::default() };
    let error = Report { query, ..report() }.html(records()).unwrap_err().to_string();
    assert!(error.starts_with("no record has device 'H100'; there are "), "{error}");
}

#[test]
fn what_the_plain_figure_does_not_show_is_on_the_page() {
    // Peers alone, of which nobody counted operations.
    let mut peers = fixture();
    for record in &mut peers {
        record.method = format!("peer/{}", record.method);
        record.gflops = None;
    }
    let html = report().html(peers.clone()).unwrap();
    let data = data(&html);
    assert_eq!(data["sheets"][0]["rows"], serde_json::json!(["peer/base", "peer/fused", "peer/unfused"]));
    assert_eq!(figures(&html).len(), Metric::value_variants().len() - 1);
    let visible = html.split("<figure ").skip(1).filter(|figure| !figure.contains(" hidden>\n")).count();
    assert_eq!(visible, 1);
    let error = Report { metric: Metric::Gflops, ..report() }.html(peers).unwrap_err();
    assert!(matches!(error, fused_lora_heatmap::Error::NothingToDraw(_)), "{error}");
    // The bare layer has no slow-down, but it has a time, if that is what is asked for.
    let query = Query { rows: vec!["none".into()], ..Query::default() };
    let html = Report { query, metric: Metric::Time, ..report() }.html(layer_fixture()).unwrap();
    assert!(html.contains("data-method=\"none\""));
    assert!(report().html(Vec::new()).is_err());
}

#[test]
fn the_command_writes_one_small_file() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("records.csv");
    fs::write(&csv, to_csv([layer_fixture(), fixture()].concat().iter()).unwrap()).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heatmap"));
        command
            .arg("--report")
            .arg("--data")
            .arg(&csv)
            .arg("--out")
            .arg(folder.path().join("out"))
            .args(more);
        command.output().unwrap()
    };
    let output = run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = folder.path().join("out/report.html");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", path.display()));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let html = fs::read_to_string(&path).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.len() < 1_200_000, "{} bytes", html.len());
    let output = run(&["--metric", "time", "--backend", "cuda"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "error: no record has backend 'cuda'; there are cpu\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), html, "the page from before is still there");
}

/// One cell of the visible figure.
fn cell(method: &str, Cell { seq_len, batch, rank }: Cell) -> String {
    format!(
        ".cell[data-method=\"{method}\"][data-seq-len=\"{seq_len}\"][data-batch=\"{batch}\"]\
         [data-rank=\"{rank}\"]"
    )
}

fn option(name: &str, value: &str) -> String {
    format!("label:has(input[name={name}][value=\"{}\"])", value.replace('"', "\\\""))
}

/// The heading of the tooltip, and its facts by name.
fn tip(browser: &mut Browser) -> (String, Vec<(String, String)>) {
    let facts = browser
        .eval("[...document.querySelectorAll('#tip dt')].map((e) => [e.innerText, e.nextSibling.innerText])");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let facts = facts.as_array().unwrap().iter().map(|fact| (text(&fact[0]), text(&fact[1]))).collect();
    (browser.text("#tip strong") + "; " + &browser.text("#tip p"), facts)
}

fn fact<'a>(facts: &'a [(String, String)], name: &str) -> &'a str {
    facts.iter().find(|fact| fact.0 == name).map_or("", |fact| &fact.1)
}

/// What the page must say of a record.
fn check_facts(facts: &[(String, String)], record: &Record) {
    let number = |value: f64, decimals: usize| format!("{value:.decimals$}").replace('-', "−");
    let (unit, name) = if record.time_ns < 1e9 { (1e6, "ms") } else { (1e9, "s") };
    let time = |ns: f64| number(ns / unit, 3);
    let bounds = record.time_lo_ns.zip(record.time_hi_ns);
    let bounds = bounds.map(|(lo, hi)| format!(" (95 %: {} to {})", time(lo), time(hi)));
    let expected = format!("{} {name}{}", time(record.time_ns), bounds.unwrap_or_default());
    assert_eq!(fact(facts, "Time"), expected);
    let percent = |value: f64| number(value, 2);
    let slowdown = record.slowdown_pct.unwrap();
    let bounds = record.slowdown_lo_pct.zip(record.slowdown_hi_pct);
    let bounds = bounds.map(|(lo, hi)| format!(" (95 %: {} to {})", percent(lo), percent(hi)));
    assert_eq!(fact(facts, "Slow-down"), format!("{} %{}", percent(slowdown), bounds.unwrap_or_default()));
    let (floor, padded) = (record.floor_pct.unwrap(), record.floor_pad_pct.unwrap());
    assert_eq!(fact(facts, "Floor"), format!("{} % (padded: {})", percent(floor), percent(padded)));
    assert_eq!(fact(facts, "Over the floor"), format!("{} points", percent(slowdown - floor)));
    assert_eq!(fact(facts, "Throughput"), format!("{} GFLOP/s", number(record.gflops.unwrap(), 1)));
    let limit = record.limit_ns.map(|ns| {
        let (unit, name) = if ns < 1e9 { (1e6, "ms") } else { (1e9, "s") };
        format!("{} {name}", number(ns / unit, 3))
    });
    assert_eq!(fact(facts, "Limit"), limit.unwrap_or_default());
    assert_eq!(fact(facts, "Samples"), format!("{} (repeated: {})", record.samples, record.repeated));
    assert_eq!(fact(facts, "Ratio by"), format!("{} times", record.ratio_by));
    assert_eq!(fact(facts, "Device"), format!("{} ({})", record.device, record.backend));
    assert_eq!(fact(facts, "Measured"), format!("{}, commit unknown", record.measured_at.date()));
}

/// What the colour bar and the footer of the visible figure say, and whether it is the only one.
fn visible(browser: &mut Browser) -> String {
    let figures =
        browser.eval("[...document.querySelectorAll('.view')].filter((e) => e.checkVisibility()).length");
    assert_eq!(figures, 1);
    let texts = "[...document.querySelectorAll('.view:not([hidden]) text')].map((e) => e.textContent)";
    browser.eval(&format!("{texts}.join('\\n')")).as_str().unwrap().to_owned()
}

/// Switches to a value, and returns the words of the figure, which must say these things.
fn switch(browser: &mut Browser, name: &str, value: &str, says: &[&str]) -> String {
    browser.click(&option(name, value));
    let words = visible(browser);
    for part in says {
        assert!(words.contains(part), "{name} = {value}: '{part}' is not in {words}");
    }
    words
}

/// Points at a cell and holds its tooltip to the record of it, changed.
fn hold(browser: &mut Browser, record: &Record, change: impl FnOnce(&mut Record)) {
    browser.hover(&cell(&record.method, record.cell()));
    let mut record = record.clone();
    change(&mut record);
    check_facts(&tip(browser).1, &record);
}

#[test]
fn in_a_browser_cells_tell_their_numbers_and_switches_switch() {
    let Some(mut browser) = Browser::start(1366, 900) else { return };
    let records = records();
    let path = write("report.html", &report().html(records.clone()).unwrap());
    browser.open(&path);
    assert_eq!(browser.eval("document.title"), "What an adapter costs");
    let words = visible(&mut browser);
    assert!(words.contains("slow-down vs r = 0 (%)") && words.contains("Adapterᴴ r"), "{words}");
    browser.screenshot(&kept("report.png"), true);

    // Hover: each of several cells its own numbers; a hatched one none.
    assert_eq!(browser.text("#tip"), "");
    let at = |seq_len, batch, rank| Cell { seq_len, batch, rank };
    for (method, at) in [
        ("adapter-h", at(128, 1, 0)),
        ("adapter-h", at(128, 1, 250)),
        ("lora-unfused", at(256, 8, 100)),
        ("lora-fused", at(512, 32, 10)),
        ("lora-fused", at(512, 1, 250)),
    ] {
        hold(&mut browser, find(&records, "gpt2-medium-layer", method, at), |_| ());
        let (heading, _) = tip(&mut browser);
        let tokens = at.seq_len * at.batch;
        assert_eq!(
            heading,
            format!(
                "{method}, r = {}; Seq Len {} · Batch Size {} · {tokens} tokens",
                at.rank, at.seq_len, at.batch
            )
        );
        let inside = browser.eval(
            "(() => { const t = document.getElementById('tip').getBoundingClientRect();
                const f = document.getElementById('figures').getBoundingClientRect();
                return t.left >= f.left && t.right <= f.right && t.top >= f.top && t.bottom <= f.bottom
                    && t.top >= 0 && t.bottom <= window.innerHeight; })()",
        );
        assert_eq!(inside, true, "the tooltip of {method} at {at} stays in the figure and in the window");
    }
    browser.hover(&cell("adapter-h", at(128, 2, 100)));
    browser.screenshot(&kept("report-hover.png"), false);
    browser.hover(&cell("adapter-l", MISSING));
    assert_eq!(tip(&mut browser).1, []);
    assert!(browser.text("#tip").ends_with("not measured"));
    browser.move_to(2.0, 2.0);
    assert_eq!(browser.text("#tip"), "", "gone with the mouse");

    // Keyboard: one tabulator stop in the figure, arrows from there.
    browser.eval(&format!(
        "document.querySelector('.view:not([hidden]) {}').focus()",
        cell("adapter-h", at(128, 1, 0)).replace('\'', "\"")
    ));
    for key in [
        "ArrowRight",
        "ArrowDown",
        "ArrowDown",
        "ArrowRight",
        "ArrowLeft",
        "ArrowUp",
        "ArrowLeft",
        "ArrowLeft",
    ] {
        browser.press(key);
    }
    // From batch 2, r = 10 to batch 1, and no further.
    let (heading, facts) = tip(&mut browser);
    assert_eq!(heading, "adapter-h, r = 10; Seq Len 128 · Batch Size 1 · 128 tokens");
    check_facts(&facts, find(&records, "gpt2-medium-layer", "adapter-h", at(128, 1, 10)));
    let stops = browser.eval("document.querySelectorAll('.view:not([hidden]) .cell[tabindex=\"0\"]').length");
    assert_eq!(stops, 1);
    let label = browser.eval("document.activeElement.getAttribute('aria-label')");
    assert!(label.as_str().unwrap().contains("adapter-h, r = 10; Seq Len 128"), "{label}");
    browser.press("Escape");
    assert_eq!(browser.text("#tip"), "");

    // Touch.
    browser.tap(&cell("lora-fused", at(256, 4, 250)));
    browser.wait("!document.getElementById('tip').hidden");
    check_facts(&tip(&mut browser).1, find(&records, "gpt2-medium-layer", "lora-fused", at(256, 4, 250)));

    // Each switch. What is not switched stays, as far as it was measured.
    for (metric, says) in [
        ("time", "time of a forward pass (ms)"),
        ("gflops", "useful GFLOP/s"),
        ("over-floor", "slow-down over the floor (points)"),
        ("slowdown", "slow-down vs r = 0 (%)"),
    ] {
        switch(&mut browser, "metric", metric, &[says, "Adapterᴴ r"]);
    }
    switch(&mut browser, "rows", "lora-fused-qv", &["LoRA fused (q, v) r"]);
    let of_layer = find(&records, "gpt2-medium-layer", "lora-fused-qv", at(512, 1, 100));
    hold(&mut browser, of_layer, |_| ());
    switch(&mut browser, "metric", "gflops", &[]);
    let offered = |browser: &mut Browser, name: &str| {
        let values =
            format!("[...document.querySelectorAll('input[name={name}]')].map((e) => e.value).join()");
        browser.eval(&values).as_str().unwrap().to_owned()
    };
    // The layer was measured on one device: there is nothing to choose.
    assert_eq!(offered(&mut browser, "device"), "");
    assert_eq!(offered(&mut browser, "workload"), "gpt2-medium-layer,linear-1024x1024");
    switch(&mut browser, "workload", "linear-1024x1024", &["useful GFLOP/s", "linear-1024x1024"]);
    assert_eq!(
        (offered(&mut browser, "rows"), offered(&mut browser, "backend")),
        (String::new(), "cpu,cuda".into())
    );
    let another = "another <device> & \"co\"</script>";
    switch(&mut browser, "device", another, &["another <device>", "useful GFLOP/s"]);
    let measured = find(&records, "linear-1024x1024", "fused", at(128, 16, 100));
    assert_ne!(measured.device, another);
    let slowdown = measured.slowdown_pct.unwrap();
    hold(&mut browser, measured, |record| {
        record.device = another.into();
        (record.slowdown_pct, record.slowdown_hi_pct) = (Some(slowdown + 1.0), None);
    });
    let words = switch(&mut browser, "device", "fixture", &["· f16 ·"]);
    assert!(!words.contains("adapters"), "{words}");
    assert_eq!(
        (offered(&mut browser, "dtype"), offered(&mut browser, "adapters")),
        ("bf16,f16".into(), "1,16".into())
    );
    switch(&mut browser, "adapters", "16", &["· f16 · 16 adapters ·", "useful GFLOP/s"]);
    hold(&mut browser, measured, |record| {
        (record.slowdown_pct, record.repeated, record.ratio_by) = (Some(slowdown + 3.0), 7, Clock::Cpu);
    });
    let words = switch(&mut browser, "dtype", "bf16", &["· bf16 ·"]);
    assert!(!words.contains("adapters"), "{words}");
    assert_eq!(offered(&mut browser, "adapters"), "", "of bf16 there is one number");
    hold(&mut browser, measured, |record| {
        (record.slowdown_pct, record.limit_ns) = (Some(slowdown + 2.0), None);
        (record.slowdown_lo_pct, record.slowdown_hi_pct) = (None, None);
        (record.time_lo_ns, record.time_hi_ns) = (None, None);
    });
    switch(&mut browser, "dtype", "f16", &[]);
    switch(&mut browser, "cache", "warm-w", &["warm W"]);
    switch(&mut browser, "backend", "cuda", &["cuda", "GPU", "useful GFLOP/s"]);
    browser.screenshot(&kept("report-switched.png"), true);

    // The table, to read and to copy.
    browser.click("#numbers summary");
    let rows = browser.eval("document.querySelectorAll('#numbers tbody tr').length");
    assert_eq!(rows, 18 + 144);
    let line = browser.text("#numbers tbody tr:nth-child(19)");
    assert!(
        line.starts_with("unfused\t128\t1\t0\t1.683 ms\t1.666 to 1.700\t0.33\t−0.17 to 0.83\t0.00\t"),
        "{line}"
    );
    assert!(line.ends_with("\t159.5\t1.342 ms\t30\t0\twall"), "{line}");

    let pdf = browser.print();
    assert!(pdf.starts_with(b"%PDF"));
    fs::write(kept("report.pdf"), pdf).unwrap();
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.requests(), [format!("file://{}", path.display())]);
}

/// The checks above can fail: a page that complains and asks for something is found out.
#[test]
fn in_a_browser_complaints_and_requests_are_seen() {
    let Some(mut browser) = Browser::start(800, 600) else { return };
    let html = report().html(fixture()).unwrap();
    let with = |script: &str| html.replacen("\"use strict\";", &format!("\"use strict\"; {script};"), 1);
    for (name, script) in [
        ("console", "console.error('wrong')"),
        ("throw", "setTimeout(() => { throw new Error('wrong'); })"),
        // The policy of the page forbids it, and says so.
        ("policy", "fetch('https://example.com/wrong').catch(() => {})"),
    ] {
        browser.open(&write(&format!("report-{name}.html"), &with(script)));
        browser.wait("document.readyState === 'complete'");
        let complaints = browser.complaints();
        assert!(complaints.iter().any(|complaint| complaint.contains("wrong")), "{name}: {complaints:?}");
    }
    // Without the policy there would be a request.
    let open = with("new Image().src = 'other.png'")
        .replace("default-src 'none'", "default-src *")
        .replace("img-src data:", "img-src *");
    browser.open(&write("report-request.html", &open));
    assert!(browser.requests().iter().any(|url| url.ends_with("/other.png")), "{:?}", browser.requests());
}

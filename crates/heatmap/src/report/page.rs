//! The HTML around the figures.

use std::fmt::Write as _;

use fused_lora_records::Record;
use serde::Serialize;

use super::sheet::Sheet;
use super::view::View;
use crate::text::FAMILIES;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    sheets: Vec<SheetData<'a>>,
    views: Vec<ViewData<'a>>,
}

/// A sheet's columns that all of its records share, and its records.
#[derive(Serialize)]
struct SheetData<'a> {
    workload: &'a str,
    backend: &'a str,
    device: &'a str,
    cache: &'a str,
    dtype: &'a str,
    adapters: usize,
    rows: Vec<&'a str>,
    records: Vec<RecordData<'a>>,
}

#[derive(Serialize)]
struct ViewData<'a> {
    sheet: usize,
    metric: &'a str,
}

/// A record's other columns, under their names in the CSV.
#[derive(Serialize)]
struct RecordData<'a> {
    method: &'a str,
    seq_len: usize,
    batch: usize,
    rank: usize,
    time_ns: f64,
    time_lo_ns: Option<f64>,
    time_hi_ns: Option<f64>,
    slowdown_pct: Option<f64>,
    slowdown_lo_pct: Option<f64>,
    slowdown_hi_pct: Option<f64>,
    floor_pct: Option<f64>,
    floor_pad_pct: Option<f64>,
    limit_ns: Option<f64>,
    gflops: Option<f64>,
    samples: usize,
    repeated: usize,
    ratio_by: String,
    commit: &'a str,
    dirty: bool,
    measured_at: String,
}

impl<'a> RecordData<'a> {
    fn new(record: &'a Record) -> RecordData<'a> {
        RecordData {
            method: &record.method,
            seq_len: record.seq_len,
            batch: record.batch,
            rank: record.rank,
            time_ns: record.time_ns,
            time_lo_ns: record.time_lo_ns,
            time_hi_ns: record.time_hi_ns,
            slowdown_pct: record.slowdown_pct,
            slowdown_lo_pct: record.slowdown_lo_pct,
            slowdown_hi_pct: record.slowdown_hi_pct,
            floor_pct: record.floor_pct,
            floor_pad_pct: record.floor_pad_pct,
            limit_ns: record.limit_ns,
            gflops: record.gflops,
            samples: record.samples,
            repeated: record.repeated,
            ratio_by: record.ratio_by.to_string(),
            commit: &record.commit,
            dirty: record.dirty,
            measured_at: record.measured_at.to_string(),
        }
    }
}

/// The page. The figure with the number `first` is visible without any script.
pub(super) fn html(sheets: &[Sheet], views: &[View], first: usize) -> String {
    let mut figures = String::new();
    for (number, View { svg, .. }) in views.iter().enumerate() {
        let hidden = if number == first { "" } else { " hidden" };
        write!(figures, "<figure class=\"view\" id=\"view-{number}\"{hidden}>\n{svg}\n</figure>\n")
            .expect("writing to a String cannot fail");
    }
    let data = data(sheets, views);
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>What an adapter costs</title>
<link rel="icon" href="data:,">
<style>
{STYLE}.view text {{ font-family: {FAMILIES}; }}
</style>
</head>
<body>
<main>
<header>
<h1>What an adapter costs</h1>
<p>Each cell is one forward pass, measured: a panel per sequence length, batch size to the right, rank r downwards;
the darker, the smaller the number, and r = 0 shows the noise. The <em>floor</em> is what the adapter’s arithmetic
alone costs at the speed of the layer without it. Point at a cell, tap it, or move with the arrow keys to see what was
measured.</p>
</header>
<form id="switches" aria-label="What is shown"></form>
<noscript><p>Without a script this page shows its first figure alone.</p></noscript>
<div id="figures">
{figures}<div id="tip" role="status" hidden></div>
</div>
<details id="numbers"><summary>All numbers of this figure</summary><div class="wide"><table></table></div></details>
</main>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#
    )
}

fn data(sheets: &[Sheet], views: &[View]) -> String {
    let views = views.iter().map(|view| ViewData { sheet: view.sheet, metric: view.metric.name() });
    let data = Data { sheets: sheets.iter().map(sheet_data).collect(), views: views.collect() };
    let json = serde_json::to_string(&data).expect("structs of texts and finite numbers are JSON");
    // No text may end the script element that it stands in.
    json.replace('<', "\\u003c")
}

fn sheet_data(sheet: &Sheet) -> SheetData<'_> {
    let selection = sheet.selection();
    SheetData {
        workload: &selection.workload,
        backend: &selection.backend,
        device: &sheet.device,
        cache: &selection.cache,
        dtype: &selection.dtype,
        adapters: selection.adapters,
        rows: selection.rows.iter().map(|row| row.method.as_str()).collect(),
        records: selection.base.iter().chain(selection.drawn()).map(RecordData::new).collect(),
    }
}

/// A text as the value of an attribute in double quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

//! The HTML around the figures.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::sheet::Sheet;
use super::view::View;
use crate::select::Selection;
use crate::text::FAMILIES;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Columns that a sheet has once, or that the page does not show.
const LEFT_OUT: [&str; 13] = [
    "run",
    "workload",
    "backend",
    "device",
    "threads",
    "simd",
    "driver",
    "clock_mhz",
    "cache",
    "dtype",
    "d_in",
    "d_out",
    "adapters",
];

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
<p>Each cell is one forward pass, measured: a panel per sequence length, batch size to the right, rank r
downwards; the darker, the smaller the number, and r = 0 shows the noise. The <em>floor</em> is what the
adapter’s arithmetic alone costs at the speed of the layer without it. Point at a cell, tap it, or move with
the arrow keys to see what was measured.</p>
</header>
<form id="switches" aria-label="What is shown"></form>
<noscript><p>Without a script this page shows its first figure alone.</p></noscript>
<div id="figures">
{figures}<div id="tip" role="status" hidden></div>
</div>
<details id="numbers"><summary>All numbers of this figure</summary>
<div class="wide"><table></table></div></details>
</main>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#
    )
}

/// What the script reads: each sheet with its records, whose columns have their names in the CSV.
fn data(sheets: &[Sheet], views: &[View]) -> String {
    let views = views.iter().map(|view| json!({ "sheet": view.sheet, "metric": view.metric.name() }));
    let data = json!({
        "sheets": sheets.iter().map(sheet_data).collect::<Vec<_>>(),
        "views": views.collect::<Vec<_>>(),
    });
    // No text may end the script element that it stands in.
    data.to_string().replace('<', "\\u003c")
}

fn sheet_data(sheet: &Sheet) -> Value {
    let Selection { rows, base, workload, backend, cache, dtype, adapters, .. } = sheet.selection();
    let records = base.iter().chain(sheet.selection().drawn()).map(|record| {
        let mut columns = json!(record);
        if let Value::Object(columns) = &mut columns {
            columns.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
        }
        columns
    });
    json!({
        "workload": workload,
        "backend": backend,
        "device": sheet.device,
        "cache": cache,
        "dtype": dtype,
        "adapters": adapters,
        "rows": rows.iter().map(|row| &row.method).collect::<Vec<_>>(),
        "records": records.collect::<Vec<_>>(),
    })
}

//! What the tests of the figure share: the made-up grid, and an SVG taken apart.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use fused_lora_heatmap::{Colormap, Figure, Metric, Query, Selection, Vmax, draw_svg};
use fused_lora_records::{BATCHES, Cell, RANKS, Record, SEQ_LENS, grid, read};

pub(crate) fn fixture_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/made-up-linear-1024x1024.csv")
}

pub(crate) fn layer_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/made-up-gpt2-medium-layer.csv")
}

/// The whole made-up grid.
pub(crate) fn fixture() -> Vec<Record> {
    records(&fixture_path())
}

/// The whole made-up grid of a transformer layer.
pub(crate) fn layer_fixture() -> Vec<Record> {
    records(&layer_path())
}

fn records(path: &Path) -> Vec<Record> {
    let found = read(&[path.to_owned()]).unwrap();
    assert_eq!(found.warnings, []);
    found.records
}

/// The query of these rows; without any, of the usual ones.
pub(crate) fn query(rows: &[&str]) -> Query {
    Query { rows: rows.iter().map(|row| (*row).to_owned()).collect(), ..Query::default() }
}

pub(crate) fn select(rows: &[&str], records: Vec<Record>) -> Selection {
    query(rows).select(records, Metric::Slowdown).unwrap()
}

/// The figure of these rows in its usual colours.
pub(crate) fn figure(rows: &[&str], records: Vec<Record>) -> Figure {
    Figure::new(&select(rows, records), Metric::Slowdown, Vmax::Fixed(35.0), Colormap::Rocket)
}

pub(crate) fn draw(rows: &[&str], records: Vec<Record>) -> Drawing {
    Drawing::of(&figure(rows, records))
}

/// How a slow-down is written into its cell.
pub(crate) fn written(value: f64) -> String {
    let number = format!("{value:.1}");
    if number == "-0.0" { "0.0".to_owned() } else { number }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rect {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

impl Rect {
    pub(crate) fn centre(&self) -> (i32, i32) {
        (self.x + self.width / 2, self.y + self.height / 2)
    }

    pub(crate) fn holds(&self, (x, y): (i32, i32)) -> bool {
        (self.x..=self.x + self.width).contains(&x) && (self.y..=self.y + self.height).contains(&y)
    }
}

impl Text {
    /// Left, top, right and bottom, where a character is so many times its size wide.
    pub(crate) fn extent(&self, width: f64) -> [f64; 4] {
        let (length, half) = (width * self.size * self.text.chars().count() as f64, 0.4 * self.size);
        let (x, y) = (f64::from(self.at.0), f64::from(self.at.1));
        let before = match self.anchor.as_str() {
            "start" => 0.0,
            "middle" => length / 2.0,
            _ => length,
        };
        if self.upwards {
            [x - half, y + before - length, x + half, y + before]
        } else {
            [x - before, y - half, x - before + length, y + half]
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Where the text's middle is, whichever way it is set.
    pub(crate) at: (i32, i32),
    pub(crate) anchor: String,
    pub(crate) fill: String,
    pub(crate) size: f64,
    pub(crate) upwards: bool,
}

/// An SVG, taken apart without any knowledge of the figure's layout: the cells are what there is most of.
pub(crate) struct Drawing {
    pub(crate) size: (u32, u32),
    pub(crate) families: BTreeSet<String>,
    pub(crate) texts: Vec<Text>,
    pub(crate) polygons: Vec<String>,
    /// Of each polygon its corners.
    pub(crate) corners: Vec<Vec<(i32, i32)>>,
    pub(crate) polylines: Vec<Vec<(i32, i32)>>,
    /// Of each polyline its colour and width.
    pub(crate) strokes: Vec<(String, i32)>,
    /// Each circle's centre, radius and fill.
    pub(crate) circles: Vec<((i32, i32), i32, String)>,
    /// Left edges of the columns of cells, in groups that stand close together.
    pub(crate) columns: Vec<Vec<i32>>,
    /// Top edges of the rows of cells, likewise.
    pub(crate) rows: Vec<Vec<i32>>,
    /// Each cell's place and fill.
    pub(crate) cells: Vec<(Rect, String)>,
}

impl Drawing {
    pub(crate) fn of(figure: &Figure) -> Drawing {
        Drawing::parse(&draw_svg(figure).unwrap())
    }

    pub(crate) fn parse(svg: &str) -> Drawing {
        let document = roxmltree::Document::parse(svg).unwrap();
        let root = document.root_element();
        assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
        let size = (root.attribute("width").unwrap(), root.attribute("height").unwrap());
        assert_eq!(root.attribute("viewBox").unwrap(), format!("0 0 {} {}", size.0, size.1));
        let of = |tag: &'static str| {
            document.descendants().filter(move |node| node.is_element() && node.tag_name().name() == tag)
        };
        let rects: Vec<(Rect, String)> = of("rect").map(rect).collect();
        let mut counts: HashMap<(i32, i32), usize> = HashMap::new();
        for (rect, _) in &rects {
            // Marks at axes are smaller than any cell.
            if rect.width.min(rect.height) > 10 {
                *counts.entry((rect.width, rect.height)).or_default() += 1;
            }
        }
        let (&(width, height), _) = counts.iter().max_by_key(|(_, count)| **count).unwrap();
        let is_cell = |(rect, _): &(Rect, String)| (rect.width, rect.height) == (width, height);
        let cells: Vec<(Rect, String)> = rects.into_iter().filter(is_cell).collect();
        Drawing {
            size: (size.0.parse().unwrap(), size.1.parse().unwrap()),
            families: of("text").map(|node| node.attribute("font-family").unwrap().to_owned()).collect(),
            texts: of("text").map(text).collect(),
            corners: of("polygon").map(points).collect(),
            polygons: of("polygon").map(|node| node.attribute("fill").unwrap().to_owned()).collect(),
            polylines: of("polyline").map(points).collect(),
            strokes: of("polyline")
                .map(|node| (attribute(node, "stroke"), number(node, "stroke-width")))
                .collect(),
            circles: of("circle")
                .map(|node| {
                    let of = |name| number(node, name);
                    ((of("cx"), of("cy")), of("r"), attribute(node, "fill"))
                })
                .collect(),
            columns: groups(cells.iter().map(|(rect, _)| rect.x), width),
            rows: groups(cells.iter().map(|(rect, _)| rect.y), height),
            cells,
        }
    }

    /// The cell of (row of panels, column of panels, column in the panel, row in the panel).
    pub(crate) fn cell(&self, row: usize, column: usize, batch: usize, rank: usize) -> (Rect, &str) {
        let (x, y) = (self.columns[column][batch], self.rows[row][rank]);
        let found: Vec<_> = self.cells.iter().filter(|(rect, _)| (rect.x, rect.y) == (x, y)).collect();
        assert_eq!(found.len(), 1, "cells at ({x}, {y})");
        (found[0].0, &found[0].1)
    }

    /// The grid's cells of a row of panels, each with its rectangle, its fill, and the texts in it.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (Cell, Rect, &str, Vec<&Text>)> {
        grid().map(move |cell| {
            let (rect, fill) = self.at(row, cell);
            (cell, rect, fill, self.texts_in(rect))
        })
    }

    /// A cell of the grid in a row of panels.
    pub(crate) fn at(&self, row: usize, cell: Cell) -> (Rect, &str) {
        let column = SEQ_LENS.iter().position(|seq_len| *seq_len == cell.seq_len).unwrap();
        let batch = BATCHES.iter().position(|batch| *batch == cell.batch).unwrap();
        self.cell(row, column, batch, RANKS.iter().position(|rank| *rank == cell.rank).unwrap())
    }

    /// The texts whose middle is in the rectangle.
    pub(crate) fn texts_in(&self, rect: Rect) -> Vec<&Text> {
        self.texts.iter().filter(|text| rect.holds(text.at)).collect()
    }

    pub(crate) fn texts_saying(&self, wanted: &str) -> Vec<&Text> {
        self.texts.iter().filter(|text| text.text == wanted).collect()
    }

    /// Every text is inside of the picture and none overlaps another, by the bundled font's mean advance.
    pub(crate) fn check_texts(&self) {
        let boxes: Vec<_> = self.texts.iter().map(|text| (text.extent(0.56), &text.text)).collect();
        for (i, (a, name)) in boxes.iter().enumerate() {
            assert!(a[0] > 0.0 && a[1] > 0.0, "'{name}' runs out");
            assert!(a[2] < f64::from(self.size.0) && a[3] < f64::from(self.size.1), "'{name}' runs out");
            for (b, other) in &boxes[..i] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(apart, "'{name}' overlaps '{other}'");
            }
        }
    }

    /// All text in one string.
    pub(crate) fn words(&self) -> String {
        self.texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

fn attribute(node: roxmltree::Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap().to_owned()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(node: roxmltree::Node<'_, '_>, name: &str) -> T {
    node.attribute(name).unwrap().parse().unwrap()
}

fn rect(node: roxmltree::Node<'_, '_>) -> (Rect, String) {
    let of = |name| number(node, name);
    let rect = Rect { x: of("x"), y: of("y"), width: of("width"), height: of("height") };
    (rect, node.attribute("fill").unwrap().to_owned())
}

fn text(node: roxmltree::Node<'_, '_>) -> Text {
    let size: f64 = number(node, "font-size");
    // The text hangs from its point; its capitals are 0.76 to 0.03 of its size below.
    assert_eq!(node.attribute("dy").unwrap(), "0.76em");
    let down = ((0.76 - 0.365) * size).round() as i32;
    let upwards = node.attribute("transform").is_some();
    let (x, y): (i32, i32) = (number(node, "x"), number(node, "y"));
    if upwards {
        assert_eq!(node.attribute("transform").unwrap(), format!("rotate(270, {x}, {y})"));
    }
    Text {
        text: node.text().unwrap().trim().to_owned(),
        at: if upwards { (x + down, y) } else { (x, y + down) },
        anchor: node.attribute("text-anchor").unwrap().to_owned(),
        fill: node.attribute("fill").unwrap().to_owned(),
        size,
        upwards,
    }
}

fn points(node: roxmltree::Node<'_, '_>) -> Vec<(i32, i32)> {
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    node.attribute("points").unwrap().split_whitespace().map(point).collect()
}

/// The distinct edges in order, in a new group wherever the gap is more than a tenth of a cell.
fn groups(edges: impl Iterator<Item = i32>, length: i32) -> Vec<Vec<i32>> {
    let mut groups: Vec<Vec<i32>> = Vec::new();
    for edge in edges.collect::<BTreeSet<i32>>() {
        match groups.last_mut() {
            Some(group) if edge - group[group.len() - 1] <= length + length / 10 => group.push(edge),
            _ => groups.push(vec![edge]),
        }
    }
    groups
}

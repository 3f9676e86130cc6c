//! How each line of the figure of few tokens looks, and the legend that says so.

use plotters::element::{Circle, DashedPathElement, PathElement};
use plotters::style::ShapeStyle;

use super::style::{INK, OUTLINE, filled, stroke};
use crate::colormap::Rgb;
use crate::decode::{DecodeFigure, DecodeLayout, Line};
use crate::error::Error;
use crate::text::{Align, Canvas, Label, cut, width};

/// Length of a line in the legend, the gap between it and its label, and the gap behind that.
const SAMPLE: i32 = 34;
const GAP: (i32, i32) = (8, 14);
/// Size of the labels.
const SIZE: f64 = 14.0;
/// No label is longer.
const LONGEST: i32 = 260;
/// The part of the map of colours that the ranks take, from the smallest: neither the base's black nor lost
/// on white.
const RANKS: (f64, f64) = (0.25, 0.8);
/// Colours of peers: blue, green and light blue of Okabe and Ito's, which are told apart by the colour-blind,
/// and grey.
const PEERS: [Rgb; 4] =
    [Rgb(0x00, 0x72, 0xB2), Rgb(0x00, 0x9E, 0x73), Rgb(0x56, 0xB4, 0xE9), Rgb(0x7A, 0x7A, 0x7A)];
/// Dashes of peers and the gaps between them. Five with four colours: 20 peers look different.
const DASHES: [(i32, i32); 5] = [(9, 4), (4, 3), (15, 4), (7, 7), (3, 6)];

/// Dashes of a floor.
const FLOOR: (i32, i32) = (2, 4);

/// How a line looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStyle {
    pub(super) colour: Rgb,
    width: u32,
    dash: Option<(i32, i32)>,
    radius: i32,
    is_hollow: bool,
}

impl LineStyle {
    /// The style of one of the legend's lines.
    pub(super) fn of(figure: &DecodeFigure, line: &Line) -> LineStyle {
        let place = |is_alike: fn(&Line) -> bool| {
            let alike = || figure.legend.iter().filter(|line| is_alike(line));
            (alike().position(|other| other == line).unwrap_or(0), alike().count())
        };
        match line {
            Line::Base => LineStyle { colour: INK, width: 2, dash: None, radius: 3, is_hollow: false },
            Line::Fused(_) => {
                let (place, count) = place(|line| matches!(line, Line::Fused(_)));
                let part = place as f64 / (count.max(2) - 1) as f64;
                let colour = figure.colormap.at(RANKS.0 + part * (RANKS.1 - RANKS.0));
                // Neighbours differ by more than their colour.
                LineStyle { colour, width: 2, dash: None, radius: 3, is_hollow: place % 2 == 1 }
            }
            Line::Other(..) => {
                let (place, _) = place(|line| !line.is_own());
                let (colour, dash) = (PEERS[place % PEERS.len()], DASHES[place % DASHES.len()]);
                LineStyle { colour, width: 1, dash: Some(dash), radius: 2, is_hollow: false }
            }
        }
    }

    /// The style of the line at the reference.
    pub(super) fn of_reference() -> LineStyle {
        LineStyle { colour: OUTLINE, width: 1, dash: None, radius: 0, is_hollow: false }
    }

    /// The style of a line's floor.
    pub(super) fn floor(self) -> LineStyle {
        LineStyle { width: 1, dash: Some(FLOOR), radius: 0, ..self }
    }

    pub(super) fn draw_path(&self, canvas: &Canvas<'_>, points: Vec<(i32, i32)>) -> Result<(), Error> {
        let style: ShapeStyle = stroke(self.colour, self.width);
        match self.dash {
            None => canvas.draw(&PathElement::new(points, style)),
            Some((dash, gap)) => canvas.draw(&DashedPathElement::new(points, dash, gap, style)),
        }
        .map_err(Error::draw)
    }

    pub(super) fn draw_point(&self, canvas: &Canvas<'_>, at: (i32, i32)) -> Result<(), Error> {
        if self.radius == 0 {
            return Ok(());
        }
        canvas.draw(&Circle::new(at, self.radius, filled(self.colour))).map_err(Error::draw)?;
        if self.is_hollow {
            canvas.draw(&Circle::new(at, self.radius - 1, filled(Rgb::WHITE))).map_err(Error::draw)?;
        }
        Ok(())
    }
}

/// An entry: what it says, and how its line looks.
type Entry = (String, LineStyle);

/// This library's lines and the reference; peers.
fn groups(figure: &DecodeFigure) -> [Vec<Entry>; 2] {
    let entry = |line: &Line| (line.label(), LineStyle::of(figure, line));
    let (own, others): (Vec<&Line>, Vec<&Line>) = figure.legend.iter().partition(|line| line.is_own());
    let reference = figure.reference.map(|(_, name)| (name.to_owned(), LineStyle::of_reference()));
    let mut own: Vec<Entry> = reference.into_iter().chain(own.into_iter().map(entry)).collect();
    if figure.has_floors() {
        own.push(("floor".to_owned(), LineStyle::of_reference().floor()));
    }
    [own, others.into_iter().map(entry).collect()]
}

/// The geometry, without a footer.
pub(super) fn lay_out(figure: &DecodeFigure) -> DecodeLayout {
    let groups = groups(figure);
    let longest = groups.iter().flatten().map(|(label, _)| width(label, SIZE)).max().unwrap_or(0);
    let entry = SAMPLE + GAP.0 + longest.min(LONGEST) + GAP.1;
    DecodeLayout::new(figure.columns.len(), figure.rows.len(), groups.map(|group| group.len()), entry)
}

pub(super) fn draw(canvas: &Canvas<'_>, layout: &DecodeLayout, figure: &DecodeFigure) -> Result<(), Error> {
    for (group, entries) in groups(figure).into_iter().enumerate() {
        for (place, (text, style)) in entries.into_iter().enumerate() {
            let (left, y) = layout.entry(group, place);
            style.draw_path(canvas, vec![(left, y), (left + SAMPLE, y)])?;
            style.draw_point(canvas, (left + SAMPLE / 2, y))?;
            let at = (left + SAMPLE + GAP.0, y);
            let label = Label { at, size: SIZE, align: Align::Left, colour: INK, upwards: false };
            label.draw(canvas, &cut(&text, SIZE, LONGEST))?;
        }
    }
    Ok(())
}

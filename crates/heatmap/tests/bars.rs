//! The bars of `fused-lora bench`: lengths, intervals and floors on one axis, numbers and labels in words.

use fused_lora_heatmap::{Bar, BarFigure, BarGroup, BarPanel, draw_bars_svg, png_from_svg};
use roxmltree::Document;

const COLOURS: [&str; 2] = ["#B4B4B4", "#2F6DAE"];

fn group(label: &str, bars: [Option<f64>; 2], floor: f64) -> BarGroup {
    let bar = |value: f64| Bar {
        value,
        interval: Some((value - 1.0, value + 1.0)),
        mark: if value > 39.0 { " *" } else { "" },
    };
    BarGroup { label: label.to_owned(), detail: "2: q & v".to_owned(), bars: bars.map(|b| b.map(bar)), floor }
}

fn figure() -> BarFigure {
    let panel = |title: &str, groups| BarPanel { title: title.to_owned(), groups };
    BarFigure {
        title: "What <it> costs".to_owned(),
        names: ["unfused", "fused"],
        floor: "floor",
        axis: "slow-down, %".to_owned(),
        panels: vec![
            panel("1 token", vec![group("4096 × 4096", [Some(40.0), Some(10.0)], 5.0)]),
            panel(
                "8 tokens",
                vec![group("64 × 64", [Some(20.0), None], 5.0), group("all", [Some(-9.0), Some(0.0)], 2.5)],
            ),
        ],
        footer: vec!["some processor".to_owned(), "2 threads".to_owned()],
    }
}

/// Left, top and width of all bars of a colour that are no patch of the legend.
fn bars(document: &Document<'_>, colour: &str) -> Vec<[i32; 3]> {
    let number = |node: &roxmltree::Node<'_, '_>, name| node.attribute(name).unwrap().parse::<i32>().unwrap();
    let rects = document.descendants().filter(|node| node.attribute("fill") == Some(colour));
    let rects = rects.filter(|node| node.has_tag_name("rect"));
    rects.skip(1).map(|node| ["x", "y", "width"].map(|name| number(&node, name))).collect()
}

#[test]
fn lengths_are_the_numbers_from_a_common_zero() {
    let svg = draw_bars_svg(&figure()).unwrap();
    let document = Document::parse(&svg).unwrap();
    let [unfused, fused] = COLOURS.map(|colour| bars(&document, colour));
    // 50 from end to end: the interval of the longest ends at 41, that of the shortest at −10.
    let [long, half, negative] = unfused[..] else { panic!("{unfused:?}") };
    let zero = long[0];
    assert!((long[2] - 2 * half[2]).abs() <= 2 && half[0] == zero, "{unfused:?}");
    assert!((negative[0] + negative[2] - zero).abs() <= 1 && negative[0] < zero, "{unfused:?}");
    assert!(negative[0] > 300, "into the labels: {unfused:?}");
    assert!((4 * fused[0][2] - long[2]).abs() <= 4, "{fused:?}");
    assert_eq!(fused.iter().filter(|bar| bar[2] > 1).count(), 1, "one is missing, one is 0: {fused:?}");
    assert!(long[1] < half[1] && half[1] < negative[1], "from top to bottom");
    assert_eq!(long[1] + 15, fused[0][1], "fused stands below unfused");
}

#[test]
fn words_say_what_is_drawn() {
    let svg = draw_bars_svg(&figure()).unwrap();
    let document = Document::parse(&svg).unwrap();
    let texts: Vec<String> = document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .map(|node| node.text().unwrap_or_default().trim().to_owned())
        .collect();
    let all = [
        "What <it> costs",
        "unfused",
        "fused",
        "floor",
        "slow-down, %",
        "1 token",
        "8 tokens",
        "4096 × 4096",
    ];
    for text in all.into_iter().chain(["2: q & v", "40.0 *", "10.0", "-9.0", "0.0", "not measured"]) {
        assert!(texts.iter().any(|found| found == text), "{text}: {texts:?}");
    }
    assert!(texts.iter().any(|text| text == "some processor · 2 threads"), "{texts:?}");
    assert!(png_from_svg(&svg).unwrap().len() > 1000);
}

/// Nothing to compare with, or numbers that are none: still a picture.
#[test]
fn an_axis_needs_no_length() {
    for bars in [[None, None], [Some(0.0), Some(0.0)], [Some(f64::NAN), Some(1.0)]] {
        let panels = vec![BarPanel { title: String::new(), groups: vec![group("x", bars, 0.0)] }];
        let svg = draw_bars_svg(&BarFigure { panels, ..figure() }).unwrap();
        assert!(Document::parse(&svg).is_ok(), "{bars:?}");
    }
    assert!(draw_bars_svg(&BarFigure { panels: Vec::new(), ..figure() }).is_ok());
}

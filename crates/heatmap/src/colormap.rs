//! Perceptually even maps from a number between 0 and 1 to a colour: dark is 0, light is 1.

mod anchors;

use std::fmt;

use clap::ValueEnum;

/// A colour of 8 bits a channel in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// Black.
    pub const BLACK: Rgb = Rgb(0, 0, 0);
    /// White.
    pub const WHITE: Rgb = Rgb(255, 255, 255);

    /// Relative luminance as WCAG 2 has it: 0 for black, 1 for white.
    #[must_use]
    pub fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Black or white for text on this colour, by its luminance. By WCAG's contrast ratio alone black would
    /// begin at 0.18; that puts it on rocket's reds, where white is read more easily.
    #[must_use]
    pub fn ink(self) -> Rgb {
        if self.luminance() > 0.25 { Rgb::BLACK } else { Rgb::WHITE }
    }
}

/// `#RRGGBB`.
impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }
}

/// A map whose lightness rises evenly, so that equal steps in the number look equal, also in grey print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colormap {
    /// seaborn's default for heatmaps.
    #[default]
    Rocket,
    /// seaborn's other one, blue and green.
    Mako,
    /// Matplotlib's default.
    Viridis,
    /// From dark grey to light grey.
    Grey,
}

impl Colormap {
    /// The colour of `t`; what lies outside 0 to 1 gets the colour of the nearer end.
    #[must_use]
    pub fn at(self, t: f64) -> Rgb {
        let t = t.clamp(0.0, 1.0);
        match self {
            Colormap::Rocket => interpolate(&anchors::ROCKET, t),
            Colormap::Mako => interpolate(&anchors::MAKO, t),
            Colormap::Viridis => interpolate(&anchors::VIRIDIS, t),
            Colormap::Grey => grey(5.0 + 90.0 * t),
        }
    }
}

fn interpolate(anchors: &anchors::Anchors, t: f64) -> Rgb {
    let position = t * (anchors.len() - 1) as f64;
    let below = (position as usize).min(anchors.len() - 2);
    let fraction = position - below as f64;
    let channel = |shift: u32| {
        let level = |anchor: u32| f64::from((anchor >> shift) & 0xFF);
        let (a, b) = (level(anchors[below]), level(anchors[below + 1]));
        (a + fraction * (b - a)).round() as u8
    };
    Rgb(channel(16), channel(8), channel(0))
}

/// The grey of a CIE lightness between 0 and 100.
fn grey(lightness: f64) -> Rgb {
    let f = (lightness + 16.0) / 116.0;
    let y = if lightness > 8.0 { f * f * f } else { lightness / 903.3 };
    let c = if y <= 0.003_130_8 { 12.92 * y } else { 1.055 * y.powf(1.0 / 2.4) - 0.055 };
    let level = (255.0 * c).round() as u8;
    Rgb(level, level, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE L*, 0 to 100.
    fn lightness(colour: Rgb) -> f64 {
        let y = colour.luminance();
        if y > 0.008_856 { 116.0 * y.cbrt() - 16.0 } else { 903.3 * y }
    }

    #[test]
    fn lightness_rises_evenly_from_dark_to_light() {
        for &map in Colormap::value_variants() {
            let steps = 40;
            let of = |i: usize| lightness(map.at(i as f64 / steps as f64));
            assert!(of(0) < 16.0, "{map:?} starts at L* = {}", of(0));
            assert!(of(steps) > 85.0, "{map:?} ends at L* = {}", of(steps));
            let mean = (of(steps) - of(0)) / steps as f64;
            for i in 0..steps {
                let step = of(i + 1) - of(i);
                assert!((0.5 * mean..1.6 * mean).contains(&step), "{map:?} at {i}: {step}, mean {mean}");
            }
        }
    }

    /// Entries of the published map: the ends, the middle, and one between two anchors.
    #[test]
    fn rocket_is_seaborns() {
        let entry = |index: f64| Colormap::Rocket.at(index / 255.0);
        assert_eq!(entry(0.0), Rgb(3, 5, 26));
        assert_eq!(entry(255.0), Rgb(250, 235, 221));
        let published =
            [(2.0, [0.01831941, 0.0229766, 0.10738511]), (5.0, [0.03285175, 0.03088792, 0.11863035])];
        for (index, channels) in published {
            let Rgb(r, g, b) = entry(index);
            for (got, want) in [r, g, b].into_iter().zip(channels) {
                assert!((f64::from(got) - 255.0 * want).abs() <= 1.0, "entry {index}: {got} is not {want}");
            }
        }
    }

    #[test]
    fn outside_the_range_the_ends_go_on() {
        for &map in Colormap::value_variants() {
            assert_eq!(map.at(-3.0), map.at(0.0));
            assert_eq!(map.at(7.0), map.at(1.0));
        }
    }

    #[test]
    fn ink_is_what_stands_out() {
        assert_eq!(Rgb::BLACK.ink(), Rgb::WHITE);
        assert_eq!(Rgb::WHITE.ink(), Rgb::BLACK);
        for &map in Colormap::value_variants() {
            for i in 0..=100 {
                let colour = map.at(f64::from(i) / 100.0);
                let (a, b) = (colour.luminance() + 0.05, colour.ink().luminance() + 0.05);
                // WCAG asks 3 of large text.
                assert!(a.max(b) / a.min(b) >= 3.4, "{map:?} at {i} %: {colour}");
            }
        }
    }
}

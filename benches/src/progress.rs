//! What a person at a terminal sees.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

/// Says on stderr which size is measured, and how many seconds the rest will take; nothing where stderr is no terminal.
pub fn announce(position: (usize, usize), size: &str, left: Option<f64>) {
    if stderr().is_terminal() {
        eprintln!("{}", line(position, size, left));
    }
}

fn line((number, count): (usize, usize), size: &str, left: Option<f64>) -> String {
    let left = left.filter(|left| *left >= 0.0 && left.is_finite());
    let left =
        left.map_or_else(String::new, |left| format!(", {} left", clock(Duration::from_secs_f64(left))));
    format!("[{number}/{count}] {size}{left}")
}

/// `m:ss`, or `h:mm:ss`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_and_how_long() {
        let left = Some(61.4);
        assert_eq!(line((3, 18), "seq128/batch4", left), "[3/18] seq128/batch4, 1:01 left");
        assert_eq!(line((1, 2), "x", None), "[1/2] x");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
        assert_eq!(clock(Duration::from_millis(59_600)), "1:00");
        assert_eq!(clock(Duration::ZERO), "0:00");
    }
}

//! The clock of a GPU's multiprocessors while they work, as `nvidia-smi` tells it: that program comes with
//! the driver.

use std::cell::RefCell;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The clock settles within a second; to ask for it all the time would take a core from the benches.
const PERIOD: Duration = Duration::from_secs(2);

/// A GPU's clock as it was last seen.
pub struct Clock {
    program: &'static str,
    /// As `nvidia-smi -L` prints it: the program does not count devices as CUDA does.
    uuid: String,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    asked: Option<Instant>,
    /// The program, while it runs.
    asking: Option<Child>,
    seen: Option<f64>,
}

impl Clock {
    /// The clock of the GPU of that identity. Without the program it is never seen.
    pub fn new(uuid: String) -> Clock {
        Clock { program: "nvidia-smi", uuid, state: RefCell::default() }
    }

    /// Asks for it, unless that was done just now; does not wait for the answer. To be called while the
    /// device works: an idle one slows down.
    pub fn sample(&self) {
        let mut state = self.state.borrow_mut();
        state.hear(false);
        if state.asked.is_some_and(|asked| asked.elapsed() < PERIOD) || state.asking.is_some() {
            return;
        }
        state.asked = Some(Instant::now());
        state.asking = Command::new(self.program)
            .arg(format!("--id={}", self.uuid))
            .args(["--query-gpu=clocks.sm", "--format=csv,noheader,nounits"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok();
    }

    /// As it was last seen, in MHz.
    pub fn mhz(&self) -> Option<f64> {
        let mut state = self.state.borrow_mut();
        state.hear(true);
        state.seen
    }
}

impl State {
    /// Takes the program's answer, if it is there, or waits for it.
    fn hear(&mut self, wait: bool) {
        let Some(child) = &mut self.asking else { return };
        if !wait && matches!(child.try_wait(), Ok(None)) {
            return;
        }
        let mut text = String::new();
        let heard = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut text));
        if child.wait().is_ok_and(|status| status.success()) && matches!(heard, Some(Ok(_))) {
            self.seen = text.trim().parse().ok().filter(|mhz: &f64| mhz.is_finite()).or(self.seen);
        }
        self.asking = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_the_clock() {
        // `echo` prints its arguments, which are no number; `no-such-program` is not there.
        for program in ["echo", "no-such-program"] {
            let clock = Clock { program, ..Clock::new("GPU-0".to_owned()) };
            clock.sample();
            clock.sample();
            assert_eq!(clock.mhz(), None, "{program}");
        }
        let mut state = State::default();
        for line in ["printf '1755\\n'", "echo '[N/A]'", "exit 3"] {
            let child = Command::new("sh").args(["-c", line]).stdout(Stdio::piped()).spawn();
            state.asking = child.ok();
            state.hear(true);
            assert_eq!(state.seen, Some(1755.0), "{line}");
        }
    }
}

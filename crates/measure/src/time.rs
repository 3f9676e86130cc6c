//! How long a call took, and how much of that the processor worked for it.

use std::time::Instant;

/// The time of one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// By the clock on the wall (on a GPU, by the device's own), in seconds.
    pub wall: f64,
    /// CPU time of the whole process, all threads together, in seconds; None where it says nothing, as on a
    /// GPU.
    pub cpu: Option<f64>,
}

impl Time {
    /// Runs `f` on this process's threads, and times it by both clocks.
    pub fn of<E>(f: impl FnOnce() -> Result<(), E>) -> Result<Time, E> {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        f()?;
        let wall = wall.elapsed().as_secs_f64();
        Ok(Time { wall, cpu: cpu.zip(cpu_seconds()).map(|(before, after)| after - before) })
    }
}

/// CPU time of this process so far; None where the system does not tell.
fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_takes_cpu_time_and_sleep_does_not() {
        let sleep = Time::of(|| -> Result<(), ()> {
            std::thread::sleep(Duration::from_millis(60));
            Ok(())
        });
        let spin = Time::of(|| -> Result<(), ()> {
            let start = cpu_seconds();
            while cpu_seconds().zip(start).is_some_and(|(now, start)| now - start < 0.06) {}
            Ok(())
        });
        let (sleep, spin) = (sleep.unwrap(), spin.unwrap());
        assert!(sleep.wall >= 0.06, "{sleep:?}");
        assert!(spin.cpu.unwrap() >= 0.06, "{spin:?}");
        // Other tests of this process run meanwhile, so the CPU time of a sleep is not zero; but spinning has
        // its own.
        assert!(sleep.cpu.unwrap() >= 0.0);
    }

    #[test]
    fn what_failed_has_no_time() {
        assert_eq!(Time::of(|| Err("gone")), Err("gone"));
    }
}

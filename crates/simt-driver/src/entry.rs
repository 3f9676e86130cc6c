//! The way into the driver: one lock, no panics out, the checks that every function makes.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use crate::{
    code::{Code, Outcome},
    config::Config,
    driver::Driver,
    fault::Fault,
};

/// What must be there before a function does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    Nothing,
    /// `cuInit` was called.
    Init,
    /// Also a current context.
    Context,
    /// Also that no work has failed.
    Health,
}

/// Made by the first call, from the environment as it is then.
static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Functions that came after CUDA 11.0, with the version of the first driver that has them.
const SINCE: [(&str, u32); 3] = [
    ("cuLaunchKernelEx", 11_060),
    ("cuOccupancyMaxActiveClusters", 11_070),
    ("cuTensorMapEncodeTiled", 12_000),
];

/// Runs a driver function and gives its `CUresult`.
pub(crate) fn call(function: &'static str, needs: Needs, body: impl FnOnce(&mut Driver) -> Outcome) -> u32 {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
        let driver = match guard.as_mut() {
            Some(driver) => driver,
            None => guard.insert(Driver::new(Config::from_environment().map_err(|error| {
                eprintln!("fused-lora-simt-driver: {error}");
                Code::UNKNOWN
            })?)),
        };
        check(driver, function, needs)?;
        // Here, not around all: what panics in the middle of a change must not be used again.
        catch_unwind(AssertUnwindSafe(|| body(driver))).unwrap_or_else(|panic| {
            let text = format!("{function} panicked: {}", message(&*panic));
            Err(driver.fail(&Fault { code: Code::UNKNOWN, text }))
        })
    }));
    match caught {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

fn check(driver: &mut Driver, function: &'static str, needs: Needs) -> Outcome {
    let calls = driver.calls.entry(function).or_default();
    *calls += 1;
    let plain = function.strip_suffix("_v2").unwrap_or(function);
    let failure = driver.config.failures.iter().find(|failure| {
        (failure.function == function || failure.function == plain)
            && failure.call.is_none_or(|call| call == *calls)
    });
    if let Some(failure) = failure {
        return Err(failure.code);
    }
    if SINCE.iter().any(|&(name, since)| name == function && since > driver.config.driver_version) {
        return Err(Code::NOT_FOUND);
    }
    if needs >= Needs::Init && !driver.initialised {
        return Err(Code::NOT_INITIALIZED);
    }
    if needs >= Needs::Context {
        driver.current()?;
    }
    match driver.broken {
        Some(code) if needs >= Needs::Health => Err(code),
        _ => Ok(()),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

/// Where the caller of an exported function wants a result: null, or valid for a write. Only callers make
/// any.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn set(self, value: T) -> Outcome {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the contract of the exported functions, which a caller of one has kept; it is not null.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }
}

/// Defines exported functions. Each is `unsafe`: pointers are null or valid for what the driver's function of
/// that name reads and writes through them. A body sees the driver and gives an [`Outcome`]; it runs in
/// [`call`].
macro_rules! exports {
    ($(
        $(#[$attr:meta])*
        fn $name:ident($driver:ident $(, $arg:ident: $type:ty)* $(,)?) needs $needs:ident $body:block
    )*) => {
        $(
            $(#[$attr])*
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> u32 {
                $crate::entry::call(stringify!($name), $crate::entry::Needs::$needs, |$driver| $body)
            }
        )*
    };
}
pub(crate) use exports;

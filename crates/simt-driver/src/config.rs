//! What the environment asks for.

use std::{env::VarError, str::FromStr};

use crate::{allow, code::Code};

/// What all variables start with.
const PREFIX: &str = "FUSED_LORA_SIMT_";

/// Shared memory of a CTA that no function needs to ask for, on every device.
pub(crate) const SHARED_WITHOUT_OPT_IN: u32 = 48 * 1024;

/// The driver's settings, each from the variable that the crate's documentation names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) slots: Option<usize>,
    pub(crate) capability: (u32, u32),
    /// 1000 times the major version and 10 times the minor, as `cuDriverGetVersion` writes it.
    pub(crate) driver_version: u32,
    pub(crate) devices: u32,
    pub(crate) memory: u64,
    /// Of a device; else the capability's.
    pub(crate) multiprocessors: Option<u32>,
    /// The opt-in limit of shared memory of a CTA; else the device's own.
    pub(crate) shared: Option<u32>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) broken: Vec<Broken>,
    /// What is not reported, by its names.
    pub(crate) allowed: Vec<&'static str>,
    pub(crate) trace: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            slots: None,
            capability: (8, 0),
            driver_version: 12_040,
            devices: 1,
            memory: 2 << 30,
            multiprocessors: None,
            shared: None,
            failures: Vec::new(),
            broken: Vec::new(),
            allowed: Vec::new(),
            trace: false,
        }
    }
}

/// A function that fails on purpose.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// As exported, or without `_v2`.
    pub(crate) function: String,
    pub(crate) code: Code,
    /// Which call of it, from 1; without, every one.
    pub(crate) call: Option<u64>,
}

/// A kernel that fails on purpose.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    /// Its entry.
    pub(crate) entry: String,
    /// Whether it never ends; else it is a fault.
    pub(crate) hangs: bool,
}

/// A variable whose value cannot be understood.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{PREFIX}{variable}={value:?} is not {expected}")]
pub(crate) struct ConfigError {
    variable: &'static str,
    value: String,
    expected: &'static str,
}

impl Config {
    pub(crate) fn from_environment() -> Result<Self, ConfigError> {
        Self::from_variables(|name| match std::env::var(format!("{PREFIX}{name}")) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
        })
    }

    /// From a lookup by name without the prefix. An empty value counts as unset.
    fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variables = Variables { lookup };
        let default = Self::default();
        let version = "a version such as 12.4";
        Ok(Self {
            seed: variables.number("SEED")?.unwrap_or(default.seed),
            slots: variables
                .get("SLOTS", "a number from 1 on", |text| text.parse().ok().filter(|&n| n > 0))?,
            capability: variables
                .get("CAPABILITY", "a compute capability such as 8.0", pair)?
                .unwrap_or(default.capability),
            driver_version: variables
                .get("DRIVER_VERSION", version, |text| {
                    let (major, minor) = pair(text)?;
                    (major < 1000 && minor < 100).then_some(1000 * major + 10 * minor)
                })?
                .unwrap_or(default.driver_version),
            devices: variables.number("DEVICES")?.unwrap_or(default.devices),
            memory: variables.number("MEMORY")?.unwrap_or(default.memory),
            multiprocessors: variables
                .get("MULTIPROCESSORS", "a number from 1 on", |text| text.parse().ok().filter(|&n| n > 0))?,
            shared: variables.get("SHARED", "a number of bytes from 49152 to 232448", |text| {
                text.parse().ok().filter(|bytes| (SHARED_WITHOUT_OPT_IN..=227 * 1024).contains(bytes))
            })?,
            failures: variables
                .get("FAIL", "a list function:code or function:code@call, by commas", failures)?
                .unwrap_or_default(),
            broken: variables
                .get("BROKEN", "a list entry:fault or entry:hang, by commas", broken)?
                .unwrap_or_default(),
            allowed: variables.get("ALLOW", allow::EXPECTED, allow::parse)?.unwrap_or_default(),
            trace: variables.get("TRACE", "0 or 1", |text| match text {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            })? == Some(true),
        })
    }
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get<T>(
        &self,
        variable: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = (self.lookup)(variable).filter(|value| !value.is_empty()) else { return Ok(None) };
        match parse(value.trim()) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(ConfigError { variable, value, expected }),
        }
    }

    fn number<T: FromStr>(&self, variable: &'static str) -> Result<Option<T>, ConfigError> {
        self.get(variable, "a number in range", |text| text.parse().ok())
    }
}

/// `8.0`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `cuMemAlloc:2,cuLaunchKernel:719@3`.
fn failures(text: &str) -> Option<Vec<Failure>> {
    text.split(',')
        .map(|item| {
            let (function, rest) = item.trim().split_once(':')?;
            let (code, call) = match rest.split_once('@') {
                Some((code, call)) => (code, Some(call.parse().ok().filter(|&n| n > 0)?)),
                None => (rest, None),
            };
            let code = Code::from_number(code.parse().ok()?)?;
            function.starts_with("cu").then(|| Failure { function: function.to_owned(), code, call })
        })
        .collect()
}

/// `gemm_64x64:fault,fused_64x64:hang`.
fn broken(text: &str) -> Option<Vec<Broken>> {
    text.split(',')
        .map(|item| {
            let (entry, how) = item.trim().split_once(':')?;
            let hangs = match how {
                "fault" => false,
                "hang" => true,
                _ => return None,
            };
            (!entry.is_empty()).then(|| Broken { entry: entry.to_owned(), hangs })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        assert_eq!(parse(&[]), Ok(Config::default()));
        assert_eq!(parse(&[("SEED", ""), ("TRACE", "0")]), Ok(Config::default()));
    }

    #[test]
    fn every_variable_is_read() {
        let config = parse(&[
            ("SEED", "7"),
            ("SLOTS", "3"),
            ("CAPABILITY", "9.0"),
            ("DRIVER_VERSION", "11.8"),
            ("DEVICES", "2"),
            ("MEMORY", "1000"),
            ("MULTIPROCESSORS", "1"),
            ("SHARED", "101376"),
            ("FAIL", "cuMemAlloc:2, cuLaunchKernel:719@3"),
            ("BROKEN", "gemm_64x64:fault, fused_64x64:hang"),
            ("ALLOW", "wide-parity"),
            ("TRACE", "1"),
        ]);
        let failure =
            |function: &str, code, call| Failure { function: function.to_owned(), code: Code(code), call };
        let expected = Config {
            seed: 7,
            slots: Some(3),
            capability: (9, 0),
            driver_version: 11_080,
            devices: 2,
            memory: 1000,
            multiprocessors: Some(1),
            shared: Some(101_376),
            failures: vec![failure("cuMemAlloc", 2, None), failure("cuLaunchKernel", 719, Some(3))],
            broken: vec![
                Broken { entry: "gemm_64x64".to_owned(), hangs: false },
                Broken { entry: "fused_64x64".to_owned(), hangs: true },
            ],
            allowed: vec!["wide-parity"],
            trace: true,
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_that_names_it() {
        for (variable, value) in [
            ("SEED", "-1"),
            ("SLOTS", "0"),
            ("CAPABILITY", "80"),
            ("DRIVER_VERSION", "new"),
            ("DEVICES", "one"),
            ("MEMORY", "1 GiB"),
            ("MULTIPROCESSORS", "0"),
            ("SHARED", "1024"),
            ("FAIL", "cuMemAlloc"),
            ("FAIL", "cuMemAlloc:0"),
            ("FAIL", "cuMemAlloc:12345"),
            ("FAIL", "malloc:2"),
            ("FAIL", "cuMemAlloc:2@0"),
            ("BROKEN", "gemm_64x64"),
            ("BROKEN", "gemm_64x64:late"),
            ("BROKEN", ":hang"),
            ("ALLOW", "all"),
            ("TRACE", "yes"),
        ] {
            let error = parse(&[(variable, value)]).expect_err(variable).to_string();
            assert!(error.contains(&format!("FUSED_LORA_SIMT_{variable}={value:?}")), "{error}");
        }
    }
}

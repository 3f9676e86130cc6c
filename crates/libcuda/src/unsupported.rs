//! In place of the trampolines, where there are none.

use crate::LoadError;

pub(crate) fn load() -> Result<(), LoadError> {
    Err(LoadError::UnsupportedTarget)
}

//! `--dtype`

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::DType;

/// f16, bf16 or f32.
pub(crate) fn dtypes() -> impl TypedValueParser<Value = DType> {
    PossibleValuesParser::new(DType::ALL.map(DType::name)).try_map(|name| name.parse::<DType>())
}

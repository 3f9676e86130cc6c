//! `--layout`: which way round a weight lies that does not say so itself.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fused_lora::peft::Layout;

#[derive(clap::Args)]
pub(crate) struct Orientation {
    /// Which way round a weight lies, where its shape and what is beside it do not say: out-in (nn.Linear)
    /// or in-out (Conv1D of GPT-2)
    #[arg(long, value_name = "LAYOUT", value_parser = layouts())]
    pub(crate) layout: Option<Layout>,
}

fn layouts() -> impl TypedValueParser<Value = Layout> {
    PossibleValuesParser::new(Layout::ALL.map(Layout::name)).try_map(|name| name.parse::<Layout>())
}

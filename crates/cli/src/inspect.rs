//! What an adapter has, and whether it can be applied.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use fused_lora::peft::{Location, LoraModule};
use serde_json::{Value, json};

use crate::{
    columns::columns,
    layout::Orientation,
    survey::{Module, OfBase, Survey, survey},
};

/// List an adapter's modules: rank, scale, types and shapes, where W lies, what is refused and why.
///
/// Headers are read, no data. A module that cannot be applied is listed with its reason; the exit code is 0
/// unless adapter or base cannot be opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The adapter's folder
    adapter: PathBuf,
    /// The base model: a folder, an index, or a safetensors file
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    #[command(flatten)]
    orientation: Orientation,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let survey = survey(&args.adapter, args.base.as_deref(), args.orientation.layout)?;
    let totals = Totals::of(&survey.modules);
    let text = if args.json {
        let modules: Vec<Value> = survey.modules.iter().map(object).collect();
        let object = json!({
            "adapter": args.adapter.display().to_string(),
            "base": args.base.as_ref().map(|base| base.display().to_string()),
            "warnings": survey.warnings,
            "modules": modules,
            "totals": totals.object(),
        });
        format!("{object}\n")
    } else {
        format!("{}\n{}", table(&survey), totals.text())
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Sums over the modules that are applied: neither refused nor left out by the configuration.
#[derive(Debug, Default, PartialEq)]
struct Totals {
    modules: usize,
    applied: usize,
    refused: usize,
    /// Of A and B: each is one multiply-add a token.
    parameters: u64,
    /// Of A and B in the file.
    bytes: u64,
    /// A token's, of the base products.
    base_multiply_adds: u64,
}

impl Totals {
    fn of(modules: &[Module]) -> Totals {
        let mut totals = Totals { modules: modules.len(), ..Totals::default() };
        totals.refused = modules.iter().filter(|module| module.refused.is_some()).count();
        for &LoraModule { n, k, rank, dtypes: [a, b], .. } in modules.iter().filter_map(Module::applied) {
            let [n, k, rank] = [n, k, rank].map(|size| size as u64);
            totals.applied += 1;
            totals.parameters += rank * (n + k);
            totals.bytes += rank * (k * a.size() as u64 + n * b.size() as u64);
            totals.base_multiply_adds += n * k;
        }
        totals
    }

    /// In percent of the base products' arithmetic; None without modules.
    fn floor(&self) -> Option<f64> {
        (self.base_multiply_adds > 0).then(|| 100.0 * self.parameters as f64 / self.base_multiply_adds as f64)
    }

    fn object(&self) -> Value {
        json!({
            "modules": self.modules,
            "applied": self.applied,
            "refused": self.refused,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "multiply_adds_per_token": self.parameters,
            "base_multiply_adds_per_token": self.base_multiply_adds,
            "floor_pct": self.floor(),
        })
    }

    fn text(&self) -> String {
        let Totals { modules, applied, refused, parameters, bytes, base_multiply_adds } = self;
        let rest = modules - applied - refused;
        let floor = self.floor().map_or_else(String::new, |floor| {
            format!(
                "floor: {parameters} multiply-adds a token, {floor:.2} % of the {base_multiply_adds} of the base products\n"
            )
        });
        format!(
            "modules: {modules}, of which {applied} are applied, {rest} left out by the configuration, {refused} refused\n\
             parameters: {parameters} ({bytes} bytes)\n{floor}"
        )
    }
}

fn object(module: &Module) -> Value {
    let place = |Location { file, tensor, from_adapter, .. }: &Location| json!({ "file": file.display().to_string(), "tensor": tensor, "from_adapter": from_adapter });
    let mut object = json!({ "name": module.name, "refused": module.refused });
    if let Some(lora) = &module.lora {
        let LoraModule { tensors, n, k, rank, scale, dtypes, excluded, .. } = lora;
        object["lora"] = json!({
            "tensors": tensors,
            "n": n,
            "k": k,
            "rank": rank,
            "scale": scale,
            "dtypes": dtypes.map(|dtype| dtype.name()),
            "excluded": excluded.as_ref().map(ToString::to_string),
        });
    }
    if let Some(OfBase { weight, dtype, layout, bias, tied_to }) = &module.base {
        object["weight"] = place(weight);
        object["weight"]["dtype"] = json!(dtype.name());
        object["weight"]["layout"] = json!(layout.name());
        object["weight"]["tied_to"] = json!(tied_to);
        object["bias"] = json!(bias.as_ref().map(place));
    }
    object
}

/// A line for each module; below, the reasons of those that are not applied, and the adapter's warnings.
fn table(survey: &Survey) -> String {
    let head = ["rank", "scale", "N", "K", "A, B", "module", "W", "where", "bias"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(survey.modules.iter().map(row));
    let mut text = columns(&rows, 4);
    for module in &survey.modules {
        let name = module.name.escape_debug();
        let excluded = module.lora.as_ref().and_then(|lora| lora.excluded.as_ref());
        if let Some(reason) = &module.refused {
            text += &format!("\nrefused: {name}: {reason}");
        } else if let Some(reason) = excluded {
            text += &format!("\nleft out: {name}: {reason}");
        }
    }
    for warning in &survey.warnings {
        text += &format!("\nwarning: {warning}");
    }
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn row(module: &Module) -> Vec<String> {
    let name = module.name.escape_debug().to_string();
    let mut row = match &module.lora {
        Some(LoraModule { rank, scale, n, k, dtypes: [a, b], .. }) => {
            let dtypes = if a == b { a.to_string() } else { format!("{a}, {b}") };
            vec![rank.to_string(), scale.to_string(), n.to_string(), k.to_string(), dtypes, name]
        }
        None => [&["-"; 5].map(str::to_owned)[..], &[name]].concat(),
    };
    // The tensor's name, too, where it is another than the module's own.
    let place = |Location { file, tensor, .. }: &Location, part: &str| {
        let file = file.file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        let is_own = tensor.strip_suffix(part).is_some_and(|rest| rest == module.name);
        if is_own { file } else { format!("{file}: {}", tensor.escape_debug()) }
    };
    let status = match (&module.refused, &module.base) {
        (Some(_), _) => vec!["refused".to_owned()],
        (None, None) => Vec::new(),
        (None, Some(OfBase { weight, dtype, layout, bias, tied_to })) => {
            let tied = tied_to.as_ref().map_or_else(String::new, |_| ", tied".to_owned());
            let bias = bias.as_ref().map_or_else(|| "no".to_owned(), |bias| place(bias, ".bias"));
            vec![format!("{dtype} {layout}{tied}"), place(weight, ".weight"), bias]
        }
    };
    row.extend(status);
    row
}

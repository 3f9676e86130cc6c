//! The command: compiles the workspace's `kernels/`, reports, checks.

use std::{fs, path::Path, process::ExitCode, thread};

use anyhow::{Context, Result, bail};
use clap::Parser;
use cuda_builder::{
    Cubin, Header, Module, PTXAS_VARIABLE, Ptx, REBUILD, Section, Tools, Workspace, compare, inspect,
    leftovers, report,
};

/// Compiles kernels/ to PTX, writes kernels/ptx/ and reports what ptxas makes of it.
///
/// Needs a Rust toolchain that can compile for GPUs, and for the report NVIDIA's ptxas and nvdisasm;
/// scripts/install-gpu-toolchain gets both. Exits with 1 if a kernel spills, has stack, exceeds its
/// registers or the instructions of a step of K, has no tensor-core instructions in a loop, waits for wgmma
/// too early, lacks another instruction of its row, or loads narrowly; also if ptxas warns.
#[derive(Parser)]
struct Arguments {
    /// Writes nothing; fails, too, if kernels/ptx/ is not what the sources make now.
    #[arg(long, conflicts_with = "report")]
    check: bool,

    /// Compiles nothing; assembles the PTX in kernels/ptx/ and writes the report.
    #[arg(long)]
    report: bool,

    /// Writes a cubin for each architecture, too. Without this, only cubins that are there already are
    /// written anew.
    #[arg(long, conflicts_with = "check")]
    cubins: bool,
}

/// A module, assembled.
struct Built {
    module: Module,
    ptx: Ptx,
    cubins: Vec<Cubin>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workspace = Workspace::find();
    let faults = if arguments.check { check(&workspace) } else { write(&workspace, &arguments) };
    match faults {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("{} faults:", faults.len());
            faults.iter().for_each(|fault| eprintln!("  {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles, or reads what is there, and writes everything, faults or not: they are easier to find with the
/// files at hand.
fn write(workspace: &Workspace, arguments: &Arguments) -> Result<Vec<String>> {
    let mut modules = Vec::new();
    for module in workspace.modules() {
        let ptx = if arguments.report { read(&module)? } else { build(&module)? };
        modules.push((module, ptx));
    }
    let tools = match Tools::find(&workspace.tools())? {
        None if !arguments.report => {
            println!(
                "no ptxas here, so neither report nor check of registers: get it with \
                 `scripts/install-gpu-toolchain`, or name it in {PTXAS_VARIABLE}"
            );
            return Ok(Vec::new());
        }
        tools => needed(tools)?,
    };
    let modules = modules.into_iter().map(|(module, ptx)| assemble(&tools, module, ptx));
    let modules = modules.collect::<Result<Vec<_>>>()?;

    for built in &modules {
        for cubin in &built.cubins {
            let path = built.module.cubin(cubin.arch).filter(|path| arguments.cubins || path.is_file());
            if let Some(path) = path {
                fs::write(&path, &cubin.bytes).with_context(|| path.display().to_string())?;
                println!("{}: {} KiB", path.display(), cubin.bytes.len() / 1024);
            }
        }
    }
    let path = workspace.report();
    fs::write(&path, report_of(&tools, &modules)).with_context(|| path.display().to_string())?;
    println!("{}: {}", path.display(), tools.versions());
    Ok(modules.iter().flat_map(faults).collect())
}

fn build(module: &Module) -> Result<Ptx> {
    let ptx = module.builder.clone().copy_to(&module.ptx).build()?;
    println!("{}: {} KiB, {}", module.ptx.display(), ptx.text.len() / 1024, ptx.header.compiler);
    Ok(ptx)
}

/// Rebuilds beside what is checked in, and compares.
fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let tools = needed(Tools::find(&workspace.tools())?)?;
    let mut found = Vec::new();
    let mut modules = Vec::new();
    // Whether the files beside the PTX are of it.
    let mut same = true;
    for module in workspace.modules() {
        let fresh = module.builder.build()?;
        let checked_in = read(&module)?;
        found.extend(compare(&checked_in.text, &fresh));
        let built = assemble(&tools, module, fresh)?;
        found.extend(faults(&built));

        if checked_in.text == built.ptx.text {
            println!("{}: the same bytes", built.module.ptx.display());
            if checked_in.lines != built.ptx.lines {
                found.push(stale(&built.module.lines()));
            }
        } else {
            same &= !built.module.shipped;
            found.extend(check_shipped(&tools, &built, checked_in)?);
        }
        modules.push(built);
    }
    if same {
        found.extend(compare_files(workspace, &tools, &modules)?);
    }
    Ok(found)
}

/// What is wrong with PTX that is checked in and of another compiler than the one at work here, beyond what
/// is wrong with a fresh build: nobody has looked at it yet.
fn check_shipped(tools: &Tools, fresh: &Built, checked_in: Ptx) -> Result<Vec<String>> {
    let path = fresh.module.ptx.display();
    if checked_in.header.compiler == fresh.ptx.header.compiler {
        return Ok(Vec::new());
    }
    let compiler = &fresh.ptx.header.compiler;
    println!("{path}: another compiler is at work here ({compiler}), so bytes are not compared");
    if let Some(leftover) = leftovers(&checked_in.text).first() {
        bail!("{path}: {leftover}");
    }
    let known = faults(fresh);
    let shipped = assemble(tools, fresh.module.clone(), checked_in)?;
    Ok(faults(&shipped).into_iter().filter(|fault| !known.contains(fault)).collect())
}

/// Compares the report, which names the tools that made it, and the cubins that are there.
fn compare_files(workspace: &Workspace, tools: &Tools, modules: &[Built]) -> Result<Vec<String>> {
    let path = workspace.report();
    let checked_in = read_text(&path)?;
    if !checked_in.contains(tools.versions()) {
        println!("{}: made with other tools than {}, not compared", path.display(), tools.versions());
        return Ok(Vec::new());
    }
    let mut faults = Vec::new();
    if checked_in != report_of(tools, modules) {
        faults.push(stale(&path));
    }
    for built in modules {
        for cubin in &built.cubins {
            let path = built.module.cubin(cubin.arch).filter(|path| path.is_file());
            if let Some(path) = path
                && fs::read(&path)? != cubin.bytes
            {
                faults.push(stale(&path));
            }
        }
    }
    Ok(faults)
}

/// Assembles for all architectures that a module must run on, all at once.
fn assemble(tools: &Tools, module: Module, ptx: Ptx) -> Result<Built> {
    let text = ptx.text.as_str();
    let cubins = thread::scope(|scope| {
        let start = |arch| scope.spawn(move || tools.assemble(text, arch));
        let running: Vec<_> = module.arch.targets().into_iter().map(start).collect();
        running
            .into_iter()
            .map(|one| one.join().expect("assembling does not panic"))
            .collect::<Result<_, _>>()
    })?;
    Ok(Built { module, ptx, cubins })
}

/// The fault of a file beside the PTX.
fn stale(path: &Path) -> String {
    format!("{} is not what the same tools make now: {REBUILD}", path.display())
}

fn faults(built: &Built) -> Vec<String> {
    built.cubins.iter().flat_map(|cubin| inspect(&built.module.specs, cubin)).collect()
}

/// The report on all that is shipped.
fn report_of(tools: &Tools, modules: &[Built]) -> String {
    let shipped = modules.iter().filter(|built| built.module.shipped);
    let sections = shipped.map(|Built { module, ptx, cubins }| Section {
        file: module.file(),
        header: &ptx.header,
        specs: &module.specs,
        cubins,
    });
    report(tools.versions(), &sections.collect::<Vec<_>>())
}

/// Those that there are, or how to get them.
fn needed(tools: Option<Tools>) -> Result<Tools> {
    tools.with_context(|| {
        format!(
            "no ptxas here: get it with `scripts/install-gpu-toolchain`, or name one that has nvdisasm \
             beside it in {PTXAS_VARIABLE}"
        )
    })
}

/// The PTX that is checked in.
fn read(module: &Module) -> Result<Ptx> {
    let text = read_text(&module.ptx)?;
    let header = Header::parse(&text).with_context(|| module.ptx.display().to_string())?;
    Ok(Ptx { text, lines: read_text(&module.lines())?, header })
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

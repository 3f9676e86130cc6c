//! The command: compiles the workspace's `kernels/`, reports, checks.

mod workspace;

use std::{fs, process::ExitCode, thread};

use anyhow::{Context, Result, bail};
use clap::Parser;
use cuda_builder::{
    Arch, Cubin, Fault, Header, PTXAS_VARIABLE, Ptx, Tools, compare, inspect, leftovers, report,
};

use workspace::{Module, Workspace};

/// Compiles kernels/ to PTX, writes kernels/ptx/ and reports what ptxas makes of it.
///
/// Needs a Rust toolchain that can compile for GPUs, and for the report NVIDIA's ptxas and nvdisasm;
/// scripts/install-gpu-toolchain gets both. Exits with 1 if a kernel spills, has stack, exceeds its registers, lacks tensor
/// cores or loads narrowly.
#[derive(Parser)]
struct Arguments {
    /// Writes nothing; fails, too, if kernels/ptx/ is not what the sources make now.
    #[arg(long, conflicts_with = "report")]
    check: bool,

    /// Compiles nothing; assembles the PTX in kernels/ptx/ and writes the report.
    #[arg(long)]
    report: bool,

    /// Writes a cubin for each architecture, too. Without this, only cubins that are there already are written anew.
    #[arg(long, conflicts_with = "check")]
    cubins: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let faults = Module::ALL.into_iter().map(|module| {
        let workspace = Workspace::find(module);
        if arguments.check {
            check(&workspace)
        } else if arguments.report {
            report_only(&workspace, arguments.cubins)
        } else {
            build(&workspace, arguments.cubins)
        }
    });
    match faults.collect::<Result<Vec<_>>>().map(|faults| faults.concat()) {
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

/// Compiles and writes everything, faults or not: they are easier to find with the files at hand.
fn build(workspace: &Workspace, all_cubins: bool) -> Result<Vec<Fault>> {
    let ptx = workspace.builder().copy_to(workspace.ptx()).build()?;
    println!("{}: {} KiB, {}", workspace.ptx().display(), ptx.text.len() / 1024, ptx.header.compiler);
    match Tools::find(&workspace.tools())? {
        Some(tools) => assemble_and_write(workspace, &tools, &ptx.header, &ptx.text, all_cubins),
        None => {
            println!(
                "no ptxas here, so neither report nor check of registers: get it with `scripts/install-gpu-toolchain`, or name \
                 it in {PTXAS_VARIABLE}"
            );
            Ok(Vec::new())
        }
    }
}

/// From the PTX that is there.
fn report_only(workspace: &Workspace, all_cubins: bool) -> Result<Vec<Fault>> {
    let text = read(workspace)?;
    assemble_and_write(workspace, &tools(workspace)?, &Header::parse(&text)?, &text, all_cubins)
}

/// Rebuilds beside what is checked in, and compares.
fn check(workspace: &Workspace) -> Result<Vec<Fault>> {
    let tools = tools(workspace)?;
    let fresh = workspace.builder().build()?;
    let checked_in = read(workspace)?;
    let mut faults = compare(&checked_in, &fresh);

    let cubins = assemble(&tools, &fresh.text)?;
    faults.extend(cubins.iter().flat_map(|cubin| inspect(&workspace.specs(), cubin)));

    if checked_in == fresh.text {
        println!("{}: the same bytes", workspace.ptx().display());
        faults.extend(compare_files(workspace, &tools, &fresh, &cubins)?);
    } else if Header::parse(&checked_in).is_ok_and(|header| header.compiler != fresh.header.compiler) {
        // Then what is shipped has not been looked at yet.
        println!(
            "{}: another compiler is at work here ({}), so bytes are not compared",
            workspace.ptx().display(),
            fresh.header.compiler
        );
        if let Some(leftover) = leftovers(&checked_in).first() {
            bail!("{}: {leftover}", workspace.ptx().display());
        }
        let shipped = assemble(&tools, &checked_in)?;
        for fault in shipped.iter().flat_map(|cubin| inspect(&workspace.specs(), cubin)) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    Ok(faults)
}

/// Compares the report, which names the tools that made it, and the cubins that are there.
fn compare_files(workspace: &Workspace, tools: &Tools, fresh: &Ptx, cubins: &[Cubin]) -> Result<Vec<Fault>> {
    let Some(path) = workspace.report() else { return Ok(Vec::new()) };
    let checked_in = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !checked_in.contains(tools.versions()) {
        println!("{}: made with other tools than {}, not compared", path.display(), tools.versions());
        return Ok(Vec::new());
    }
    let mut faults = Vec::new();
    if checked_in != report(&fresh.header, tools.versions(), &workspace.specs(), cubins) {
        faults.push(Fault::File { file: path.display().to_string() });
    }
    for cubin in cubins {
        if let Some(path) = workspace.cubin(cubin.arch).filter(|path| path.is_file()) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if bytes != cubin.bytes {
                faults.push(Fault::File { file: path.display().to_string() });
            }
        }
    }
    Ok(faults)
}

fn assemble_and_write(
    workspace: &Workspace,
    tools: &Tools,
    header: &Header,
    text: &str,
    all_cubins: bool,
) -> Result<Vec<Fault>> {
    let cubins = assemble(tools, text)?;
    for cubin in &cubins {
        if let Some(path) = workspace.cubin(cubin.arch).filter(|path| all_cubins || path.is_file()) {
            fs::write(&path, &cubin.bytes).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}: {} KiB", path.display(), cubin.bytes.len() / 1024);
        }
    }
    let specs = workspace.specs();
    if let Some(path) = workspace.report() {
        fs::write(&path, report(header, tools.versions(), &specs, &cubins))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {}", path.display(), tools.versions());
    }
    Ok(cubins.iter().flat_map(|cubin| inspect(&specs, cubin)).collect())
}

/// Assembles for all architectures, all at once.
fn assemble(tools: &Tools, ptx: &str) -> Result<Vec<Cubin>> {
    thread::scope(|scope| {
        let running = Arch::ALL.map(|arch| scope.spawn(move || tools.assemble(ptx, arch)));
        running.into_iter().map(|one| Ok(one.join().expect("assembling does not panic")?)).collect()
    })
}

fn tools(workspace: &Workspace) -> Result<Tools> {
    match Tools::find(&workspace.tools())? {
        Some(tools) => Ok(tools),
        None => bail!(
            "no ptxas here: get it with `scripts/install-gpu-toolchain`, or name one that has nvdisasm beside it in {PTXAS_VARIABLE}"
        ),
    }
}

fn read(workspace: &Workspace) -> Result<String> {
    let path = workspace.ptx();
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

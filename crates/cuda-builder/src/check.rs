//! What a build must keep to. All faults are found, not the first alone; each is a sentence for people.

use crate::{
    builder::Ptx,
    header::Header,
    ptxas::{Assembled, Cubin},
    sass::Step,
    spec::{KernelSpec, Product},
};

/// The command that mends a file that is out of date.
pub const REBUILD: &str = "rebuild with `cargo run -p cuda-builder`";

/// Compares PTX that is checked in with a fresh build: at most one fault.
///
/// Bytes are compared if the same compiler made both: another one may make others of the same sources.
#[must_use]
pub fn compare(checked_in: &str, fresh: &Ptx) -> Option<String> {
    let header = match Header::parse(checked_in) {
        Ok(header) => header,
        Err(error) => return Some(error.to_string()),
    };
    let (recorded, now) = (&header.sources, &fresh.header.sources);
    if recorded != now {
        return Some(format!("the PTX was made of other sources ({recorded}; now {now}): {REBUILD}"));
    }
    if header.compiler != fresh.header.compiler || checked_in == fresh.text {
        return None;
    }
    let (mut old, mut new) = (checked_in.lines(), fresh.text.lines());
    let mut line = 1;
    let (old, new) = loop {
        match (old.next(), new.next()) {
            (Some(old), Some(new)) if old == new => line += 1,
            differ => break differ,
        }
    };
    let [old, new] = [old, new].map(|line| line.unwrap_or("end of file").trim());
    Some(format!(
        "line {line} differs from what the same compiler makes now: {REBUILD}\n    checked in: {old}\n    \
         now:        {new}"
    ))
}

/// Checks the kernels of a cubin against their rows in the table.
#[must_use]
pub fn inspect(specs: &[KernelSpec], cubin: &Cubin) -> Vec<String> {
    let arch = cubin.arch;
    let mut faults: Vec<_> = cubin.warnings.iter().map(|text| format!("ptxas on {arch}: {text}")).collect();
    for spec in specs {
        let found = match cubin.kernels.get(&spec.name) {
            Some(kernel) => inspect_kernel(spec, kernel),
            None => vec!["ptxas made no such kernel".to_owned()],
        };
        faults.extend(found.into_iter().map(|fault| format!("{} on {arch}: {fault}", spec.name)));
    }
    faults
}

fn inspect_kernel(spec: &KernelSpec, kernel: &Assembled) -> Vec<String> {
    let code = &kernel.code;
    let mut faults = Vec::new();
    let (stores, loads) = (kernel.spill_stores, kernel.spill_loads);
    if stores > 0 || loads > 0 {
        faults.push(format!("{stores} bytes of spill stores, {loads} of spill loads"));
    }
    let (stack, local) = (kernel.stack, code.count("LDL") + code.count("STL"));
    if stack > 0 || local > 0 {
        faults.push(format!("{stack} bytes of stack, {local} instructions on local memory"));
    }
    let (used, budget) = (kernel.registers, spec.max_registers);
    if used > budget {
        faults.push(format!("{used} registers, {budget} in its row of the table"));
    }
    if let Some(product) = spec.product {
        let (loops, instruction, demanded) = match product {
            Product::Mma => (code.main_loops, "HMMA", 0),
            Product::Wgmma { in_flight } => (code.wgmma_loops, "HGMMA", in_flight),
        };
        let (anywhere, found) = (code.count(instruction), code.wgmma_in_flight);
        if loops == 0 {
            faults
                .push(format!("multiplies matrices, and has no {instruction} in a loop ({anywhere} at all)"));
        } else if found < demanded {
            faults.push(format!(
                "its main loops leave {found} groups of wgmma in flight, {demanded} in its row of the table"
            ));
        }
    }
    if let Some(budgets) = spec.max_step {
        let loops = [("consumer", &code.consumer_steps), ("producer", &code.producer_steps)];
        for ((role, steps), budget) in loops.into_iter().zip(budgets) {
            if steps.is_empty() {
                faults.push(format!("has no {role} loop"));
            }
            for (number, step) in (1..).zip(steps).filter(|(_, step)| step.instructions > budget) {
                let Step { instructions, r2ur } = step;
                faults.push(format!(
                    "{role} loop {number} has {instructions} instructions a step ({r2ur} R2UR), {budget} in \
                     its row of the table"
                ));
            }
        }
    }
    let (copies, loads) = (code.count("LDGSTS") - code.count("LDGSTS 128"), code.narrow_loads);
    if spec.aligned && (copies > 0 || loads > 0) {
        faults.push(format!(
            "its operands are aligned, and {copies} copies and {loads} loads in its main loops move fewer \
             than 16 bytes"
        ));
    }
    let missing = spec.machine_code.iter().filter(|words| !code.has(words));
    faults.extend(missing.map(|parts| format!("there is no {parts} in its code")));
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{arch::Arch, sass::Code};

    fn mnemonics(of: &[&str]) -> BTreeMap<String, u32> {
        of.iter().map(|&mnemonic| (mnemonic.to_owned(), 1)).collect()
    }

    fn cubin(arch: Arch, registers: u32, code: Code) -> Cubin {
        let kernel = Assembled { registers, code, ..Assembled::default() };
        Cubin { arch, bytes: Vec::new(), kernels: [("gemm".to_owned(), kernel)].into(), warnings: Vec::new() }
    }

    /// A kernel that multiplies by HMMA, and its row.
    fn ampere() -> (KernelSpec, Cubin) {
        let spec = KernelSpec {
            name: "gemm".to_owned(),
            max_registers: 128,
            product: Some(Product::Mma),
            aligned: true,
            machine_code: vec!["LDSM M88".to_owned()],
            ..KernelSpec::default()
        };
        let mnemonics = mnemonics(&["LDSM.16.M88.4", "HMMA.16816.F32", "LDGSTS.E.BYPASS.128", "EXIT"]);
        (spec, cubin(Arch::Sm80, 128, Code { main_loops: 1, mnemonics, ..Code::default() }))
    }

    /// One for Hopper: loads by multicast and stores by tensor copies, one group of products in flight.
    fn hopper() -> (KernelSpec, Cubin) {
        let spec = KernelSpec {
            max_registers: 168,
            product: Some(Product::Wgmma { in_flight: 1 }),
            tensor_maps: true,
            max_step: Some([45, 32]),
            machine_code: ["UTMALDG", "UTMALDG MULTICAST", "UTMASTG"].map(str::to_owned).into(),
            ..ampere().0
        };
        let mnemonics =
            mnemonics(&["UTMALDG.2D", "UTMALDG.2D.MULTICAST", "UTMASTG.2D", "HGMMA.64x256x16.F32", "EXIT"]);
        let step = |instructions| Step { instructions, r2ur: 2 };
        let (consumer_steps, producer_steps) = (vec![step(30), step(45)], vec![step(32)]);
        let code = Code {
            wgmma_loops: 1,
            wgmma_in_flight: 1,
            mnemonics,
            consumer_steps,
            producer_steps,
            ..Code::default()
        };
        (spec, cubin(Arch::Sm90a, 168, code))
    }

    type Change = fn(&mut Assembled);

    /// Calls an instruction by another name.
    fn rename(kernel: &mut Assembled, old: &str, new: &str) {
        let count = kernel.code.mnemonics.remove(old).expect("an instruction");
        kernel.code.mnemonics.insert(new.to_owned(), count);
    }

    /// The faults after `change` was made to the kernel.
    fn faults((spec, mut cubin): (KernelSpec, Cubin), change: Change) -> Vec<String> {
        change(cubin.kernels.get_mut("gemm").expect("the kernel"));
        inspect(&[spec], &cubin)
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(faults(ampere(), |_| ()), [""; 0]);
        let cases: [(Change, &str); 10] = [
            (|k| k.spill_stores = 4, "4 bytes of spill stores, 0 of spill loads"),
            (|k| k.spill_loads = 4, "0 bytes of spill stores, 4 of spill loads"),
            (|k| k.stack = 16, "16 bytes of stack, 0 instructions on local memory"),
            (|k| rename(k, "EXIT", "LDL.64"), "0 bytes of stack, 1 instructions on local memory"),
            (|k| rename(k, "EXIT", "STL"), "0 bytes of stack, 1 instructions on local memory"),
            (|k| k.registers = 129, "129 registers, 128 in its row of the table"),
            (|k| k.code.main_loops = 0, "multiplies matrices, and has no HMMA in a loop (1 at all)"),
            (
                |k| rename(k, "LDGSTS.E.BYPASS.128", "LDGSTS.E"),
                "its operands are aligned, and 1 copies and 0 loads in its main loops move fewer than 16 \
                 bytes",
            ),
            (
                |k| k.code.narrow_loads = 2,
                "its operands are aligned, and 0 copies and 2 loads in its main loops move fewer than 16 \
                 bytes",
            ),
            (|k| rename(k, "LDSM.16.M88.4", "LDS.M88"), "there is no LDSM M88 in its code"),
        ];
        for (change, fault) in cases {
            assert_eq!(faults(ampere(), change), [format!("gemm on sm_80: {fault}")]);
        }
    }

    #[test]
    fn kernels_without_the_demand_may_lack_it() {
        let (spec, cubin) = ampere();
        let spec = KernelSpec { product: None, aligned: false, machine_code: Vec::new(), ..spec };
        let change: Change = |kernel| (kernel.code.main_loops, kernel.code.narrow_loads) = (0, 3);
        assert_eq!(faults((spec, cubin), change), [""; 0]);
    }

    #[test]
    fn each_fault_of_a_kernel_for_hopper_is_found() {
        assert_eq!(faults(hopper(), |_| ()), [""; 0]);
        let no_loop = "multiplies matrices, and has no HGMMA in a loop (1 at all)";
        let (multicast, store) =
            ("there is no UTMALDG MULTICAST in its code", "there is no UTMASTG in its code");
        let cases: [(Change, &[&str]); 9] = [
            (
                |k| k.code.consumer_steps[1].instructions = 46,
                &["consumer loop 2 has 46 instructions a step (2 R2UR), 45 in its row of the table"],
            ),
            (
                |k| k.code.producer_steps[0].instructions = 33,
                &["producer loop 1 has 33 instructions a step (2 R2UR), 32 in its row of the table"],
            ),
            (|k| k.code.producer_steps.clear(), &["has no producer loop"]),
            // HMMA in a loop does not do for HGMMA.
            (|k| (k.code.wgmma_loops, k.code.main_loops) = (0, 1), &[no_loop]),
            (
                |k| k.code.wgmma_in_flight = 0,
                &["its main loops leave 0 groups of wgmma in flight, 1 in its row of the table"],
            ),
            (|k| k.registers = 176, &["176 registers, 168 in its row of the table"]),
            (|k| k.code.mnemonics.retain(|name, _| name != "UTMALDG.2D.MULTICAST"), &[multicast]),
            (|k| k.code.mnemonics.retain(|name, _| name != "UTMASTG.2D"), &[store]),
            (
                |k| k.code.mnemonics.retain(|name, _| !name.starts_with("UTMALDG")),
                &["there is no UTMALDG in its code", multicast],
            ),
        ];
        for (change, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|fault| format!("gemm on sm_90a: {fault}")).collect();
            assert_eq!(faults(hopper(), change), expected);
        }
    }

    #[test]
    fn a_missing_kernel_and_a_warning_are_faults() {
        let (spec, mut cubin) = ampere();
        cubin.kernels.clear();
        cubin.warnings.push("ptxas info : (C7510) ..".to_owned());
        let expected =
            ["ptxas on sm_80: ptxas info : (C7510) ..", "gemm on sm_80: ptxas made no such kernel"];
        assert_eq!(inspect(&[spec], &cubin), expected);
    }

    #[test]
    fn checked_in_ptx_is_compared_where_the_same_compiler_made_both() {
        let ptx = |sources: &str, compiler: &str, body: &str| {
            let [sources, compiler, flags] = [sources, compiler, "-C"].map(str::to_owned);
            let header = Header { sources, compiler, flags };
            Ptx { text: format!("{header}{body}"), lines: String::new(), header }
        };
        let compare = |old: Ptx, new: Ptx| compare(&old.text, &new);
        assert_eq!(compare(ptx("1", "rustc 1", "a\n"), ptx("1", "rustc 1", "a\n")), None);
        assert_eq!(compare(ptx("1", "rustc 1", "a\n"), ptx("1", "rustc 2", "b\n")), None);
        let sources = compare(ptx("1", "rustc 1", "a\n"), ptx("2", "rustc 1", "a\n"));
        let expected = format!("the PTX was made of other sources (1; now 2): {REBUILD}");
        assert_eq!(sources, Some(expected));
        for (old, new, line, [shown_old, shown_new]) in [
            ("a\nb\n", "a\nc\n", 6, ["b", "c"]),
            ("a\n", "a\nc\n", 6, ["end of file", "c"]),
            ("a", "a\n", 6, ["end of file", "end of file"]),
        ] {
            let found = compare(ptx("1", "rustc 1", old), ptx("1", "rustc 1", new)).expect("a fault");
            let ends = format!("\n    checked in: {shown_old}\n    now:        {shown_new}");
            assert!(found.starts_with(&format!("line {line} differs ")) && found.ends_with(&ends), "{found}");
        }
        let none = super::compare("", &ptx("1", "rustc 1", "a\n")).expect("a fault");
        assert!(none.contains("`// sources: ..`"), "{none}");
    }
}

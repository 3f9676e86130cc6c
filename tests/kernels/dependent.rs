//! Chains of layers: a launch that may begin before the one ahead has ended, and reads what that writes.

use fused_lora::Strategy;
use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_simt::{Action, Launch, Machine, Op, Schedule, Site};

use crate::{
    case::{Case, kernel},
    setup::Setup,
    suite::schedules,
};

/// Kernels of two layers, one after the other.
const CHAINS: [[&str; 2]; 6] = [
    ["sm90_gemm_64x16", "sm90_gemm_64x32"],
    ["sm90_gemm_split_k_64x64", "sm90_gemm_64x16"],
    ["sm90_gemm_64x32", "sm90_gemm_split_k_64x64"],
    ["sm90_fused_cooperative_64x32_h32", "sm90_fused_cooperative_64x64_h16"],
    // On one workspace.
    ["sm90_fused_64x64", "sm90_fused_64x64"],
    ["sm90_fused_64x64", "sm90_fused_128x128"],
];

/// Two layers in a machine: x of the second is y of the first.
struct Chain {
    machine: Machine,
    kernels: [&'static Kernel; 2],
    layers: [Setup; 2],
}

impl Chain {
    fn new(names: [&str; 2]) -> Self {
        let kernels @ [first, second] = names.map(kernel);
        let mut machine = Machine::new();
        let case = |n: usize, k: usize, kernel: &Kernel| {
            Case { bias: true, seed: 17, ..Case::new(100, n, k, 30) }.adapted_to(kernel)
        };
        let ahead = Setup::new(&mut machine, &case(136, 72, first), first);
        ahead.run(&mut machine, first, &Schedule::default()).unwrap();
        let behind = Setup::new(&mut machine, &case(40, 136, second), second);
        let workspace = ahead.workspace;
        let mut behind = behind.behind(&machine, &ahead);
        if kernels.iter().all(|kernel| kernel.operation == Operation::Fused) {
            behind = behind.on(workspace);
        }
        Self { machine, kernels, layers: [ahead, behind] }
    }

    /// Runs both launches, the second as a dependent of the first, and holds both to the reference.
    fn run(&mut self, schedule: &Schedule) -> Result<(), String> {
        let Self { machine, kernels, layers } = self;
        for (layer, kernel) in layers.iter().zip(&*kernels) {
            layer.workspace.reset(machine);
            layer.poison(machine);
            assert!(kernel.name.starts_with("sm90"), "others do not wait");
        }
        let launch = |i: usize| layers[i].launch(kernels[i], layers[i].params);
        let launches: [Launch; 2] = [launch(0), launch(1).programmatic()];
        machine.run(&launches, schedule).map_err(|report| report.to_string())?;
        layers.iter().zip(&*kernels).try_for_each(|(layer, kernel)| match kernel.operation {
            Operation::Gemm | Operation::GemmSplitK => layer.check(machine, Strategy::Base),
            _ => layer.check(machine, Strategy::Fused),
        })
    }
}

/// With `griddepcontrol.wait` the second sees all of the first; without it, it does not, or takes its
/// workspace away.
#[test]
fn a_dependent_launch_waits() {
    for names in CHAINS {
        let mut chain = Chain::new(names);
        for schedule in schedules(0, 8) {
            chain.run(&schedule).unwrap_or_else(|error| panic!("{names:?}: {error}\n{schedule:?}"));
        }
        let mut without = |action| {
            schedules(0, 8).into_iter().any(|schedule| {
                let mutation = Site::all(Op::GriddepcontrolWait).does(action);
                chain.run(&schedule.with(mutation)).is_err()
            })
        };
        assert!(without(Action::Drop), "{names:?}: nobody misses the wait");
        assert!(without(Action::Weaken), "{names:?}: nobody misses what the wait orders");
    }
}

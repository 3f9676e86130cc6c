//! Loops in machine code, found in its control flow and not in the order of its text.
//!
//! ptxas moves blocks: the slow path of a wait on an mbarrier lies behind the kernel's last `EXIT` and jumps
//! back into the middle of it, parts of a loop lie before its start. What is between a jump back and its
//! target is therefore no loop. A loop is a set of blocks each of which can be reached from each other (a
//! strongly connected component); without its header, the loops inside it are left (as in Bourdoncle,
//! "Efficient chaotic iteration strategies with widenings", 1993).

use std::{collections::BTreeMap, ops::Range};

use petgraph::{
    Direction::Incoming,
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
    visit::{Dfs, NodeFiltered, Walker},
};

use super::listing::Instruction;

/// Blocks of instructions that run one after another, and where they lead.
type Graph = DiGraph<Range<usize>, ()>;

/// The innermost loops with an instruction that is `wanted`: each the instructions in it, by index and in
/// order.
///
/// A loop around such a loop is none. A loop inside, without such an instruction, is a part of it: a wait,
/// say.
pub(super) fn innermost(
    code: &[Instruction<'_>],
    labels: &BTreeMap<&str, usize>,
    wanted: impl Fn(&Instruction<'_>) -> bool,
) -> Vec<Vec<usize>> {
    let graph = graph(code, labels);
    let instructions = |blocks: Vec<NodeIndex>| blocks.into_iter().flat_map(|block| graph[block].clone());
    innermost_blocks(&graph, code, wanted).into_iter().map(|blocks| instructions(blocks).collect()).collect()
}

/// The same, each without what runs only where a wait on an mbarrier does not pass at once: a step on the way
/// that matters.
pub(super) fn steps(
    code: &[Instruction<'_>],
    labels: &BTreeMap<&str, usize>,
    wanted: impl Fn(&Instruction<'_>) -> bool,
) -> Vec<Vec<usize>> {
    let graph = graph(code, labels);
    let instructions = |blocks: Vec<NodeIndex>| blocks.into_iter().flat_map(|block| graph[block].clone());
    let loops = innermost_blocks(&graph, code, wanted).into_iter();
    loops.map(|blocks| instructions(without_waits(&graph, code, blocks)).collect()).collect()
}

fn innermost_blocks(
    graph: &Graph,
    code: &[Instruction<'_>],
    wanted: impl Fn(&Instruction<'_>) -> bool,
) -> Vec<Vec<NodeIndex>> {
    // What no path leads to is padding.
    let reached: Vec<_> = Dfs::new(graph, NodeIndex::new(0)).iter(graph).collect();
    let is_wanted = |block: NodeIndex| graph[block].clone().any(|at| wanted(&code[at]));
    let mut found = Vec::new();
    add_innermost(graph, &reached, &is_wanted, &mut found);
    found.sort_unstable();
    found
}

/// A loop without the loops inside it that do nothing but try a wait again, and what those alone lead to. All
/// of it, where no way around is left then: the first try is not in front of such a loop.
fn without_waits(graph: &Graph, code: &[Instruction<'_>], blocks: Vec<NodeIndex>) -> Vec<NodeIndex> {
    let header = header(graph, &blocks);
    let inside = NodeFiltered::from_fn(graph, |block| block != header && blocks.contains(&block));
    let tries = |component: &Vec<NodeIndex>| {
        let is_loop = component.len() > 1 || graph.contains_edge(component[0], component[0]);
        let mut instructions = component.iter().flat_map(|&block| graph[block].clone()).map(|at| &code[at]);
        is_loop
            && instructions.all(|one| matches!(one.opcode(), "SYNCS" | "YIELD" | "NANOSLEEP" | "BRA" | "NOP"))
    };
    let tries: Vec<_> = tarjan_scc(&inside).into_iter().filter(tries).flatten().collect();
    let rest = NodeFiltered::from_fn(graph, |block| blocks.contains(&block) && !tries.contains(&block));
    let mut step: Vec<_> = Dfs::new(&rest, header).iter(&rest).collect();
    step.sort_unstable();
    if step.iter().any(|&block| graph.contains_edge(block, header)) { step } else { blocks }
}

/// The block through which a loop is entered; one of them, if there are more. Into a loop with the kernel's
/// own start leads nothing else: all that its start reaches, and that leads back, is in it.
fn header(graph: &Graph, blocks: &[NodeIndex]) -> NodeIndex {
    let entered =
        |block: &&NodeIndex| graph.neighbors_directed(**block, Incoming).any(|from| !blocks.contains(&from));
    *blocks.iter().find(entered).unwrap_or(&blocks[0])
}

fn graph(code: &[Instruction<'_>], labels: &BTreeMap<&str, usize>) -> Graph {
    let mut starts = vec![0];
    starts.extend(labels.values());
    starts.extend((0..code.len()).filter(|&at| leads(&code[at]) != (false, true)).map(|at| at + 1));
    starts.retain(|&start| start < code.len());
    starts.sort_unstable();
    starts.dedup();

    let mut graph = Graph::new();
    let ends = starts.iter().copied().skip(1).chain([code.len()]);
    let blocks: Vec<_> = starts.iter().zip(ends).map(|(&start, end)| graph.add_node(start..end)).collect();
    for (number, &block) in blocks.iter().enumerate() {
        let last = &code[graph[block].end - 1];
        let (to_labels, on) = leads(last);
        let targets = last.labels().filter(|_| to_labels).filter_map(|label| labels.get(label));
        let targets = targets.filter_map(|target| starts.binary_search(target).ok());
        for next in targets.chain(on.then_some(number + 1)).filter_map(|next| blocks.get(next)) {
            graph.update_edge(block, *next, ());
        }
    }
    graph
}

/// Adds the innermost loops inside `blocks` that have a wanted block.
fn add_innermost(
    graph: &Graph,
    blocks: &[NodeIndex],
    wanted: &impl Fn(NodeIndex) -> bool,
    found: &mut Vec<Vec<NodeIndex>>,
) {
    for mut component in tarjan_scc(&NodeFiltered::from_fn(graph, |block| blocks.contains(&block))) {
        component.sort_unstable();
        let is_loop = component.len() > 1 || graph.contains_edge(component[0], component[0]);
        if !is_loop || !component.iter().any(|&block| wanted(block)) {
            continue;
        }
        let header = header(graph, &component);
        let body: Vec<_> = component.iter().copied().filter(|&block| block != header).collect();
        let before = found.len();
        add_innermost(graph, &body, wanted, found);
        if found.len() == before {
            found.push(component);
        }
    }
}

/// Whether the control flow goes from an instruction to the labels that it names, and whether to the next
/// one; to neither where a thread ends or returns.
fn leads(instruction: &Instruction<'_>) -> (bool, bool) {
    match instruction.opcode() {
        // A jump has a condition as its guard, as its first operand (`BRA P0, ..`, `BRA.U UP0, ..`), or in
        // its name.
        "BRA" | "JMP" => {
            let always = !instruction.guarded
                && instruction.operands.starts_with('`')
                && !instruction.has("DIV")
                && !instruction.has("ANY");
            (true, !always)
        }
        "BRX" | "BRXU" | "JMX" => (true, instruction.guarded),
        // It comes back; where it does not, it is a jump that is reached all the same.
        "CALL" => (true, true),
        "EXIT" | "RET" | "KILL" => (false, instruction.guarded),
        _ => (false, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Wanted = fn(&Instruction<'_>) -> bool;

    /// What `find` finds with `HGMMA` in a listing: lines of code, and labels with a colon.
    fn with(
        listing: &str,
        find: impl Fn(&[Instruction<'_>], &BTreeMap<&str, usize>, Wanted) -> Vec<Vec<usize>>,
    ) -> Vec<Vec<usize>> {
        let (mut labels, mut code) = (BTreeMap::new(), Vec::new());
        let lines: Vec<_> = listing.split('/').map(str::trim).collect();
        let lines: Vec<_> = lines.iter().map(|line| format!("/*0*/ {line} ;")).collect();
        for line in &lines {
            match line[6..].split_once(':') {
                Some((label, _)) => drop(labels.insert(&label[1..], code.len())),
                None => code.push(Instruction::parse(line).expect("an instruction")),
            }
        }
        find(&code, &labels, |instruction| instruction.opcode() == "HGMMA")
    }

    fn loops(listing: &str) -> Vec<Vec<usize>> {
        with(listing, innermost)
    }

    #[test]
    fn a_loop_is_what_leads_back_to_itself() {
        assert_eq!(loops("NOP/.L1:/HGMMA R0/@P0 BRA `(.L1)/EXIT"), [vec![1, 2]]);
        assert_eq!(loops("NOP/.L1:/HGMMA R0/BRA.U UP0, `(.L1)/EXIT"), [vec![1, 2]]);
        assert_eq!(loops("NOP/.L1:/BRA P0, `(.L2)/HGMMA R0/BRA `(.L1)/.L2:/EXIT"), [vec![1, 2, 3]]);
    }

    #[test]
    fn a_slow_path_behind_the_end_makes_no_loop() {
        let wait = ".L0:/@!P0 BRA `(.L9)/.L1:/HGMMA R0/EXIT/.L9:/NOP/@!P0 BRA `(.L9)/BRA `(.L1)";
        assert_eq!(loops(wait), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_slow_path_behind_the_end_belongs_to_its_loop() {
        let wait = ".L0:/@!P0 BRA `(.L9)/.L1:/HGMMA R0/@P1 BRA `(.L0)/LDG R0/EXIT/.L9:/NOP/@!P0 BRA \
         `(.L9)/BRA `(.L1)";
        assert_eq!(loops(wait), [vec![0, 1, 2, 5, 6, 7]]);
    }

    #[test]
    fn a_step_goes_without_further_tries_of_a_wait() {
        let steps = |listing: &str| with(listing, steps);
        // The slow path of a wait, and another one that is part of the step: it copies.
        let wait = ".L0:/@!P0 BRA `(.L9)/.L1:/HGMMA R0/@P1 BRA `(.L0)/EXIT/.L9:/SYNCS R0/@!P0 BRA `(.L9)/BRA \
         `(.L1)";
        assert_eq!(steps(wait), [vec![0, 1, 2]]);
        let copies = wait.replace("SYNCS R0", "UTMALDG R0");
        assert_eq!(steps(&copies), [vec![0, 1, 2, 4, 5, 6]]);
        // All tries are in the loop: without them there is no way around.
        let tries = ".L0:/NOP/.L1:/SYNCS R0/@!P0 BRA `(.L1)/HGMMA R0/@P1 BRA `(.L0)/EXIT";
        assert_eq!(steps(tries), [vec![0, 1, 2, 3, 4]]);
    }

    #[test]
    fn two_loops_with_slow_paths_are_two() {
        let two = ".L0:/@!P0 BRA `(.L8)/.L1:/HGMMA R0/@P1 BRA `(.L0)\
            /.L2:/@!P0 BRA `(.L9)/.L3:/HGMMA R0/@P1 BRA `(.L2)/EXIT\
            /.L8:/@!P0 BRA `(.L8)/BRA `(.L1)/.L9:/@!P0 BRA `(.L9)/BRA `(.L3)";
        assert_eq!(loops(two), [vec![0, 1, 2, 7, 8], vec![3, 4, 5, 9, 10]]);
    }

    #[test]
    fn loops_around_and_loops_of_others_are_none() {
        // A persistent kernel: tiles around steps of K, a peeled step behind them, a loop that stores.
        let persistent = ".L0:/LDG R0/.L1:/HGMMA R0/@P0 BRA `(.L1)/HGMMA R0/.L2:/STG R0/@P1 BRA `(.L2)/@P2 \
         BRA `(.L0)/EXIT";
        assert_eq!(loops(persistent), [vec![1, 2]]);
    }

    #[test]
    fn blocks_before_the_start_belong_to_their_loop() {
        let moved = "BRA `(.L2)/.L1:/LDS R0/.L2:/HGMMA R0/@P0 BRA `(.L1)/EXIT";
        assert_eq!(loops(moved), [vec![1, 2, 3]]);
        // Entered at two places.
        let two = "@P0 BRA `(.L2)/.L1:/LDS R0/.L2:/HGMMA R0/@P0 BRA `(.L1)/EXIT";
        assert_eq!(loops(two), [vec![1, 2, 3]]);
    }

    #[test]
    fn what_ends_a_thread_leads_nowhere() {
        // Behind it lies what is reached by no path.
        assert_eq!(loops("EXIT/.L1:/HGMMA R0/BRA `(.L1)"), Vec::<Vec<usize>>::new());
        assert_eq!(loops("@P0 EXIT/.L1:/HGMMA R0/BRA `(.L1)"), [vec![1, 2]]);
        // Nor does an unconditional jump lead to the next instruction.
        assert_eq!(loops("BRA `(.L2)/.L1:/HGMMA R0/BRA `(.L1)/.L2:/EXIT"), Vec::<Vec<usize>>::new());
        assert_eq!(loops("BRA.DIV UR4, `(.L2)/.L1:/HGMMA R0/BRA `(.L1)/.L2:/EXIT"), [vec![1, 2]]);
        assert_eq!(loops("BRA.DIV `(.L2)/.L1:/HGMMA R0/BRA `(.L1)/.L2:/EXIT"), [vec![1, 2]]);
    }

    #[test]
    fn calls_come_back_and_tables_lead_to_all_their_labels() {
        assert_eq!(
            loops(".L1:/CALL.REL.NOINC `(.L2)/HGMMA R0/@P0 BRA `(.L1)/EXIT/.L2:/RET R0"),
            [vec![0, 1, 2]]
        );
        let table = ".L1:/BRX R2 (*\"BRANCH_TARGETS .L2,.L3\"*)/.L2:/EXIT/.L3:/HGMMA R0/BRA `(.L1)";
        assert_eq!(loops(table), [vec![0, 2, 3]]);
    }
}

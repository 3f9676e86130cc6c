//! Loops in machine code, found in its control flow and not in the order of its text.
//!
//! ptxas moves blocks: the slow path of a wait on an mbarrier lies behind the kernel's last `EXIT` and jumps
//! back into the middle of it, parts of a loop lie before its start. What is between a jump back and its
//! target is therefore no loop. A loop is a set of blocks each of which can be reached from each other (a
//! strongly connected component); without its header, the loops inside it are left (as in Bourdoncle,
//! "Efficient chaotic iteration strategies with widenings", 1993).

use std::collections::BTreeMap;

use super::listing::Instruction;

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
    let graph = Graph::of(code, labels);
    let all: Vec<_> = (0..graph.starts.len()).collect();
    // What no path leads to is padding.
    let reached = graph.reach(&all, 0, &graph.next);
    let blocks: Vec<_> = all.into_iter().filter(|&block| reached[block]).collect();
    let mut loops = Vec::new();
    graph.innermost(&blocks, &|block| graph.range(block).any(|at| wanted(&code[at])), &mut loops);
    loops
        .into_iter()
        .map(|blocks| blocks.into_iter().flat_map(|block| graph.range(block)).collect())
        .collect()
}

/// Blocks of instructions that run one after another, and where they lead.
struct Graph {
    /// The first instruction of each block.
    starts: Vec<usize>,
    /// The number of instructions.
    end: usize,
    /// Blocks that may run after each block.
    next: Vec<Vec<usize>>,
    /// Blocks that may run before each block.
    previous: Vec<Vec<usize>>,
}

impl Graph {
    fn of(code: &[Instruction<'_>], labels: &BTreeMap<&str, usize>) -> Self {
        let mut starts = vec![0];
        starts.extend(labels.values());
        starts.extend((0..code.len()).filter(|&at| leads(&code[at]) != Leads::On).map(|at| at + 1));
        starts.retain(|&start| start < code.len());
        starts.sort_unstable();
        starts.dedup();

        let mut graph = Self {
            end: code.len(),
            next: vec![Vec::new(); starts.len()],
            previous: vec![Vec::new(); starts.len()],
            starts,
        };
        for block in 0..graph.starts.len() {
            let Some(last) = graph.range(block).next_back() else { continue };
            let leads = leads(&code[last]);
            let targets = code[last].labels().filter_map(|label| labels.get(label));
            let mut next: Vec<_> = match leads {
                Leads::On | Leads::Nowhere => Vec::new(),
                Leads::ToLabels | Leads::ToLabelsOrOn => {
                    targets.filter_map(|target| graph.starts.binary_search(target).ok()).collect()
                }
            };
            if matches!(leads, Leads::On | Leads::ToLabelsOrOn) && block + 1 < graph.starts.len() {
                next.push(block + 1);
            }
            next.iter().for_each(|&to| graph.previous[to].push(block));
            graph.next[block] = next;
        }
        graph
    }

    /// The instructions of a block.
    fn range(&self, block: usize) -> std::ops::Range<usize> {
        self.starts[block]..self.starts.get(block + 1).copied().unwrap_or(self.end)
    }

    /// Which blocks can be reached from `from` along `edges` inside `blocks`; `from` is.
    fn reach(&self, blocks: &[usize], from: usize, edges: &[Vec<usize>]) -> Vec<bool> {
        let mut inside = vec![false; self.starts.len()];
        blocks.iter().for_each(|&block| inside[block] = true);
        let mut reached = vec![false; self.starts.len()];
        let mut open = vec![from];
        while let Some(block) = open.pop() {
            if inside[block] && !reached[block] {
                reached[block] = true;
                open.extend(&edges[block]);
            }
        }
        reached
    }

    /// Adds the innermost loops inside `blocks` that have a wanted block.
    fn innermost(&self, blocks: &[usize], wanted: &impl Fn(usize) -> bool, found: &mut Vec<Vec<usize>>) {
        let mut left = blocks.to_vec();
        while let Some(&first) = left.first() {
            let forward = self.reach(&left, first, &self.next);
            let backward = self.reach(&left, first, &self.previous);
            let (component, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|&block| forward[block] && backward[block]);
            left = rest;
            let is_loop = component.len() > 1 || self.next[first].contains(&first);
            if !is_loop || !component.iter().any(|&block| wanted(block)) {
                continue;
            }
            let before = found.len();
            let header = self.header(&component);
            let body: Vec<_> = component.iter().copied().filter(|&block| block != header).collect();
            self.innermost(&body, wanted, found);
            if found.len() == before {
                found.push(component);
            }
        }
    }

    /// The block through which a loop is entered; one of them, if there are more.
    fn header(&self, component: &[usize]) -> usize {
        let entered = |block: &usize| self.previous[*block].iter().any(|from| !component.contains(from));
        // Into a loop with the kernel's own start leads nothing else: all that its start reaches, and that
        // leads back, is in it.
        component.iter().copied().find(entered).unwrap_or(component[0])
    }
}

/// Where the control flow goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// To the next one.
    On,
    /// To the labels that it names.
    ToLabels,
    /// To those or to the next one.
    ToLabelsOrOn,
    /// It ends the thread, or returns.
    Nowhere,
}

fn leads(instruction: &Instruction<'_>) -> Leads {
    match instruction.opcode() {
        // A jump has a condition as its guard, as its first operand (`BRA P0, ..`, `BRA.U UP0, ..`), or in
        // its name.
        "BRA" | "JMP" => {
            let always = !instruction.guarded
                && instruction.operands.starts_with('`')
                && !instruction.has("DIV")
                && !instruction.has("ANY");
            if always { Leads::ToLabels } else { Leads::ToLabelsOrOn }
        }
        "BRX" | "BRXU" | "JMX" if !instruction.guarded => Leads::ToLabels,
        "BRX" | "BRXU" | "JMX" => Leads::ToLabelsOrOn,
        // It comes back; where it does not, it is a jump that is reached all the same.
        "CALL" => Leads::ToLabelsOrOn,
        "EXIT" | "RET" | "KILL" if !instruction.guarded => Leads::Nowhere,
        _ => Leads::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The innermost loops with `HGMMA` in a listing: lines of code, and labels with a colon.
    fn loops(listing: &str) -> Vec<Vec<usize>> {
        let (mut labels, mut code) = (BTreeMap::new(), Vec::new());
        let lines: Vec<_> = listing.split('/').map(str::trim).collect();
        let lines: Vec<_> = lines.iter().map(|line| format!("/*0*/ {line} ;")).collect();
        for line in &lines {
            match line[6..].split_once(':') {
                Some((label, _)) => drop(labels.insert(&label[1..], code.len())),
                None => code.push(Instruction::parse(line).expect("an instruction")),
            }
        }
        innermost(&code, &labels, |instruction| instruction.opcode() == "HGMMA")
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

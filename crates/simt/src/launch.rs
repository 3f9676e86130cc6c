//! A launch as the host asks for it, and which ones the machine takes.

use std::{rc::Rc, sync::Arc};

use crate::{
    clock::{MAX_BLOCK, WARP, Who},
    coverage::Marks,
    source::Source,
    state::launch::{LaunchInfo, Shape},
};

/// Most bytes of shared memory of a CTA on any device: compute capability 9.0 and 10.0.
const MAX_SHARED: u32 = 227 * 1024;

/// Most CTAs of a cluster on every device that has clusters, and on any of them when a driver is asked to.
const PORTABLE_CLUSTER: u32 = 8;
const MAX_CLUSTER: u32 = 16;

fn product(dims: [u32; 3]) -> Option<u32> {
    dims[0].checked_mul(dims[1])?.checked_mul(dims[2])
}

/// A kernel with its parameters, and how many lanes run it.
#[derive(Clone)]
pub struct Launch {
    /// The name that reports give it.
    pub name: String,
    /// CTAs.
    pub grid: u32,
    /// Lanes of a CTA: a multiple of 32, at most 1024.
    pub block: u32,
    /// Bytes of dynamic shared memory of a CTA.
    pub shared_bytes: u32,
    /// CTAs of a cluster, along x: consecutive ones. The grid is a multiple of it.
    pub cluster: u32,
    /// Whether more than 8 CTAs of a cluster are meant: not every device takes them.
    pub nonportable: bool,
    /// Registers of a lane when it starts, for `setmaxnreg`. The machine counts no others.
    pub registers: u32,
    /// Whether this launch depends programmatically on those before it in the same run: it may begin before
    /// they end, and is ordered after them by `griddepcontrol.wait` alone.
    pub programmatic: bool,
    /// What each lane runs. When a run fails, lanes stop wherever they are, and what they hold on their
    /// stacks is forgotten without being dropped: kernels hold nothing that must be dropped.
    pub kernel: Rc<dyn Fn()>,
    /// Its dimensions; those of [`grid`](Self::grid), [`block`](Self::block) and [`cluster`](Self::cluster)
    /// where these are all along x.
    pub(crate) shape: Option<Shape>,
    /// The PTX module that it is of, and what its lanes have tried of the entry.
    pub(crate) ptx: Option<(Arc<Source>, Rc<Marks>)>,
}

impl Launch {
    /// A launch.
    pub fn new(
        name: impl Into<String>,
        grid: u32,
        block: u32,
        shared_bytes: u32,
        kernel: impl Fn() + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            grid,
            block,
            shared_bytes,
            cluster: 1,
            nonportable: false,
            registers: 168,
            programmatic: false,
            kernel: Rc::new(kernel),
            shape: None,
            ptx: None,
        }
    }

    /// The same in clusters of so many CTAs, at most 8.
    #[must_use]
    pub fn cluster(self, ctas: u32) -> Self {
        Self { cluster: ctas, shape: None, ..self }
    }

    /// The same in these dimensions; the products take the place of `grid`, `block` and `cluster`. One that
    /// is none is refused when it is run.
    #[must_use]
    pub fn dimensions(self, grid: [u32; 3], block: [u32; 3], cluster: [u32; 3]) -> Self {
        let [ctas, lanes, peers] = [grid, block, cluster].map(|dims| product(dims).unwrap_or(0));
        Self { grid: ctas, block: lanes, cluster: peers, shape: Some(Shape { grid, block, cluster }), ..self }
    }

    /// The same with up to 16 CTAs in a cluster, where a device takes that.
    #[must_use]
    pub fn nonportable(self) -> Self {
        Self { nonportable: true, ..self }
    }

    /// The same with so many registers for each lane.
    #[must_use]
    pub fn registers(self, registers: u32) -> Self {
        Self { registers, ..self }
    }

    /// The same as a programmatic dependent of the launches before it in the run.
    #[must_use]
    pub fn programmatic(self) -> Self {
        Self { programmatic: true, ..self }
    }
}

/// Checks the launches of a run, and numbers their CTAs.
pub(crate) fn infos(launches: &[Launch]) -> Result<Vec<LaunchInfo>, String> {
    let mut first_cta = 0u32;
    let mut infos = Vec::new();
    for launch in launches {
        let Launch { name, grid, block, shared_bytes, cluster, nonportable, registers, programmatic, .. } =
            launch;
        let (grid, block, cluster) = (*grid, *block, *cluster);
        if block == 0 || block % WARP != 0 || block > MAX_BLOCK {
            return Err(format!(
                "{name} has {block} lanes in a CTA: not a multiple of {WARP} up to {MAX_BLOCK}"
            ));
        }
        if *shared_bytes > MAX_SHARED {
            return Err(format!(
                "{name} wants {shared_bytes} bytes of shared memory, of at most {MAX_SHARED}"
            ));
        }
        if grid == 0 {
            return Err(format!("{name} has no CTAs"));
        }
        let most = if *nonportable { MAX_CLUSTER } else { PORTABLE_CLUSTER };
        if cluster == 0 || cluster > most || !grid.is_multiple_of(cluster) {
            return Err(format!(
                "{name} has {grid} CTAs in clusters of {cluster}: not a multiple of 1 to {most}"
            ));
        }
        let line = Shape { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [cluster, 1, 1] };
        let shape = launch.shape.unwrap_or(line);
        let products = [shape.grid, shape.block, shape.cluster].map(product);
        let divides = shape.grid.iter().zip(shape.cluster).all(|(grid, cluster)| grid % cluster == 0);
        if products != [Some(grid), Some(block), Some(cluster)] || !divides {
            return Err(format!("{name} has dimensions {shape:?}"));
        }
        infos.push(LaunchInfo {
            shape,
            name: name.clone(),
            grid,
            block,
            shared_bytes: *shared_bytes as usize,
            cluster,
            registers: *registers,
            programmatic: *programmatic,
            source: launch.ptx.as_ref().map(|(source, _)| Arc::clone(source)),
            first_cta,
            undispatched: grid,
            running: grid,
            boundary: None,
        });
        first_cta = first_cta
            .checked_add(grid)
            .filter(|&ctas| ctas <= Who::MAX_CTAS)
            .ok_or_else(|| format!("more than {} CTAs", Who::MAX_CTAS))?;
    }
    Ok(infos)
}

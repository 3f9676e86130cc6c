//! Who acts, and what each lane knows of the others.
//!
//! A lane's vector clock over all lanes of a launch would not fit: 2,000 lanes with 2,000 entries each,
//! joined at every barrier. Two facts make it small. What lanes know differs between barriers in their *own*
//! entry alone, so that entry is kept aside and the rest, a [`View`], is shared by all lanes that left a
//! barrier together. And a lane learns of another CTA only through an acquire, so that a view holds one
//! shared vector per CTA that it has heard of.
//!
//! Besides lanes a CTA has *virtual lanes*, which no instruction runs in: one for each warpgroup, whose epoch
//! is the number of its wgmma groups that are complete, then one for each mbarrier, whose epoch is the number
//! of its phases that are complete. An asynchronous operation that such an event completes is ordered before
//! whoever knows that epoch. They come to be when they are first told of, so that kernels without them do not
//! carry them.
//!
//! The asynchronous proxy sees what generic instructions did only across a fence. So a view holds, for each
//! state space, also the epochs that a fence has covered on their way here.

use std::{collections::VecDeque, rc::Rc};

/// Most lanes in a CTA.
pub(crate) const MAX_BLOCK: u32 = 1024;
/// Lanes in a warp.
pub(crate) const WARP: u32 = 32;
/// Lanes in a warpgroup.
pub(crate) const WARPGROUP: u32 = 128;
/// Most mbarriers in a CTA.
pub(crate) const MAX_MBARRIERS: u32 = 64;

const INDEX_BITS: u32 = 30;
const GROUP: u32 = 1 << INDEX_BITS;
const WARP_READ: u32 = 2 << INDEX_BITS;

/// The lanes of a warp in its CTA.
pub(crate) fn lanes(warp: usize) -> std::ops::Range<usize> {
    warp * WARP as usize..(warp + 1) * WARP as usize
}

/// A state space, as far as proxy fences tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Shared,
    Global,
}

/// Who made an access: a lane, an asynchronous operation, or all lanes of a warp at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(u32);

/// [`Who`], taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A lane; the number of its CTA among all of a run, and its number in the CTA.
    Lane { cta: u32, lane: u32 },
    /// An asynchronous operation or commit group of them, by its number among all of a run.
    Group(u32),
    /// A warp in a collective instruction.
    Warp { cta: u32, warp: u32 },
}

impl Who {
    /// Most CTAs of a run.
    pub(crate) const MAX_CTAS: u32 = 1 << (INDEX_BITS - 10);

    pub(crate) const fn lane(cta: u32, lane: u32) -> Self {
        Self(cta << 10 | lane)
    }

    pub(crate) const fn group(number: u32) -> Self {
        Self(GROUP | number)
    }

    pub(crate) const fn warp(cta: u32, warp: u32) -> Self {
        Self(WARP_READ | cta << 5 | warp)
    }

    pub(crate) const fn actor(self) -> Actor {
        let index = self.0 & (GROUP - 1);
        match self.0 >> INDEX_BITS {
            0 => Actor::Lane { cta: index >> 10, lane: index & (MAX_BLOCK - 1) },
            1 => Actor::Group(index),
            _ => Actor::Warp { cta: index >> 5, warp: index & 31 },
        }
    }
}

/// The clocks of the lanes of one CTA, virtual ones behind the others; those that are missing are at 0.
type Dense = Rc<[u32]>;

/// Of each lane the last epoch that is ordered before something. 0 is nothing.
#[derive(Clone, Debug)]
struct Epochs {
    cta: u32,
    own: Dense,
    /// By the number of the CTA; shorter than the number of CTAs if nothing is known of the last ones.
    foreign: Rc<Vec<Option<Dense>>>,
}

/// Whether `a` is nowhere behind `b`. A test in each step would keep the loop from being vectorised.
fn covers(a: &[u32], b: &[u32]) -> bool {
    let (same, more) = b.split_at(a.len().min(b.len()));
    let covered = |(a, b): (&[u32], &[u32])| a.iter().zip(b).fold(true, |all, (a, b)| all & (a >= b));
    a.chunks(64).zip(same.chunks(64)).all(covered) && more.iter().all(|&b| b == 0)
}

impl Epochs {
    #[inline]
    fn knows(&self, cta: u32, lane: u32) -> u32 {
        let dense = if cta == self.cta {
            &self.own
        } else {
            match self.foreign.get(cta as usize) {
                Some(Some(dense)) => dense,
                _ => return 0,
            }
        };
        dense.get(lane as usize).copied().unwrap_or(0)
    }

    fn of(&self, cta: u32) -> Option<&Dense> {
        if cta == self.cta { Some(&self.own) } else { self.foreign.get(cta as usize)?.as_ref() }
    }

    /// Sets what is known of a lane of the own CTA.
    fn set(&mut self, lane: u32, epoch: u32) {
        let mut own = self.own.to_vec();
        if own.len() <= lane as usize {
            own.resize(lane as usize + 1, 0);
        }
        own[lane as usize] = epoch;
        self.own = own.into();
    }

    /// Sets what is known of a CTA to the later of what was known and `dense`.
    fn learn(&mut self, cta: u32, dense: &Dense) {
        let known = self.of(cta);
        let merged = match known {
            None => dense.clone(),
            Some(known) if Rc::ptr_eq(known, dense) => return,
            // Keep one of the two where it covers the other: later joins are then by pointer.
            Some(known) if covers(known, dense) => return,
            Some(known) if covers(dense, known) => dense.clone(),
            Some(known) => {
                let (long, short) = if known.len() < dense.len() { (dense, known) } else { (known, dense) };
                let mut merged = long.to_vec();
                for (epoch, other) in merged.iter_mut().zip(&**short) {
                    *epoch = (*epoch).max(*other);
                }
                merged.into()
            }
        };
        if cta == self.cta {
            self.own = merged;
        } else {
            let foreign = Rc::make_mut(&mut self.foreign);
            if foreign.len() <= cta as usize {
                foreign.resize(cta as usize + 1, None);
            }
            foreign[cta as usize] = Some(merged);
        }
    }

    /// The join: what either knows.
    fn join(&mut self, other: &Self) {
        if !Rc::ptr_eq(&self.foreign, &other.foreign) {
            for (cta, dense) in other.foreign.iter().enumerate() {
                if let Some(dense) = dense {
                    self.learn(cta as u32, dense);
                }
            }
        }
        if !other.own.is_empty() {
            self.learn(other.cta, &other.own);
        }
    }
}

/// What a lane knows of others: of each lane the last epoch that is ordered before it, and, for each
/// [`Space`], the last epoch that is so across a proxy fence.
#[derive(Clone, Debug)]
pub(crate) struct View {
    all: Epochs,
    fenced: [Option<Epochs>; 2],
}

impl View {
    /// Nothing is known.
    pub(crate) fn new(cta: u32, lanes: u32) -> Self {
        let all = Epochs { cta, own: vec![0; lanes as usize].into(), foreign: Rc::default() };
        Self { all, fenced: [None, None] }
    }

    /// All that CTAs did which have ended, with all fences: the end of a launch. `lanes` is the number of
    /// lanes of each CTA.
    pub(crate) fn of_ended(ctas: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut all = Epochs { cta: u32::MAX, own: Rc::from([]), foreign: Rc::default() };
        let mut forever: Dense = Rc::from([]);
        for (cta, lanes) in ctas {
            let lanes = (lanes + lanes / WARP + MAX_MBARRIERS) as usize;
            if forever.len() != lanes {
                forever = vec![u32::MAX; lanes].into();
            }
            all.learn(cta, &forever);
        }
        Self { fenced: [Some(all.clone()), Some(all.clone())], all }
    }

    /// The last epoch of `lane` of `cta` that is ordered before the holder of this view.
    #[inline]
    pub(crate) fn knows(&self, cta: u32, lane: u32) -> u32 {
        self.all.knows(cta, lane)
    }

    /// Likewise across a fence.
    #[inline]
    fn knows_fenced(&self, space: Space, cta: u32, lane: u32) -> u32 {
        self.fenced[space as usize].as_ref().map_or(0, |fenced| fenced.knows(cta, lane))
    }

    /// Whether anything at all of another CTA is known.
    pub(crate) fn has_heard_of(&self, cta: u32) -> bool {
        self.all.of(cta).is_some_and(|dense| dense.iter().any(|&epoch| epoch > 0))
    }

    /// What is known of the virtual lanes of these CTAs, each of so many `lanes`: which of their asynchronous
    /// operations are complete.
    pub(crate) fn of_events(&self, ctas: std::ops::Range<u32>, lanes: u32) -> Self {
        let mut all = Epochs { cta: self.all.cta, own: Rc::from([]), foreign: Rc::default() };
        for cta in ctas {
            if let Some(dense) = self.all.of(cta)
                && dense.len() > lanes as usize
            {
                let mut events = dense.to_vec();
                events[..lanes as usize].fill(0);
                all.learn(cta, &events.into());
            }
        }
        Self { all, fenced: [None, None] }
    }

    /// Sets what is known of a lane, maybe a virtual one, of the CTA of the holder.
    pub(crate) fn set(&mut self, lane: u32, epoch: u32) {
        self.all.set(lane, epoch);
    }

    /// Likewise of all its lanes that are no virtual ones: they have ended.
    pub(crate) fn set_ended(&mut self, lanes: u32) {
        let mut own = self.all.own.to_vec();
        own[..lanes as usize].fill(u32::MAX);
        self.all.own = own.into();
    }

    /// The join: what either knows.
    pub(crate) fn join(&mut self, other: &Self) {
        self.all.join(&other.all);
        for (known, other) in self.fenced.iter_mut().zip(&other.fenced) {
            match (known, other) {
                (_, None) => {}
                (Some(known), Some(other)) => known.join(other),
                // Whose CTA it is matters for what is quick, not for what is known.
                (known @ None, Some(other)) => *known = Some(other.clone()),
            }
        }
    }
}

/// The joins that were made last: lanes that waited together mostly hold one view, and learn the same.
#[derive(Default)]
pub(crate) struct Joins(VecDeque<[Rc<View>; 3]>);

impl Joins {
    const RECENT: usize = 8;

    /// The join of two views.
    pub(crate) fn join(&mut self, known: &Rc<View>, published: &Rc<View>) -> Rc<View> {
        if Rc::ptr_eq(known, published) {
            return known.clone();
        }
        let same = |[a, b, _]: &&[Rc<View>; 3]| Rc::ptr_eq(a, known) && Rc::ptr_eq(b, published);
        if let Some([.., joined]) = self.0.iter().find(same) {
            return joined.clone();
        }
        let mut joined = View::clone(known);
        joined.join(published);
        let joined = Rc::new(joined);
        if self.0.len() == Self::RECENT {
            self.0.pop_front();
        }
        self.0.push_back([known.clone(), published.clone(), joined.clone()]);
        joined
    }
}

/// A lane's clock: its own epoch, and its view of the others.
#[derive(Clone, Debug)]
pub(crate) struct LaneClock {
    cta: u32,
    lane: u32,
    /// Counts up whenever the lane publishes its view, so that what it does afterwards is not taken for
    /// published.
    epoch: u32,
    view: Rc<View>,
}

impl LaneClock {
    pub(crate) fn new(cta: u32, lane: u32, view: Rc<View>) -> Self {
        Self { cta, lane, epoch: 1, view }
    }

    pub(crate) fn who(&self) -> Who {
        Who::lane(self.cta, self.lane)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn view(&self) -> &Rc<View> {
        &self.view
    }

    /// Whether what `lane` of `cta` did up to `epoch` is ordered before what this lane does next.
    #[inline]
    pub(crate) fn is_after(&self, cta: u32, lane: u32, epoch: u32) -> bool {
        (cta == self.cta && lane == self.lane) || self.view.knows(cta, lane) >= epoch
    }

    /// Whether a generic access of `lane` of `cta` at `epoch` is ordered before what this lane lets the
    /// asynchronous proxy do next. That the lane be this one is not enough.
    #[inline]
    pub(crate) fn is_fenced_after(&self, space: Space, cta: u32, lane: u32, epoch: u32) -> bool {
        self.view.knows_fenced(space, cta, lane) >= epoch
    }

    /// A proxy fence: what this lane did, and what lanes of its CTA did that is ordered before, is fenced.
    /// What other CTAs did they have to fence themselves, before they tell of it.
    pub(crate) fn fence(&mut self, space: Space) {
        let mut own = Epochs { foreign: Rc::default(), ..self.view.all.clone() };
        own.set(self.lane, self.epoch);
        self.epoch += 1;
        match &mut Rc::make_mut(&mut self.view).fenced[space as usize] {
            Some(fenced) => fenced.join(&own),
            none => *none = Some(own),
        }
    }

    /// Begins a new epoch: what the lane does next is not taken for what it did before.
    pub(crate) fn advance(&mut self) {
        self.epoch += 1;
    }

    /// What this lane knows and did so far, for others to [`acquire`](Self::acquire).
    pub(crate) fn release(&mut self) -> View {
        let mut published = View::clone(&self.view);
        published.set(self.lane, self.epoch);
        self.epoch += 1;
        published
    }

    /// Orders what a release published before what this lane does next.
    pub(crate) fn acquire(&mut self, published: &Rc<View>, joins: &mut Joins) {
        self.view = joins.join(&self.view, published);
    }

    /// Like [`release`](Self::release), of some lanes of one CTA together: by ranges of `lanes`.
    pub(crate) fn release_together(
        lanes: &mut [Self],
        ranges: impl Iterator<Item = std::ops::Range<usize>> + Clone,
    ) -> Option<View> {
        let mut joined: Option<View> = None;
        let mut last: Option<&Rc<View>> = None;
        for lane in ranges.clone().flat_map(|range| &lanes[range]) {
            if !last.is_some_and(|last| Rc::ptr_eq(last, &lane.view)) {
                match &mut joined {
                    Some(joined) => joined.join(&lane.view),
                    None => joined = Some(View::clone(&lane.view)),
                }
                last = Some(&lane.view);
            }
        }
        let mut joined = joined?;
        let mut own = joined.all.own.to_vec();
        for lane in ranges.flatten() {
            let lane = &mut lanes[lane];
            own[lane.lane as usize] = lane.epoch;
            lane.epoch += 1;
        }
        joined.all.own = own.into();
        Some(joined)
    }

    /// A barrier among lanes of one CTA, by ranges of `lanes`: each is ordered after what all of them did
    /// before.
    ///
    /// Takes O(lanes) where they hold few distinct views, as after an earlier barrier.
    pub(crate) fn barrier(lanes: &mut [Self], ranges: impl Iterator<Item = std::ops::Range<usize>> + Clone) {
        let Some(joined) = Self::release_together(lanes, ranges.clone()) else { return };
        let joined = Rc::new(joined);
        for lane in ranges.flatten() {
            lanes[lane].view = joined.clone();
        }
    }

    /// Tells some lanes of one CTA of an epoch of a lane, maybe a virtual one, of that CTA. What they know
    /// already may be later.
    pub(crate) fn tell(lanes: &mut [Self], lane: u32, epoch: u32) {
        let mut last: Option<(Rc<View>, Rc<View>)> = None;
        for clock in lanes {
            match &last {
                Some((known, told)) if Rc::ptr_eq(known, &clock.view) => clock.view = told.clone(),
                _ => {
                    let mut told = View::clone(&clock.view);
                    told.set(lane, epoch.max(told.knows(clock.cta, lane)));
                    let told = Rc::new(told);
                    last = Some((std::mem::replace(&mut clock.view, told.clone()), told));
                }
            }
        }
    }
}

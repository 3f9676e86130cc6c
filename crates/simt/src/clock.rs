//! Who acts, and what each lane knows of the others.
//!
//! A lane's vector clock over all lanes of a launch would not fit: 2,000 lanes with 2,000 entries each, joined at
//! every barrier. Two facts make it small. What lanes know differs between barriers in their *own* entry alone, so
//! that entry is kept aside and the rest, a [`View`], is shared by all lanes that left a barrier together. And a
//! lane learns of another CTA only through an acquire, so that a view holds one shared vector per CTA that it has
//! heard of.

use std::rc::Rc;

/// Most lanes in a CTA.
pub(crate) const MAX_BLOCK: u32 = 1024;
/// Lanes in a warp.
pub(crate) const WARP: u32 = 32;

const INDEX_BITS: u32 = 30;
const GROUP: u32 = 1 << INDEX_BITS;
const WARP_READ: u32 = 2 << INDEX_BITS;

/// Who made an access: a lane, a group of asynchronous copies, or all lanes of a warp at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(u32);

/// [`Who`], taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A lane; the number of its CTA among all of a run, and its number in the CTA.
    Lane { cta: u32, lane: u32 },
    /// A commit group of asynchronous copies, by its number among all of a run.
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

/// The clocks of the lanes of one CTA.
type Dense = Rc<[u32]>;

/// What a lane knows of others: of each lane the last epoch that is ordered before it. 0 is nothing.
#[derive(Clone, Debug)]
pub(crate) struct View {
    cta: u32,
    own: Dense,
    /// By the number of the CTA; shorter than the number of CTAs if nothing is known of the last ones.
    foreign: Rc<Vec<Option<Dense>>>,
}

impl View {
    /// Nothing is known.
    pub(crate) fn new(cta: u32, lanes: u32) -> Self {
        Self { cta, own: vec![0; lanes as usize].into(), foreign: Rc::default() }
    }

    /// The last epoch of `lane` of `cta` that is ordered before the holder of this view.
    #[inline]
    pub(crate) fn knows(&self, cta: u32, lane: u32) -> u32 {
        if cta == self.cta {
            self.own[lane as usize]
        } else {
            match self.foreign.get(cta as usize) {
                Some(Some(dense)) => dense[lane as usize],
                _ => 0,
            }
        }
    }

    fn of(&self, cta: u32) -> Option<&Dense> {
        if cta == self.cta { Some(&self.own) } else { self.foreign.get(cta as usize)?.as_ref() }
    }

    /// Sets what is known of a CTA to the later of what was known and `dense`.
    fn learn(&mut self, cta: u32, dense: &Dense) {
        let known = self.of(cta);
        let merged = match known {
            None => dense.clone(),
            Some(known) if Rc::ptr_eq(known, dense) => return,
            // Keep one of the two where it covers the other: later joins are then by pointer.
            Some(known) if known.iter().zip(dense.iter()).all(|(k, d)| k >= d) => return,
            Some(known) if known.iter().zip(dense.iter()).all(|(k, d)| d >= k) => dense.clone(),
            Some(known) => known.iter().zip(dense.iter()).map(|(k, d)| *k.max(d)).collect(),
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
    pub(crate) fn join(&mut self, other: &Self) {
        if !Rc::ptr_eq(&self.foreign, &other.foreign) {
            for (cta, dense) in other.foreign.iter().enumerate() {
                if let Some(dense) = dense {
                    self.learn(cta as u32, dense);
                }
            }
        }
        self.learn(other.cta, &other.own);
    }
}

/// A lane's clock: its own epoch, and its view of the others.
#[derive(Clone, Debug)]
pub(crate) struct LaneClock {
    cta: u32,
    lane: u32,
    /// Counts up whenever the lane publishes its view, so that what it does afterwards is not taken for published.
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

    /// What this lane knows and did so far, for others to [`acquire`](Self::acquire).
    pub(crate) fn release(&mut self) -> View {
        let mut published = View::clone(&self.view);
        let mut own: Vec<u32> = published.own.to_vec();
        own[self.lane as usize] = self.epoch;
        published.own = own.into();
        self.epoch += 1;
        published
    }

    /// Orders what a release published before what this lane does next.
    pub(crate) fn acquire(&mut self, published: &View) {
        Rc::make_mut(&mut self.view).join(published);
    }

    /// A barrier among `lanes`, all of one CTA: each is ordered after what all of them did before.
    ///
    /// Takes O(lanes) where they hold few distinct views, as after an earlier barrier.
    pub(crate) fn barrier(lanes: &mut [Self]) {
        let Some((first, rest)) = lanes.split_first() else { return };
        let mut joined = View::clone(&first.view);
        let mut last = &first.view;
        for lane in rest {
            if !Rc::ptr_eq(last, &lane.view) {
                joined.join(&lane.view);
                last = &lane.view;
            }
        }
        let mut own = joined.own.to_vec();
        for lane in &*lanes {
            own[lane.lane as usize] = lane.epoch;
        }
        joined.own = own.into();
        let joined = Rc::new(joined);
        for lane in lanes {
            lane.epoch += 1;
            lane.view = joined.clone();
        }
    }
}

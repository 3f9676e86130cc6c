//! Which accesses to a byte a later one can race with.
//!
//! Every byte has a list of accesses. A new access is compared with each of the list; it *races* if the two
//! conflict and the older is not ordered before the newer. Then it joins the list and takes the place of
//! those that it covers: those ordered before it whose every conflict is a conflict with it, too. What races
//! with a covered access races with the one that covers it, so nothing is lost by forgetting.
//!
//! Bytes that were always accessed together share one list: [`Cell`] holds one for 16 bytes and splits into
//! words, and these into bytes, when an access touches only a part.

use smallvec::SmallVec;

use crate::clock::{Actor, LaneClock, Space, View, WARP, Who};

/// Bytes of a cell.
pub(crate) const CELL: usize = 16;
const WORD: usize = 4;

/// How memory is accessed. *Strong* are acquire, release and relaxed accesses and atomics; the rest is
/// *weak*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    StrongRead,
    StrongWrite,
    /// `ld.global.nc`: whoever writes the byte in the same launch, before or after, is at fault.
    NonCoherentRead,
}

impl Kind {
    pub(crate) const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::StrongWrite)
    }

    const fn is_strong(self) -> bool {
        matches!(self, Self::StrongRead | Self::StrongWrite)
    }

    const fn conflicts(self, other: Self) -> bool {
        (self.is_write() || other.is_write()) && !(self.is_strong() && other.is_strong())
    }

    /// Whether everything that conflicts with `other` conflicts with this.
    const fn covers(self, other: Self) -> bool {
        match self {
            Self::Write => !matches!(other, Self::NonCoherentRead),
            Self::StrongWrite => matches!(other, Self::StrongWrite | Self::StrongRead),
            Self::Read => matches!(other, Self::Read | Self::StrongRead),
            Self::StrongRead => matches!(other, Self::StrongRead),
            Self::NonCoherentRead => !other.is_write(),
        }
    }
}

/// An access: who, when by the clock of who, how, and from which source line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) who: Who,
    /// The epoch of a lane; the number of a snapshot of epochs for a warp; nothing for an asynchronous
    /// operation.
    pub(crate) clock: u32,
    tag: u32,
}

impl Access {
    pub(crate) const fn new(who: Who, clock: u32, kind: Kind, site: u32) -> Self {
        Self { who, clock, tag: site << 3 | kind as u32 }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self.tag & 7 {
            0 => Kind::Read,
            1 => Kind::Write,
            2 => Kind::StrongRead,
            3 => Kind::StrongWrite,
            _ => Kind::NonCoherentRead,
        }
    }

    /// The number of the source line and instruction.
    pub(crate) const fn site(&self) -> u32 {
        self.tag >> 3
    }
}

/// An asynchronous operation, or a commit group of them: an actor of its own, from issue until it is
/// completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// The CTA, by its number in the run, and the lane that issued it.
    pub(crate) cta: u32,
    pub(crate) lane: u32,
    pub(crate) kind: GroupKind,
    /// When it was completed; nothing before.
    pub(crate) completed: Option<Completion>,
}

/// Which asynchronous operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// cp.async, which acts in the generic proxy.
    Copy,
    /// Bulk and tensor copies, in the asynchronous proxy.
    Bulk,
    /// wgmma, in the asynchronous proxy.
    Wgmma,
}

/// Completed for whoever knows this epoch of a lane, maybe a virtual one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) cta: u32,
    pub(crate) lane: u32,
    pub(crate) epoch: u32,
}

/// Decides whether an access is ordered before what `me` does next.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) groups: &'a [Group],
    pub(crate) snapshots: &'a [[u32; WARP as usize]],
    pub(crate) me: Observer<'a>,
}

/// Who is about to make an access.
#[derive(Clone, Copy)]
pub(crate) enum Observer<'a> {
    Lane(&'a LaneClock),
    /// All lanes of a warp, each of which the access must be ordered before; `view` if they hold the same.
    Warp {
        who: Who,
        lanes: &'a [LaneClock],
        view: Option<&'a View>,
    },
    /// An operation in the asynchronous proxy, which all these lanes issue together. Without a space, fences
    /// do not matter.
    Async {
        issuers: &'a [LaneClock],
        space: Option<Space>,
    },
    /// Whoever holds this view.
    View(&'a View),
}

impl<'a> Order<'a> {
    /// Whether what a lane, maybe a virtual one, did up to an epoch happens before.
    #[inline]
    pub(crate) fn lane(&self, cta: u32, lane: u32, epoch: u32) -> bool {
        match self.me {
            Observer::Lane(clock) => clock.is_after(cta, lane, epoch),
            Observer::Warp { view: Some(view), .. } | Observer::View(view) => view.knows(cta, lane) >= epoch,
            Observer::Warp { lanes, .. } | Observer::Async { issuers: lanes, .. } => {
                lanes.iter().all(|clock| clock.is_after(cta, lane, epoch))
            }
        }
    }

    /// Likewise for what was done in the generic proxy.
    #[inline]
    fn generic(&self, cta: u32, lane: u32, epoch: u32) -> bool {
        match self.me {
            Observer::Async { issuers, space: Some(space) } => {
                issuers.iter().all(|clock| clock.is_fenced_after(space, cta, lane, epoch))
            }
            _ => self.lane(cta, lane, epoch),
        }
    }

    /// Whether `access` happens before.
    pub(crate) fn is_after(&self, access: &Access) -> bool {
        match access.who.actor() {
            Actor::Lane { cta, lane } => self.generic(cta, lane, access.clock),
            Actor::Group(number) => {
                let Group { kind, completed, .. } = self.groups[number as usize];
                completed.is_some_and(|Completion { cta, lane, epoch }| match kind {
                    GroupKind::Copy => self.generic(cta, lane, epoch),
                    GroupKind::Bulk | GroupKind::Wgmma => self.lane(cta, lane, epoch),
                })
            }
            Actor::Warp { cta, warp } => {
                if let Observer::Warp { who, .. } = self.me
                    && who == access.who
                {
                    return true;
                }
                let epochs = &self.snapshots[access.clock as usize];
                epochs.iter().zip(warp * WARP..).all(|(&epoch, lane)| self.generic(cta, lane, epoch))
            }
        }
    }

    /// The same with all fences in place.
    pub(crate) fn without_proxies(self) -> Order<'a> {
        match self.me {
            Observer::Async { issuers, .. } => Order { me: Observer::Async { issuers, space: None }, ..self },
            _ => self,
        }
    }
}

/// The accesses that later ones to the same bytes are compared with.
#[derive(Clone, Debug, Default)]
struct List {
    writes: SmallVec<[Access; 1]>,
    reads: SmallVec<[Access; 2]>,
}

/// How many of the latest reads a new read is compared with. More may be there if many lanes read the same
/// byte; comparing all would be quadratic.
const RECENT: usize = 8;
/// From how many reads on duplicates are removed, whenever the number has doubled.
const MANY: usize = 64;

impl List {
    fn admit(&mut self, new: Access, order: &Order<'_>) -> Result<(), Access> {
        let kind = new.kind();
        let racy = |old: &Access| {
            let non_coherent = Kind::NonCoherentRead;
            old.kind().conflicts(kind)
                && (old.kind() == non_coherent || kind == non_coherent || !order.is_after(old))
        };
        let covered = |old: &Access| kind.covers(old.kind()) && order.is_after(old);
        if let Some(old) = self.writes.iter().find(|old| racy(old)) {
            return Err(*old);
        }
        if kind.is_write() {
            if let Some(old) = self.reads.iter().find(|old| racy(old)) {
                return Err(*old);
            }
            if kind == Kind::Write {
                // None of them raced, so all are ordered before, and a weak write covers everything.
                self.writes.clear();
                self.reads.clear();
            } else {
                self.writes.retain(|old| !covered(old));
                self.reads.retain(|old| !covered(old));
            }
            self.writes.push(new);
            return Ok(());
        }
        let recent = self.reads.len().saturating_sub(RECENT);
        let mut i = recent;
        while i < self.reads.len() {
            let old = &self.reads[i];
            if old.who == new.who && old.clock == new.clock && old.kind() == kind {
                return Ok(());
            }
            if covered(old) {
                self.reads.swap_remove(i);
            } else {
                i += 1;
            }
        }
        self.reads.push(new);
        if self.reads.len() >= MANY && self.reads.len().is_power_of_two() {
            self.forget_earlier_reads();
        }
        Ok(())
    }

    /// Keeps the latest read of each actor: it is ordered after the earlier ones.
    fn forget_earlier_reads(&mut self) {
        self.reads.sort_by_key(|a| (a.who, a.kind() as u32, std::cmp::Reverse(a.clock)));
        self.reads.dedup_by_key(|a| (a.who, a.kind() as u32));
    }
}

/// The lists of 16 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Cell(Lists);

#[derive(Clone, Debug)]
enum Lists {
    Uniform(List),
    Words(Box<[Word; CELL / WORD]>),
}

#[derive(Clone, Debug)]
enum Word {
    Uniform(List),
    Bytes(Box<[List; WORD]>),
}

impl Default for Cell {
    fn default() -> Self {
        Self(Lists::Uniform(List::default()))
    }
}

impl Cell {
    /// Records an access to `len` bytes from `start`, or returns the earlier one that it races with and the
    /// first byte where it does. After an error the cell may hold the access in part.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        start: usize,
        len: usize,
        new: Access,
        order: &Order<'_>,
    ) -> Result<(), (usize, Access)> {
        if start == 0 && len == CELL {
            match &mut self.0 {
                Lists::Uniform(list) => list.admit(new, order).map_err(|old| (0, old))?,
                Lists::Words(words) => {
                    for (i, word) in words.iter_mut().enumerate() {
                        word.admit(0, WORD, new, order).map_err(|(byte, old)| (i * WORD + byte, old))?;
                    }
                    if new.kind() == Kind::Write {
                        // All bytes now hold this one write.
                        let mut list = List::default();
                        list.writes.push(new);
                        self.0 = Lists::Uniform(list);
                    }
                }
            }
            return Ok(());
        }
        if let Lists::Uniform(list) = &self.0 {
            self.0 = Lists::Words(Box::new(std::array::from_fn(|_| Word::Uniform(list.clone()))));
        }
        let Lists::Words(words) = &mut self.0 else { unreachable!("it was split above") };
        let end = start + len;
        for (i, word) in words.iter_mut().enumerate() {
            let base = i * WORD;
            let (from, to) = (start.max(base), end.min(base + WORD));
            if from < to {
                word.admit(from - base, to - from, new, order).map_err(|(byte, old)| (base + byte, old))?;
            }
        }
        Ok(())
    }
}

impl Word {
    fn admit(
        &mut self,
        start: usize,
        len: usize,
        new: Access,
        order: &Order<'_>,
    ) -> Result<(), (usize, Access)> {
        if start == 0 && len == WORD {
            match self {
                Self::Uniform(list) => list.admit(new, order).map_err(|old| (0, old))?,
                Self::Bytes(bytes) => {
                    for (i, list) in bytes.iter_mut().enumerate() {
                        list.admit(new, order).map_err(|old| (i, old))?;
                    }
                    if new.kind() == Kind::Write {
                        let mut list = List::default();
                        list.writes.push(new);
                        *self = Self::Uniform(list);
                    }
                }
            }
            return Ok(());
        }
        if let Self::Uniform(list) = self {
            *self = Self::Bytes(Box::new(std::array::from_fn(|_| list.clone())));
        }
        let Self::Bytes(bytes) = self else { unreachable!("it was split above") };
        for (i, list) in bytes.iter_mut().enumerate().skip(start).take(len) {
            list.admit(new, order).map_err(|old| (i, old))?;
        }
        Ok(())
    }
}

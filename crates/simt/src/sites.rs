//! The sites of a run: each kind of instruction at each place, how often lanes came there, and which faults
//! are seeded.

use std::{collections::HashMap, panic::Location, sync::Arc};

use crate::{
    fault::Mutation,
    site::{Op, Place, SiteInfo},
    source::Source,
};

/// What is known of a site during a run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) info: SiteInfo,
    pub(crate) location: Place,
    /// The mutations that may apply, by number.
    pub(crate) mutations: Vec<usize>,
}

/// All sites of a run, by number.
#[derive(Debug)]
pub(crate) struct Sites {
    entries: Vec<Entry>,
    /// Number of a site by its key, a guess: one location may have several addresses.
    recent: Vec<(Key, u32)>,
    numbers: HashMap<(Place, Op), u32>,
}

const RECENT: usize = 512;

/// What tells places apart at no cost: the address of a location, or of a module and a line; and the
/// instruction.
type Key = (usize, u32, Op);

/// Where an instruction stands, as the lane that comes to it knows.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// In Rust.
    Source(&'static Location<'static>),
    /// In a PTX module, on this line.
    Ptx(&'a Arc<Source>, u32),
}

impl At<'_> {
    fn key(self, op: Op) -> Key {
        match self {
            Self::Source(location) => (std::ptr::from_ref(location) as usize, 0, op),
            Self::Ptx(source, line) => (Arc::as_ptr(source) as usize, line, op),
        }
    }

    fn place(self) -> Place {
        match self {
            Self::Source(location) => location.into(),
            Self::Ptx(source, line) => source.place(line),
        }
    }
}

impl Sites {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), recent: vec![((0, 0, Op::Tap), 0); RECENT], numbers: HashMap::new() }
    }

    /// The number of a site, counted.
    #[inline]
    pub(crate) fn visit(&mut self, op: Op, at: At<'_>, mutations: &[Mutation]) -> u32 {
        let key @ (address, line, _) = at.key(op);
        let mixed = (address << 6 ^ (line as usize) << 24 ^ op as usize).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (mixed >> 48) % RECENT;
        let number = if self.recent[slot].0 == key {
            self.recent[slot].1
        } else {
            let number = self.find(op, at.place(), mutations);
            self.recent[slot] = (key, number);
            number
        };
        self.entries[number as usize].info.count += 1;
        number
    }

    #[cold]
    fn find(&mut self, op: Op, location: Place, mutations: &[Mutation]) -> u32 {
        *self.numbers.entry((location.clone(), op)).or_insert_with(|| {
            let Place { file, line, column, .. } = location;
            let ptx = location.ptx.as_ref().map_or(0, |trace| trace.line);
            let info = SiteInfo { op, file, line, column, ptx, count: 0 };
            let matching = mutations.iter().enumerate().filter(|(_, m)| m.site.matches(&info));
            let mutations = matching.map(|(i, _)| i).collect();
            self.entries.push(Entry { info, location, mutations });
            self.entries.len() as u32 - 1
        })
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// All, by file, line, column.
    pub(crate) fn list(&self) -> Vec<SiteInfo> {
        let mut list: Vec<_> = self.entries.iter().map(|entry| entry.info).collect();
        list.sort();
        list
    }
}

//! Memory: bytes, which of them were written, and the accesses to each.

use crate::shadow::{Access, CELL, Cell, Order};

/// Where dynamic shared memory starts: not at 0, so that a null address is nobody's.
pub(crate) const SHARED_BASE: u32 = 1024;
/// Cells of a page; pages of cells come to be with the first access.
const PAGE: usize = 64;

/// Bytes that kernels read and write. They start poisoned.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    data: Vec<u8>,
    /// A bit for each byte: whether somebody wrote it. 16 bytes in each.
    written: Vec<u16>,
    pages: Vec<Option<Box<[Cell; PAGE]>>>,
}

/// Bits `start..start + len` of a cell.
fn mask(start: usize, len: usize) -> u16 {
    (((1u32 << len) - 1) << start) as u16
}

impl Tracked {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut new = Self::default();
        new.reset(bytes);
        new
    }

    /// As new, with the allocations that are there.
    pub(crate) fn reset(&mut self, bytes: usize) {
        self.data.resize(bytes, 0);
        self.written.clear();
        self.written.resize(bytes.div_ceil(CELL), 0);
        self.pages.resize(bytes.div_ceil(CELL * PAGE), None);
        self.forget_accesses();
    }

    /// Forgets who accessed what, not what was written: everything so far is ordered before everything to
    /// come.
    pub(crate) fn forget_accesses(&mut self) {
        for cell in self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut()) {
            *cell = Cell::default();
        }
    }

    /// The cells that `offset..offset + len` touches: number, start within, length within.
    fn cells(offset: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let end = offset + len;
        (offset / CELL..end.div_ceil(CELL)).map(move |cell| {
            let base = cell * CELL;
            let (from, to) = (offset.max(base), end.min(base + CELL));
            (cell, from - base, to - from)
        })
    }

    /// Records an access, or returns the earlier one that it races with and the first byte where it does.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        offset: usize,
        len: usize,
        new: Access,
        order: &Order<'_>,
    ) -> Result<(), (usize, Access)> {
        for (number, start, len) in Self::cells(offset, len) {
            let page = self.pages[number / PAGE]
                .get_or_insert_with(|| Box::new(std::array::from_fn(|_| Cell::default())));
            page[number % PAGE]
                .admit(start, len, new, order)
                .map_err(|(byte, old)| (number * CELL + byte, old))?;
        }
        Ok(())
    }

    /// The first byte that nobody wrote.
    #[inline]
    pub(crate) fn first_poisoned(&self, offset: usize, len: usize) -> Option<usize> {
        Self::cells(offset, len).find_map(|(number, start, len)| {
            let missing = !self.written[number] & mask(start, len);
            (missing != 0).then(|| number * CELL + missing.trailing_zeros() as usize)
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Writes bytes.
    #[inline]
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.data[offset..offset + bytes.len()].copy_from_slice(bytes);
        for (number, start, len) in Self::cells(offset, bytes.len()) {
            self.written[number] |= mask(start, len);
        }
    }

    /// Makes bytes such as nobody wrote.
    pub(crate) fn poison(&mut self, offset: usize, len: usize) {
        for (number, start, len) in Self::cells(offset, len) {
            self.written[number] &= !mask(start, len);
        }
    }
}

/// Global memory: regions far apart, so that no address of one is reached by counting from another.
#[derive(Debug, Default)]
pub(crate) struct Global {
    regions: Vec<Region>,
}

/// One allocation of global memory.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: String,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Kernels may only read it, so that nothing is tracked.
    Input(Vec<u8>),
    Buffer(Tracked),
}

impl Region {
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Input(bytes) => bytes.len(),
            Content::Buffer(tracked) => tracked.bytes().len(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Input(bytes) => bytes,
            Content::Buffer(tracked) => tracked.bytes(),
        }
    }
}

impl Global {
    /// Adds a region and gives its address: an odd number in the upper half, 0 in the lower, so that a
    /// region's neighbours within 4 GiB are nobody's.
    pub(crate) fn add(&mut self, content: Content) -> u64 {
        let number = self.regions.len() as u64;
        let kind = if matches!(content, Content::Input(_)) { "input" } else { "buffer" };
        self.regions.push(Region { name: format!("{kind} {number}"), content });
        (2 * number + 1) << 32
    }

    /// The region that an address belongs to, and the offset in it, which may be beyond its end.
    #[inline]
    pub(crate) fn find(&self, address: u64) -> Option<(usize, usize)> {
        let upper = address >> 32;
        let number = (upper / 2) as usize;
        (upper % 2 == 1 && number < self.regions.len()).then_some((number, address as u32 as usize))
    }

    #[inline]
    pub(crate) fn region(&self, number: usize) -> &Region {
        &self.regions[number]
    }

    #[inline]
    pub(crate) fn region_mut(&mut self, number: usize) -> &mut Region {
        &mut self.regions[number]
    }

    /// A launch boundary.
    pub(crate) fn forget_accesses(&mut self) {
        for region in &mut self.regions {
            if let Content::Buffer(tracked) = &mut region.content {
                tracked.forget_accesses();
            }
        }
    }

    /// `name + 0x10` for an address.
    pub(crate) fn describe(&self, address: u64) -> String {
        match self.find(address) {
            Some((number, offset)) => format!("{} + {offset:#x}", self.regions[number].name),
            None => format!("global address {address:#x}"),
        }
    }
}

/// An access to global memory that was checked: region and offset.
pub(crate) type Place = (usize, usize);

/// The address of a place.
pub(crate) fn address(region: usize, offset: usize) -> u64 {
    (2 * region as u64 + 1) << 32 | offset as u64
}

/// What reports call a byte of shared memory.
pub(crate) fn shared_name(offset: usize) -> String {
    format!("shared memory + {offset:#x}")
}

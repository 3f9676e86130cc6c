//! What a run holds of each part of the machine, without what instructions do to it.

pub(crate) mod barrier;
pub(crate) mod bulk;
pub(crate) mod copies;
pub(crate) mod cta;
pub(crate) mod lane;
pub(crate) mod launch;
pub(crate) mod mbarrier;
pub(crate) mod registers;
pub(crate) mod transfer;
pub(crate) mod warpgroup;

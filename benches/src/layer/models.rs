//! The models of a slot: one that is bare, and what is made of it.

use std::collections::HashMap;

use super::variant::Variant;

/// The bare model, and its variants, which share its weights; `M` is a backend's.
pub(super) struct Models<M> {
    bare: M,
    variants: HashMap<Variant, M>,
}

impl<M> Models<M> {
    pub(super) fn new(bare: M) -> Models<M> {
        Models { bare, variants: HashMap::new() }
    }

    /// Has `adapt` make those of these variants that are missing.
    pub(super) fn ensure<E>(
        &mut self,
        variants: &[Variant],
        adapt: impl Fn(&M, Variant) -> Result<M, E>,
    ) -> Result<(), E> {
        for &variant in variants {
            if variant != Variant::NONE && !self.variants.contains_key(&variant) {
                self.variants.insert(variant, adapt(&self.bare, variant)?);
            }
        }
        Ok(())
    }

    /// The model of a variant.
    ///
    /// # Panics
    ///
    /// If it was not [made](Self::ensure).
    pub(super) fn get(&self, variant: Variant) -> &M {
        if variant == Variant::NONE { &self.bare } else { &self.variants[&variant] }
    }
}

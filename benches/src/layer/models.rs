//! The models of each slot: one that is bare, and what is made of it.

use std::collections::HashMap;
use std::rc::Rc;

use super::variant::Variant;

/// By slot and variant. A slot's bare model has memory of its own, which its other variants share; `M` is a backend's.
pub(super) struct Models<M> {
    slots: Vec<HashMap<Variant, Rc<M>>>,
}

impl<M> Models<M> {
    pub(super) fn new() -> Models<M> {
        Models { slots: Vec::new() }
    }

    /// The model of a variant in each of so many slots. What is missing is made: by `bare`, and by `adapt` from the bare one. Slots beyond
    /// are let go, with their memory.
    pub(super) fn of(
        &mut self,
        variant: Variant,
        slots: usize,
        bare: impl Fn() -> anyhow::Result<M>,
        adapt: impl Fn(&M) -> anyhow::Result<M>,
    ) -> anyhow::Result<Vec<Rc<M>>> {
        self.slots.truncate(slots);
        while self.slots.len() < slots {
            self.slots.push(HashMap::from([(Variant::NONE, Rc::new(bare()?))]));
        }
        let mut models = Vec::with_capacity(slots);
        for of_slot in &mut self.slots {
            if !of_slot.contains_key(&variant) {
                let adapted = adapt(&of_slot[&Variant::NONE])?;
                of_slot.insert(variant, Rc::new(adapted));
            }
            models.push(Rc::clone(&of_slot[&variant]));
        }
        Ok(models)
    }
}

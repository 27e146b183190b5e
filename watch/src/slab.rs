//! Values in one vector, named by a small number that is used again after removal.
//!
//! Owns: the free list. Called by: the hub's state for streams, watchers and subscriptions, and by the indexes.
//! Invariants: `len` is the number of live values; iteration order is slot order, hence the same in every run.
//! Source: own; a vector keeps a watcher at some tens of bytes where a box each would double it.

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            let place = &mut self.slots[slot as usize];
            debug_assert!(place.is_none());
            *place = Some(value);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 4 billion slots");
        assert!(slot != u32::MAX, "the largest number means 'none' in linked lists");
        self.slots.push(Some(value));
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + use<T> {
        0..u32::try_from(self.slots.len()).expect("checked at insertion")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, value)| Some((slot as u32, value.as_ref()?)))
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.get(slot).expect("slot is live")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.get_mut(slot).expect("slot is live")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert("a"), slab.insert("b"));
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.insert("c"), first);
        assert_eq!((slab[first], slab[second]), ("c", "b"));
        assert_eq!(slab.iter().collect::<Vec<_>>(), vec![(0, &"c"), (1, &"b")]);
    }
}

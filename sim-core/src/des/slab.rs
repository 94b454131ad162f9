//! A table of values with stable slot numbers and a last-freed-first-used free list.

use super::key::SLOTS;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
enum Slot<T> {
    Vacant(u32),
    Full(T),
}

/// Values by slot number.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: u32,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { slots: Vec::new(), free: NONE }
    }

    /// Stores `value` and names its slot.
    ///
    /// # Panics
    /// If every slot is taken.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let slot = self.free;
        if slot == NONE {
            return self.grow(value);
        }
        let place = &mut self.slots[slot as usize];
        let Slot::Vacant(next) = *place else { panic!("slot {slot} is on the free list and taken") };
        self.free = next;
        *place = Slot::Full(value);
        slot
    }

    #[cold]
    fn grow(&mut self, value: T) -> u32 {
        let slot = self.slots.len();
        assert!(
            slot < SLOTS as usize,
            "{slot} events are pending, the most the queue can hold: the model schedules more than it handles"
        );
        reserve_a_quarter(&mut self.slots);
        self.slots.push(Slot::Full(value));
        slot as u32
    }

    /// Takes the value out of `slot` and frees it.
    ///
    /// # Panics
    /// If the slot is vacant.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let place = &mut self.slots[slot as usize];
        let Slot::Full(value) = std::mem::replace(place, Slot::Vacant(self.free)) else {
            panic!("slot {slot} is vacant")
        };
        self.free = slot;
        value
    }

    /// Slots, taken and free.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether the slot holds a value.
    #[inline]
    pub(crate) fn is_full(&self, slot: u32) -> bool {
        matches!(self.slots.get(slot as usize), Some(Slot::Full(_)))
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

/// Makes room for one more; a big table grows by a quarter, so that at most a fifth of it is slack.
pub(crate) fn reserve_a_quarter<T>(table: &mut Vec<T>) {
    if table.len() == table.capacity() {
        table.reserve_exact((table.len() / 4).max(16));
    }
}

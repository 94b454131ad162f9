//! One copy of every name, so that a node's name is not stored once for each of its endpoints.

use super::shape::hash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Slots for names that were asked for lately.
const RECENT: usize = 4096;

/// The names so far.
pub(super) struct Names {
    all: BTreeSet<Arc<str>>,
    /// By hash. Most questions end here; names that were made to share a slot cost a look into the set.
    recent: Vec<Option<Arc<str>>>,
}

impl Default for Names {
    fn default() -> Self {
        Names { all: BTreeSet::new(), recent: vec![None; RECENT] }
    }
}

impl Names {
    /// The one copy of this name.
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        let slot = usize::try_from(hash(&[name]) % RECENT as u64).expect("less than the slots");
        if let Some(recent) = self.recent[slot].as_ref().filter(|recent| ***recent == *name) {
            return recent.clone();
        }
        let one = match self.all.get(name) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = name.into();
                self.all.insert(new.clone());
                new
            }
        };
        self.recent[slot] = Some(one.clone());
        one
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, RECENT};
    use std::sync::Arc;

    #[test]
    fn a_name_has_one_copy_however_many_others_there_are() {
        let mut names = Names::default();
        let asked: Vec<Arc<str>> = (0..RECENT * 3).map(|i| names.get(&format!("node-{i}"))).collect();
        for (i, first) in asked.iter().enumerate() {
            assert!(Arc::ptr_eq(first, &names.get(&format!("node-{i}"))), "node-{i}");
        }
    }
}

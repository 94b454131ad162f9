//! Compiled rules brought from one version to the next: a change of few ports costs a copy of the tables, not their making.
//!
//! iptables mode changes single chains ([`InPlace`]) and gives what compiling anew gives, to the last unit of work.
//! Left out: nftables and ipvs mode, whose hash tables keep elements in the order in which they came; nodes that share rules
//! would depend on who asked first.

use super::Mode;
use super::view::Moved;
use crate::kernel::path::Stack;
use crate::kube::ProxyObjects;
use crate::proxy::iptables::update::InPlace;
use sim_core::classify::Family;
use std::sync::Arc;

/// Ports that change in place at most; of more, so much would be written that compiling is as quick.
const MOST: usize = 1_000;

/// The rules compiled last, of one mode and view.
pub(super) struct Workshop {
    /// Their version.
    pub(super) version: u64,
    stack: Arc<Stack>,
    tables: InPlace,
}

impl Workshop {
    /// Begins with rules just compiled, if they can be changed in place.
    pub(super) fn new(
        version: u64,
        stack: &Arc<Stack>,
        objects: &ProxyObjects,
        mode: &Mode,
        family: Family,
    ) -> Option<Self> {
        if mode.mode.name() != "iptables" {
            return None;
        }
        let tables = InPlace::new(stack, objects, &mode.config, family)?;
        Some(Workshop { version, stack: stack.clone(), tables })
    }

    /// The rules of `version`, in which `moved` is another and all is as in `objects`; nothing if they must be compiled.
    pub(super) fn bring_to(
        &mut self,
        version: u64,
        moved: &[Moved],
        objects: &ProxyObjects,
    ) -> Option<Arc<Stack>> {
        if moved.len() > MOST || !self.tables.holds(objects) {
            return None;
        }
        if !moved.is_empty() {
            let mut stack = Stack::clone(&self.stack);
            for (old, new) in moved {
                self.tables.change(stack.xtables_mut(), old.as_ref()?, new.as_ref()?)?;
            }
            self.stack = Arc::new(stack);
        }
        self.version = version;
        Some(self.stack.clone())
    }
}

//! Syncs as kube-proxy does them: which transactions it hands to nft while the objects change
//! (`pkg/proxy/nftables/proxier.go:syncProxyRules`, `setupNFTables`, `nftElementStorage`).
//!
//! Elements are remembered and only differences are sent. In a partial sync the chains of unchanged Services are left
//! alone. A chain that is no longer needed is emptied in every sync; a sync that begins more than a second after it
//! was last emptied deletes it first, in a transaction of its own. Affinity sets go at once.
//!
//! The order of Services is that of the objects, and of what is left over that of creation; kube-proxy's is random.
//! Left out: the hourly full sync, failed transactions, the `nft --check` runs with which knftables looks at a new nft,
//! and the removal of iptables rules at start. A new ServiceCIDR shows at the next full sync only, as there.

use super::script::Script;
use super::sink::Sink;
use super::{Sets, Shape, base, service};
use crate::config::ProxyConfig;
use crate::kernel::nftables::{Base, ChainId, Element, Key, Rule, Set, SetId, Table, Verdict};
use crate::kube::ProxyObjects;
use crate::proxy::changes::Changes;
use crate::proxy::input::ToolInput;
use sim_core::classify::Family;
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeMap, BTreeSet};

/// How old a stale chain must be before it is deleted: kernels before 6.2 keep the reference of a map a moment longer.
const STALE_AFTER: SimSpan = SimSpan::from_secs(1);

/// What kube-proxy writes for each of these states, as [`crate::proxy::ProxyMode::inputs`] says.
pub(super) fn inputs(
    states: &[(SimTime, ProxyObjects)],
    config: &ProxyConfig,
    family: Family,
) -> Vec<Vec<ToolInput>> {
    let mut known = Known::new(family);
    let mut before: Option<&ProxyObjects> = None;
    let mut out = Vec::with_capacity(states.len());
    for (at, objects) in states {
        let changes = before.map_or(Changes::Everything, |old| Changes::between(old, objects));
        before = Some(objects);
        if changes == Changes::Nothing {
            out.push(Vec::new());
            continue;
        }
        let script = |stdin| ToolInput { command: "nft -f -".to_owned(), stdin };
        let deleted = known.delete_stale(*at);
        let synced = known.sync(*at, objects, config, &changes);
        out.push(deleted.into_iter().chain([synced]).map(script).collect());
    }
    out
}

/// What kube-proxy knows of the table in the kernel.
struct Known {
    family: Family,
    /// Gives names numbers. Its rules and elements are not kept up.
    table: Table,
    /// Whether base chains of earlier versions were removed.
    flushed: bool,
    /// Elements of the sets that Services fill.
    elements: BTreeMap<SetId, BTreeMap<Key, Option<Verdict>>>,
    /// Chains of Services that exist.
    chains: BTreeSet<ChainId>,
    /// Those that are not needed, and when they were last emptied.
    stale: BTreeMap<ChainId, SimTime>,
    /// Affinity sets that exist.
    affinity: BTreeSet<SetId>,
}

impl Known {
    fn new(family: Family) -> Self {
        Known {
            family,
            table: Table::new(family, super::TABLE, Some(super::TABLE_COMMENT)),
            flushed: false,
            elements: BTreeMap::new(),
            chains: BTreeSet::new(),
            stale: BTreeMap::new(),
            affinity: BTreeSet::new(),
        }
    }

    /// The transaction that deletes what has been stale for long enough.
    fn delete_stale(&mut self, now: SimTime) -> Option<String> {
        let mut script = Script::new(self.family);
        let old: Vec<ChainId> =
            self.stale.iter().filter(|(_, at)| now.since(**at) > STALE_AFTER).map(|(id, _)| *id).collect();
        for id in old {
            script.chain("delete", &self.table, &self.table.chain(id).name);
            self.stale.remove(&id);
            self.chains.remove(&id);
        }
        script.finish()
    }

    /// The transaction that brings the table to `objects`; it can be empty, and kube-proxy runs nft even so.
    fn sync(
        &mut self,
        now: SimTime,
        objects: &ProxyObjects,
        config: &ProxyConfig,
        changes: &Changes<'_>,
    ) -> String {
        let shape = Shape::new(objects, config, self.family);
        let mut sync = Sync {
            script: Script::new(self.family),
            skip: false,
            chains: BTreeSet::new(),
            affinity: BTreeSet::new(),
            left: self.elements.iter().map(|(set, e)| (*set, e.keys().cloned().collect())).collect(),
            known: self,
        };
        let sets = if *changes == Changes::Everything {
            sync.begin();
            base::write(&mut sync, &shape, &objects.service_cidrs)
        } else {
            Sets::of(&sync.known.table)
        };
        for port in &objects.ports {
            sync.skip = !changes.include(port);
            service::write(&mut sync, &shape, &sets, port);
        }
        sync.end(now, &sets)
    }
}

/// One transaction under way.
struct Sync<'k> {
    known: &'k mut Known,
    script: Script,
    /// The Service at hand has not changed: its chains and rules are not written.
    skip: bool,
    /// Chains that are needed.
    chains: BTreeSet<ChainId>,
    /// Affinity sets that are needed.
    affinity: BTreeSet<SetId>,
    /// Elements that nothing has asked for yet.
    left: BTreeMap<SetId, BTreeSet<Key>>,
}

impl Sync<'_> {
    /// The beginning of a full sync; the first also removes base chains that other versions have left at other hooks.
    fn begin(&mut self) {
        self.script.add_table(&self.known.table);
        if !self.known.flushed {
            for (name, ..) in base::BASE_CHAINS {
                self.script.chain("add", &self.known.table, name);
                self.script.chain("delete", &self.known.table, name);
            }
            self.known.flushed = true;
        }
    }

    /// Empties what is stale and removes what is left over.
    fn end(mut self, now: SimTime, sets: &Sets) -> String {
        let known = self.known;
        for &id in &known.chains {
            if self.chains.contains(&id) {
                known.stale.remove(&id);
            } else {
                self.script.chain("flush", &known.table, &known.table.chain(id).name);
                known.stale.insert(id, now);
            }
        }
        let unused: Vec<SetId> = known.affinity.difference(&self.affinity).copied().collect();
        for id in unused {
            self.script.set("delete", &known.table, &known.table.sets[id.0 as usize].name);
            known.affinity.remove(&id);
        }
        for set in sets.in_order_of_cleanup() {
            for key in self.left.remove(&set).unwrap_or_default() {
                self.script.delete_element(&known.table, &known.table.sets[set.0 as usize].name, &key);
                known.elements.entry(set).or_default().remove(&key);
            }
        }
        self.script.finish().unwrap_or_default()
    }
}

impl Sink for Sync<'_> {
    fn table(&mut self) -> &mut Table {
        &mut self.known.table
    }
    fn base_chain(&mut self, name: &str, base: Base) -> ChainId {
        let id = self.known.table.add_chain(name);
        self.script.add_base_chain(&self.known.table, name, base);
        self.script.chain("flush", &self.known.table, name);
        id
    }
    fn chain(&mut self, name: &str) -> ChainId {
        let id = self.known.table.add_chain(name);
        if self.chains.insert(id) && !self.skip {
            self.script.chain("add", &self.known.table, name);
            self.script.chain("flush", &self.known.table, name);
            // Names of Services have a slash, and only they.
            if name.contains('/') {
                self.known.chains.insert(id);
            }
        }
        id
    }
    fn commented_chain(&mut self, name: &str, comment: &str) -> ChainId {
        let id = self.known.table.add_chain(name);
        self.script.add_commented_chain(&self.known.table, name, comment);
        self.script.chain("flush", &self.known.table, name);
        id
    }
    fn set(&mut self, set: Set) -> SetId {
        if !self.skip {
            self.script.add_set(&self.known.table, &set);
        }
        let of_affinity = set.timeout_seconds.is_some();
        let id = match self.known.table.find_set(&set.name) {
            Some(id) => id,
            None => self.known.table.add_set(set),
        };
        if of_affinity {
            self.affinity.insert(id);
            self.known.affinity.insert(id);
        }
        id
    }
    fn fixed_set(&mut self, mut set: Set) -> SetId {
        let elements = std::mem::take(&mut set.elements);
        let name = set.name.clone();
        let id = self.set(set);
        self.script.set("flush", &self.known.table, &name);
        for element in &elements {
            self.script.add_element(&self.known.table, &name, element);
        }
        id
    }
    fn no_set(&mut self, set: Set) {
        self.script.add_set(&self.known.table, &set);
        self.script.set("delete", &self.known.table, &set.name);
    }
    fn element(&mut self, set: SetId, element: Element) {
        let table = &self.known.table;
        let name = &table.sets[set.0 as usize].name;
        if let Some(left) = self.left.get_mut(&set) {
            left.remove(&element.key);
        }
        let elements = self.known.elements.entry(set).or_default();
        match elements.get(&element.key) {
            Some(verdict) if *verdict == element.verdict => return,
            Some(_) => self.script.delete_element(table, name, &element.key),
            None => {}
        }
        self.script.add_element(table, name, &element);
        elements.insert(element.key, element.verdict);
    }
    fn rule(&mut self, chain: ChainId, rule: Rule) {
        if !self.skip {
            let table = &self.known.table;
            self.script.add_rule(table, &table.chain(chain).name, &rule, None);
        }
    }
    fn rule_with_set(&mut self, chain: ChainId, rule: Rule, written: &dyn Fn() -> String) {
        if !self.skip {
            let table = &self.known.table;
            self.script.add_rule(table, &table.chain(chain).name, &rule, Some(&written()));
        }
    }
}

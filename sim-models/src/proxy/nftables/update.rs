//! A partial sync: one service port changes, the rest of the table stays
//! (`pkg/proxy/nftables/proxier.go:syncProxyRules` with `doFullSync` false).
//!
//! Only chains whose rules differ are replaced and only elements that differ are sent. Chains that the port no
//! longer needs are emptied and stay, as kube-proxy leaves them until a later sync; affinity sets stay too.
//! Departure: when two ports claim the same address and port, removing one does not bring the other's element back
//! until the table is built anew. What kube-proxy writes for the same change is in [`super::sync`].

use super::sink::Sink;
use super::{Change, Sets, Shape, service};
use crate::config::ProxyConfig;
use crate::kernel::nftables::{ChainId, Element, Engine, Rule, Set, SetId, Table};
use crate::kube::{ProxyObjects, ServicePort};
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use std::collections::BTreeMap;

/// Brings `table` and its compiled `engine` from `change.old` to `change.new`. `objects` are the objects after
/// the change.
pub fn update(
    table: &mut Table,
    engine: &mut Engine,
    change: Change<'_>,
    objects: &ProxyObjects,
    config: &ProxyConfig,
    family: Family,
) {
    let shape = Shape::new(objects, config, family);
    let sets = Sets::of(table);
    let before = Parts::of(table, &shape, &sets, change.old);
    let after = Parts::of(table, &shape, &sets, change.new);
    extend(table, engine);
    for (set, seconds) in after.lifetimes {
        engine.set_lifetime(set, SimSpan::from_secs(u64::from(seconds)));
    }
    replace_chains(table, engine, &before.rules, after.rules);
    replace_elements(table, engine, &sets, objects, before.elements, after.elements);
}

/// Elements and rules of one service port.
#[derive(Default)]
struct Parts {
    elements: Vec<(SetId, Element)>,
    rules: BTreeMap<ChainId, Vec<Rule>>,
    /// Affinity sets that were there with another timeout, and the new one in seconds.
    lifetimes: Vec<(SetId, u32)>,
}

impl Parts {
    fn of(table: &mut Table, shape: &Shape, sets: &Sets, port: Option<&ServicePort>) -> Self {
        let mut collect = Collect { table, parts: Parts::default() };
        if let Some(port) = port {
            service::write(&mut collect, shape, sets, port);
        }
        collect.parts
    }
}

/// Takes chains and sets into the table, and the rest aside.
struct Collect<'a> {
    table: &'a mut Table,
    parts: Parts,
}

impl Sink for Collect<'_> {
    fn table(&mut self) -> &mut Table {
        self.table
    }
    fn chain(&mut self, name: &str) -> ChainId {
        let id = self.table.add_chain(name);
        self.parts.rules.entry(id).or_default();
        id
    }
    fn set(&mut self, set: Set) -> SetId {
        let Some(id) = self.table.find_set(&set.name) else { return self.table.add_set(set) };
        let there = &mut self.table.sets[id.0 as usize].timeout_seconds;
        if let (Some(seconds), true) = (set.timeout_seconds, *there != set.timeout_seconds) {
            *there = Some(seconds);
            self.parts.lifetimes.push((id, seconds));
        }
        id
    }
    fn element(&mut self, set: SetId, element: Element) {
        self.parts.elements.push((set, element));
    }
    fn rule(&mut self, chain: ChainId, rule: Rule) {
        self.parts.rules.entry(chain).or_default().push(rule);
    }
}

/// Gives the engine the chains and sets that the table has gained.
fn extend(table: &Table, engine: &mut Engine) {
    let (chains, sets) = engine.extent();
    for set in &table.sets[sets..] {
        engine.add_set(set);
    }
    for chain in &table.chains[chains..] {
        engine.add_chain(&chain.name, &chain.rules);
    }
}

fn replace_chains(
    table: &mut Table,
    engine: &mut Engine,
    before: &BTreeMap<ChainId, Vec<Rule>>,
    mut after: BTreeMap<ChainId, Vec<Rule>>,
) {
    for id in before.keys() {
        after.entry(*id).or_default();
    }
    for (id, rules) in after {
        let chain = &mut table.chains[id.0 as usize];
        if chain.rules != rules {
            engine.replace_chain(id, &rules);
            chain.rules = rules;
        }
    }
}

fn replace_elements(
    table: &mut Table,
    engine: &mut Engine,
    sets: &Sets,
    objects: &ProxyObjects,
    before: Vec<(SetId, Element)>,
    after: Vec<(SetId, Element)>,
) {
    for (set, old) in before.iter().filter(|b| !after.contains(b)) {
        if is_shared(sets, *set, old, objects) {
            continue;
        }
        table.sets[set.0 as usize].elements.retain(|e| e.key != old.key);
        engine.remove_element(*set, &old.key);
    }
    for (set, new) in after.into_iter().filter(|a| !before.contains(a)) {
        engine.insert_element(set, &new.key, new.verdict);
        let elements = &mut table.sets[set.0 as usize].elements;
        elements.retain(|e| e.key != new.key);
        elements.push(new);
    }
}

/// Whether another port still has this local endpoint, or this cluster IP.
fn is_shared(sets: &Sets, set: SetId, element: &Element, objects: &ProxyObjects) -> bool {
    use crate::kernel::nftables::KeyValue::{Addr, Proto, Service};
    if set == sets.cluster_ips {
        return objects.ports.iter().any(|port| element.key[..] == [Addr(port.cluster_ip)]);
    }
    Some(set) == sets.hairpin
        && objects.ports.iter().any(|port| {
            port.endpoints.reachable.iter().filter(|e| e.is_local).any(|e| {
                let ip = Addr(e.addr.ip());
                element.key[..] == [ip, ip, Proto(port.proto), Service(e.addr.port())]
            })
        })
}

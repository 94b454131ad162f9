//! A partial sync: one service port changes, the rest of the table stays
//! (`pkg/proxy/nftables/proxier.go:syncProxyRules` with `doFullSync` false).
//!
//! Only chains whose rules differ are replaced and only elements that differ are sent. Chains that the port no
//! longer needs are emptied and stay, as kube-proxy leaves them until a later sync; affinity sets stay too.
//! Departure: when two ports claim the same address and port, removing one does not bring the other's element back
//! until the table is built anew.

use super::service::{self, Needs};
use super::{Change, Sets, Shape};
use crate::config::ProxyConfig;
use crate::kernel::nftables::{ChainId, Element, Engine, Rule, SetId, Table};
use crate::kube::ProxyObjects;
use sim_core::classify::Family;

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
    let mut before = (Vec::new(), Vec::new());
    if let Some(old) = change.old {
        let needs = Needs::of(old);
        before.0 = service::elements(table, &sets, old, &needs);
        before.1 = service::rules(table, &shape, old, &needs);
    }
    let mut after = (Vec::new(), Vec::new());
    if let Some(new) = change.new {
        let needs = Needs::of(new);
        service::add_chains(table, &shape, new, &needs);
        if new.affinity_seconds.is_some() {
            service::add_affinity_sets(table, new);
        }
        after.0 = service::elements(table, &sets, new, &needs);
        after.1 = service::rules(table, &shape, new, &needs);
    }
    extend(table, engine);
    replace_chains(table, engine, &before.1, after.1);
    replace_elements(table, engine, &sets, objects, before.0, after.0);
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
    before: &[(ChainId, Vec<Rule>)],
    mut after: Vec<(ChainId, Vec<Rule>)>,
) {
    for (id, _) in before {
        if after.iter().all(|(new, _)| new != id) {
            after.push((*id, Vec::new()));
        }
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
        if Some(*set) == sets.hairpin && is_hairpin(old, objects) {
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

/// Whether another port still has this local endpoint.
fn is_hairpin(element: &Element, objects: &ProxyObjects) -> bool {
    use crate::kernel::nftables::KeyValue::{Addr, Proto, Service};
    objects.ports.iter().any(|port| {
        port.endpoints.reachable.iter().filter(|e| e.is_local).any(|e| {
            let ip = Addr(e.addr.ip());
            element.key[..] == [ip, ip, Proto(port.proto), Service(e.addr.port())]
        })
    })
}

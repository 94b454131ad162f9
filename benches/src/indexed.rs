//! What the indexed table is measured beside, and changes of it: the plain reference walk, a plain hash table as the limit
//! of any exact lookup, and one Service's change in place.

use crate::classify::{Walk, build, mode, objects};
use hashbrown::HashTable;
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::xtables::reference::Reference;
use sim_models::kernel::xtables::update::TableChange;
use sim_models::kernel::xtables::{Chain, ChainId, Compiled, Rule, TableName, Target};
use sim_models::kube::ProxyObjects;
use std::net::IpAddr;

/// The nat table of a cluster of three endpoints a Service, walked in each way.
pub struct Ways {
    /// By index and by scanning.
    pub walk: Walk,
    reference: Reference,
    plain: HashTable<(u32, u16, u32)>,
    objects: ProxyObjects,
}

fn hash(ip: u32, port: u16) -> u64 {
    let mixed = (u64::from(ip) << 16 | u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

fn v4(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => panic!("{ip} in an IPv4 cluster"),
    }
}

impl Ways {
    /// For `services` Services.
    pub fn new(services: u32) -> Self {
        let objects = objects(services, 3);
        let rules = build(mode("iptables"), &objects);
        let sets = IpSets::new(&rules.ipsets, 1);
        let mut plain = HashTable::with_capacity(services as usize);
        for (number, port) in (0..).zip(&objects.ports) {
            let (ip, port) = (v4(port.cluster_ip), port.port);
            plain.insert_unique(hash(ip, port), (ip, port, number), |e| hash(e.0, e.1));
        }
        let reference = Reference::new(&rules.xtables, &sets).expect("rules of a mode compile");
        Ways { walk: Walk::new(services), reference, plain, objects }
    }

    /// The plain reference walk to the Service at `place`, held against the index before it is timed.
    pub fn reference(&mut self, place: usize) -> u32 {
        use sim_core::classify::Unit;
        self.walk.reference(&self.reference, place)[Unit::RuleEvals]
    }

    /// A lookup of the Service at `place` in a plain hash table: no rules, no counts.
    pub fn plain(&self, place: usize) -> u32 {
        let port = &self.objects.ports[place];
        let (ip, port) = (v4(port.cluster_ip), port.port);
        self.plain.find(hash(ip, port), |e| (e.0, e.1) == (ip, port)).expect("it is there").2
    }
}

/// A compiled cluster that is changed in place.
pub struct Changes {
    compiled: Compiled,
    table: usize,
    sets: IpSets,
    services: ChainId,
    /// By Service: its chain, and the chain of its last endpoint.
    chains: Vec<(ChainId, ChainId)>,
    data: Vec<Chain>,
    rounds: usize,
}

impl Changes {
    /// For `services` Services.
    pub fn new(services: u32) -> Self {
        let rules = build(mode("iptables"), &objects(services, 3));
        let sets = IpSets::new(&rules.ipsets, 1);
        let compiled = Compiled::new(&rules.xtables, &sets).expect("rules of a mode compile");
        let table = rules.xtables.iter().position(|t| t.name == TableName::Nat).expect("a nat table");
        let data = rules.xtables[table].chains.clone();
        let chains = (0..)
            .zip(&data)
            .filter(|(_, c)| c.name.starts_with("KUBE-SVC-"))
            .map(|(number, c)| match c.rules.last().and_then(|r| r.target.as_ref()) {
                Some(Target::Jump(to)) => (ChainId(number), *to),
                other => panic!("{} ends in {other:?}", c.name),
            })
            .collect();
        let services = compiled.chain_id(table, "KUBE-SERVICES").expect("a chain of every mode");
        Changes { compiled, table, sets, services, chains, data, rounds: 0 }
    }

    fn apply(&mut self, change: TableChange) -> ChainId {
        self.compiled.apply(self.table, change, &self.sets).expect("a change of kube-proxy's")
    }

    /// Rules of a chain as they were at first, jumping to where they jump now.
    fn rules(&self, chain: ChainId, to: Option<ChainId>) -> Vec<Rule> {
        let mut rules = self.data[chain.0 as usize].rules.clone();
        if let (Some(to), Some(last)) = (to, rules.last_mut()) {
            last.target = Some(Target::Jump(to));
        }
        rules
    }

    /// The last endpoint of the next Service is replaced, as a rolling update does it: a new endpoint's chain, the
    /// Service's rules, and the old endpoint's chain gone.
    pub fn endpoint(&mut self) -> u64 {
        self.rounds += 1;
        let service = (self.rounds * 7919) % self.chains.len();
        let (chain, old) = self.chains[service];
        // The chain numbers of endpoints that came later are of places that were free: rules come from the first.
        let first = self.data[chain.0 as usize].rules.last().and_then(|r| r.target.clone());
        let Some(Target::Jump(first)) = first else { panic!("{chain:?} ends in {first:?}") };
        let name = format!("KUBE-SEP-NEW{}", self.rounds).as_str().into();
        let new = self.apply(TableChange::Add { after: old, name });
        self.apply(TableChange::Replace { chain: new, rules: self.rules(first, None) });
        let rules = self.rules(chain, Some(new));
        self.apply(TableChange::Replace { chain, rules });
        self.apply(TableChange::Remove(old));
        self.chains[service].1 = new;
        u64::from(new.0)
    }

    /// A Service loses its last endpoint and gets it back: its rule leaves KUBE-SERVICES, and the same rule comes again.
    pub fn service(&mut self) -> u64 {
        self.rounds += 1;
        let at = (self.rounds * 7919) % self.chains.len();
        let rule = self.data[self.services.0 as usize].rules[at].clone();
        self.apply(TableChange::Delete { chain: self.services, at });
        self.apply(TableChange::Insert { chain: self.services, at, rule });
        at as u64 + 1
    }

    /// Bytes of memory a rule, index included.
    pub fn bytes_per_rule(&self) -> f64 {
        let (bytes, rules) = self.compiled.own_bytes();
        bytes as f64 / rules as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_the_table_whole_and_a_rule_is_small() {
        let mut changes = Changes::new(400);
        let before = changes.compiled.memory_bytes(4);
        for _ in 0..1_000 {
            changes.endpoint();
            changes.service();
        }
        assert_eq!(changes.compiled.memory_bytes(4), before);
        let bytes = changes.bytes_per_rule();
        assert!(bytes <= 200.0, "{bytes} bytes a rule");
    }

    #[test]
    fn every_way_finds_the_same_service_with_the_same_work() {
        let mut ways = Ways::new(300);
        for place in [0, 1, 150, 299] {
            // Fresh random numbers each: only what comes before the first draw is the same.
            assert_eq!(ways.plain(place), place as u32);
            assert!(ways.reference(place).abs_diff(ways.walk.run(place)) <= 2);
        }
    }
}

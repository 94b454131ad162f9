//! A change of one Service port in compiled tables, without compiling the others anew.
//!
//! What a change of endpoints does to iptables mode's tables: the port's chains and those of its endpoints are written, come
//! and go. Where the port's entries in shared chains change too (the first endpoint comes, the last one goes), its
//! affinity lists are numbered, or comments come or go everywhere, the caller compiles anew. The result is that of
//! compiling anew ([`Compiled::apply`]).

use super::fixed::NatChain;
use super::service::{ServiceRules, service_rules};
use super::{SyncContext, is_large};
use crate::config::ProxyConfig;
use crate::kernel::ipset::IpSets;
use crate::kernel::path::Stack;
use crate::kernel::xtables::update::TableChange;
use crate::kernel::xtables::{Chain, ChainId, Compiled, Rule, TableName, Target};
use crate::kube::{ProxyObjects, ServicePort};
use sim_core::classify::Family;
use std::sync::Arc;

/// Where chains of the port are taken to begin; beyond those that are always there.
const FIRST: ChainId = ChainId(1 << 16);

/// Tables in which ports change, with what all their rules have in common.
pub struct InPlace {
    cx: SyncContext,
    nat: usize,
    sets: IpSets,
}

impl InPlace {
    /// For the tables of a node that sees `objects`.
    pub fn new(stack: &Stack, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Option<Self> {
        let nat = stack.xtables().place(TableName::Nat)?;
        Some(InPlace { cx: SyncContext::new(objects, config, family), nat, sets: IpSets::new(&[], 0) })
    }

    /// Whether rules are written in the same way for `objects` too.
    pub fn holds(&self, objects: &ProxyObjects) -> bool {
        self.cx.large_cluster == is_large(objects)
    }

    /// Brings the tables from `old` to `new`, or tells by `None` that they are to be compiled anew: then they are neither.
    pub fn change(&self, compiled: &mut Compiled, old: &ServicePort, new: &ServicePort) -> Option<()> {
        let (before, after) = (service_rules(old, FIRST, &self.cx), service_rules(new, FIRST, &self.cx));
        if before.filter != after.filter || before.nat != after.nat {
            return None;
        }
        let name = |rules: &ServiceRules, id: ChainId| match id.0.checked_sub(FIRST.0) {
            Some(own) => rules.nat_chains[own as usize].name.clone(),
            None => NatChain::name(id).into(),
        };
        let mut ids: Vec<ChainId> = Vec::with_capacity(after.nat_chains.len());
        for chain in &after.nat_chains {
            let id = match compiled.chain_id(self.nat, &chain.name) {
                Some(id) => id,
                // The port's first chain is there, or its entries would differ.
                None => self.apply(
                    compiled,
                    TableChange::Add { after: *ids.last()?, name: Arc::clone(&chain.name) },
                )?,
            };
            ids.push(id);
        }
        let was = |chain: &Chain| before.nat_chains.iter().find(|c| c.name == chain.name);
        for (chain, &id) in after.nat_chains.iter().zip(&ids) {
            let leads =
                |rule: &Rule| matches!(rule.target, Some(Target::Jump(to) | Target::Goto(to)) if to >= FIRST);
            if was(chain).is_some_and(|c| c.rules == chain.rules) && !chain.rules.iter().any(leads) {
                continue;
            }
            let mut rules = chain.rules.clone();
            for rule in &mut rules {
                if let Some(Target::Jump(to) | Target::Goto(to)) = &mut rule.target {
                    *to = match to.0.checked_sub(FIRST.0) {
                        Some(own) => ids[own as usize],
                        None => compiled.chain_id(self.nat, &name(&after, *to))?,
                    };
                }
            }
            self.apply(compiled, TableChange::Replace { chain: id, rules })?;
        }
        let stays = |chain: &Chain| after.nat_chains.iter().any(|c| c.name == chain.name);
        for chain in before.nat_chains.iter().filter(|chain| !stays(chain)) {
            let id = compiled.chain_id(self.nat, &chain.name)?;
            self.apply(compiled, TableChange::Remove(id))?;
        }
        Some(())
    }

    fn apply(&self, compiled: &mut Compiled, change: TableChange) -> Option<ChainId> {
        compiled.apply(self.nat, change, &self.sets).ok()
    }
}

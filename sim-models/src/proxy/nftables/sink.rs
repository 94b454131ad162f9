//! Where the builder writes to: one sequence of additions, in the order in which kube-proxy puts them into its
//! transaction (`pkg/proxy/nftables/proxier.go:setupNFTables`, `syncProxyRules`), whatever becomes of it.
//!
//! A [`Table`] takes them as they are, which is the state after a full sync. The script of a sync ([`super::sync`])
//! is made from the same sequence, and so is an update of a running table ([`super::update`]).

use crate::kernel::nftables::{Base, ChainId, Element, Rule, Set, SetId, Table};

/// What is written to.
pub(super) trait Sink {
    /// The table with everything that was added so far.
    fn table(&mut self) -> &mut Table;

    /// A base chain, empty.
    fn base_chain(&mut self, name: &str, base: Base) -> ChainId {
        let id = self.table().add_chain(name);
        self.table().chains[id.0 as usize].base = Some(base);
        id
    }
    /// A chain, empty unless this sequence has already filled it.
    fn chain(&mut self, name: &str) -> ChainId {
        self.table().add_chain(name)
    }
    /// A chain that says what it is for.
    fn commented_chain(&mut self, name: &str, comment: &str) -> ChainId {
        let id = self.table().add_chain(name);
        self.table().chains[id.0 as usize].comment = Some(comment.into());
        id
    }
    /// A set or map with the elements that it may still have.
    fn set(&mut self, set: Set) -> SetId {
        match self.table().find_set(&set.name) {
            Some(id) => id,
            None => self.table().add_set(set),
        }
    }
    /// A set whose elements are these alone.
    fn fixed_set(&mut self, set: Set) -> SetId {
        self.set(set)
    }
    /// A set that must not be there.
    fn no_set(&mut self, _set: Set) {}
    /// An element of a set whose contents kube-proxy remembers.
    fn element(&mut self, set: SetId, element: Element) {
        self.table().sets[set.0 as usize].elements.push(element);
    }
    /// A rule behind those that this sequence has put into its chain.
    fn rule(&mut self, chain: ChainId, rule: Rule) {
        self.table().add_rule(chain, rule);
    }
    /// A rule that looks addresses up in an anonymous set, and what kube-proxy writes between the set's braces: of a
    /// set with one network the rule has a comparison, and of addresses networks.
    fn rule_with_set(&mut self, chain: ChainId, rule: Rule, _written: &dyn Fn() -> String) {
        self.rule(chain, rule);
    }
}

impl Sink for Table {
    fn table(&mut self) -> &mut Table {
        self
    }
}

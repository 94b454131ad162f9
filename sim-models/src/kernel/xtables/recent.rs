//! The lists of `-m recent`: addresses with the times of their packets, which kube-proxy uses for ClientIP affinity
//! (`net/netfilter/xt_recent.c`).
//!
//! Every list is found by walking one list of all lists and comparing names (`recent_table_lookup`): a list that no
//! rule had before is put at its end, in the order of the rules that are loaded, and one that no rule has any more goes.
//! A list holds up to `ip_list_tot` = 100 addresses, the one used least recently being evicted for a new one. Times are
//! ticks of the kernel's clock.
//!
//! Left out: the hash inside a list (its 128 chains are short at 100 entries), and that lists of both families are one.

use super::memory::{HZ, jiffies};
use sim_core::classify::{Unit, Work};
use sim_core::units::SimTime;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// `ip_list_tot`: addresses that one list remembers.
const IP_LIST_TOT: usize = 100;
/// Packets of an address that are remembered where no rule asks for more.
const STAMPS: usize = 32;

/// What a rule asks of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ask {
    /// What is done.
    pub action: Action,
    /// `--seconds`: how long ago a packet may be to count.
    pub seconds: Option<u32>,
    /// `--reap`: an entry that is out of date goes, if it is the oldest.
    pub reap: bool,
    /// `--hitcount`: packets that it takes.
    pub hitcount: Option<u32>,
    /// `--rttl`: the time to live must be the same.
    pub ttl: bool,
    /// Negated.
    pub invert: bool,
}

impl Ask {
    /// What kube-proxy's rules ask: `--set`, or `--rcheck` with `--seconds` and `--reap`.
    pub(super) fn of_kube_proxy(set: bool, seconds: Option<u32>) -> Self {
        let action = if set { Action::Set } else { Action::Check };
        Ask { action, seconds, reap: seconds.is_some(), ..Ask::default() }
    }
}

/// What is done with an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look for it.
    #[default]
    Check,
    /// Look for it and, if it matches, note the packet.
    Update,
    /// Put it there, or note the packet.
    Set,
    /// Take it out.
    Remove,
}

/// A list that rules ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSpec {
    /// Name.
    pub name: Arc<str>,
    /// Bits of an address that it keeps: those that its first rule says.
    pub mask: IpAddr,
    /// Packets of an address that it remembers.
    pub stamps: usize,
}

impl ListSpec {
    /// A list whose first rule asks this.
    pub(super) fn new(name: Arc<str>, mask: IpAddr, ask: &Ask) -> Self {
        ListSpec { name, mask, stamps: stamps(ask) }
    }
    /// Another rule for it.
    pub(super) fn also(&mut self, ask: &Ask) {
        self.stamps = self.stamps.max(stamps(ask));
    }
}

/// Packets to remember so that `ask` can be answered (`recent_mt_check`).
fn stamps(ask: &Ask) -> usize {
    ask.hitcount.map_or(STAMPS, |hits| hits as usize).next_power_of_two()
}

/// One address.
#[derive(Clone, Debug)]
struct Entry {
    addr: IpAddr,
    ttl: u8,
    /// A ring of ticks; `next` is where the next one goes.
    stamps: Vec<u64>,
    next: usize,
}

impl Entry {
    fn newest(&self) -> u64 {
        self.stamps[self.next - 1]
    }
}

#[derive(Clone, Debug)]
struct List {
    spec: ListSpec,
    /// Least recently used first.
    entries: Vec<Entry>,
}

/// The lists of one node.
#[derive(Clone, Debug, Default)]
pub struct RecentTables {
    /// In the order in which they are looked through.
    lists: Vec<List>,
    /// Those that the rules have, and where each is among `lists`.
    bound: Option<Arc<[ListSpec]>>,
    places: Vec<usize>,
    /// Bytes of names that are compared until the list at a place is found.
    name_bytes: Vec<u32>,
}

impl RecentTables {
    /// Lists of rules that were loaded; packets then name a list by its index in `specs`.
    pub(in crate::kernel) fn bind(&mut self, specs: &Arc<[ListSpec]>) {
        if self.bound.as_ref().is_some_and(|bound| Arc::ptr_eq(bound, specs)) {
            return;
        }
        let wanted: BTreeMap<&str, usize> = specs.iter().zip(0..).map(|(s, i)| (&*s.name, i)).collect();
        // A list of the other family's addresses cannot be kept.
        let kept = |list: &List| {
            let index = wanted.get(&*list.spec.name);
            index.is_some_and(|&index| specs[index].mask.is_ipv4() == list.spec.mask.is_ipv4())
        };
        self.lists.retain(kept);
        self.places = vec![usize::MAX; specs.len()];
        for (at, list) in self.lists.iter_mut().enumerate() {
            let index = wanted[&*list.spec.name];
            self.places[index] = at;
            // More packets to remember: the list begins anew.
            if specs[index].stamps > list.spec.stamps {
                list.spec.stamps = specs[index].stamps;
                list.entries.clear();
            }
        }
        for (index, spec) in specs.iter().enumerate() {
            if self.places[index] == usize::MAX {
                self.places[index] = self.lists.len();
                self.lists.push(List { spec: spec.clone(), entries: Vec::new() });
            }
        }
        let names: Vec<Arc<str>> = self.lists.iter().map(|list| list.spec.name.clone()).collect();
        self.name_bytes = search_bytes(&names);
        self.bound = Some(specs.clone());
    }

    /// `recent_mt`: what the list says of a packet from `addr`, and what it remembers of it.
    pub(super) fn run(
        &mut self,
        index: usize,
        ask: &Ask,
        addr: IpAddr,
        ttl: u8,
        now: SimTime,
        work: &mut Work,
    ) -> bool {
        let place = self.places[index];
        work[Unit::RecentTableSteps] += place as u32 + 1;
        work[Unit::RecentNameBytes] += self.name_bytes[place];
        let now = jiffies(now);
        let list = &mut self.lists[place];
        let addr = masked(addr, list.spec.mask);
        let same_ttl = |entry: &Entry| !ask.ttl || ttl == 0 || entry.ttl == 0 || ttl == entry.ttl;
        let Some(at) = list.entries.iter().position(|e| e.addr == addr && same_ttl(e)) else {
            if ask.action != Action::Set {
                return ask.invert;
            }
            work[Unit::RecentNew] += 1;
            if list.entries.len() >= IP_LIST_TOT {
                list.entries.remove(0);
                work[Unit::RecentEvict] += 1;
            }
            list.entries.push(Entry { addr, ttl, stamps: vec![now], next: 1 });
            return !ask.invert;
        };
        work[Unit::RecentFound] += 1;
        let fits = match ask.action {
            Action::Set => !ask.invert,
            Action::Remove => {
                list.entries.remove(at);
                return !ask.invert;
            }
            Action::Check | Action::Update => {
                let since = ask.seconds.map(|seconds| i128::from(now) - i128::from(seconds) * i128::from(HZ));
                let counts = |&&stamp: &&u64| since.is_none_or(|since| since <= i128::from(stamp));
                let hits = list.entries[at].stamps.iter().filter(counts).count();
                let fits = (hits >= ask.hitcount.unwrap_or(1) as usize) != ask.invert;
                let kept = at == 0 && ask.action == Action::Update && fits;
                if ask.reap
                    && !kept
                    && since.is_some_and(|since| i128::from(list.entries[0].newest()) < since)
                {
                    list.entries.remove(0);
                    if at == 0 {
                        return fits;
                    }
                    return list.note(at - 1, ask, fits, ttl, now);
                }
                fits
            }
        };
        list.note(at, ask, fits, ttl, now)
    }
}

impl List {
    /// Notes the packet at the entry `at` if it is to be (`recent_entry_update`); gives `fits` back.
    fn note(&mut self, at: usize, ask: &Ask, fits: bool, ttl: u8, now: u64) -> bool {
        if ask.action == Action::Set || (ask.action == Action::Update && fits) {
            let mut entry = self.entries.remove(at);
            entry.next %= self.spec.stamps;
            match entry.stamps.get_mut(entry.next) {
                Some(stamp) => *stamp = now,
                None => entry.stamps.push(now),
            }
            entry.next += 1;
            entry.ttl = ttl;
            self.entries.push(entry);
        }
        fits
    }
}

fn masked(addr: IpAddr, mask: IpAddr) -> IpAddr {
    match (addr, mask) {
        (IpAddr::V4(a), IpAddr::V4(m)) => IpAddr::V4((u32::from(a) & u32::from(m)).into()),
        (IpAddr::V6(a), IpAddr::V6(m)) => IpAddr::V6((u128::from(a) & u128::from(m)).into()),
        _ => panic!("{addr} in a list with mask {mask}"),
    }
}

/// For each table of the list, bytes that comparing names takes (`strcmp`) until it is found: with each table before
/// it as far as the names are equal and one more, and its own whole.
pub fn search_bytes(names: &[Arc<str>]) -> Vec<u32> {
    // A tree of the names so far: at each node, how many go through it, and where it goes on.
    let mut nodes: Vec<(u32, BTreeMap<u8, usize>)> = vec![Default::default()];
    let mut out = Vec::with_capacity(names.len());
    for (before, name) in names.iter().enumerate() {
        let (mut equal, mut at) = (0, 0);
        for byte in name.bytes() {
            let next = nodes.len();
            let found = *nodes[at].1.entry(byte).or_insert(next);
            if found == next {
                nodes.push(Default::default());
            }
            at = found;
            equal += nodes[at].0;
            nodes[at].0 += 1;
        }
        out.push(equal + before as u32 + name.len() as u32 + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SET: Ask =
        Ask { action: Action::Set, seconds: None, reap: false, hitcount: None, ttl: false, invert: false };

    fn check(seconds: u32) -> Ask {
        Ask { action: Action::Check, seconds: Some(seconds), reap: true, ..SET }
    }

    fn spec(name: &str) -> ListSpec {
        ListSpec::new(name.into(), [255; 4].into(), &SET)
    }

    /// A node with these lists, and a way to ask the list `index` at a second.
    struct Node {
        tables: RecentTables,
        work: Work,
    }

    impl Node {
        fn new(names: &[&str]) -> Self {
            let mut node = Node { tables: RecentTables::default(), work: Work::new() };
            node.load(names);
            node
        }
        fn load(&mut self, names: &[&str]) {
            self.tables.bind(&names.iter().map(|name| spec(name)).collect());
        }
        fn ask(&mut self, index: usize, ask: &Ask, last: u32, second: f64) -> bool {
            self.ask_ttl(index, ask, last, second, 64)
        }
        fn ask_ttl(&mut self, index: usize, ask: &Ask, last: u32, second: f64, ttl: u8) -> bool {
            let addr = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + last));
            let now = SimTime::from_ns((second * 1e9) as u64);
            self.tables.run(index, ask, addr, ttl, now, &mut self.work)
        }
    }

    #[test]
    fn the_101st_client_evicts_the_one_used_least_recently() {
        let mut node = Node::new(&["A"]);
        for last in 0..100 {
            assert!(node.ask(0, &SET, last, f64::from(last)));
        }
        // The first is used again; then one more comes.
        node.ask(0, &SET, 0, 100.0);
        node.ask(0, &SET, 100, 101.0);
        for (last, known) in [(0, true), (1, false), (2, true), (100, true)] {
            assert_eq!(node.ask(0, &check(1_000), last, 102.0), known, "{last}");
        }
    }

    #[test]
    fn finding_a_list_costs_its_place_and_a_new_one_comes_last() {
        let mut node = Node::new(&["B", "D"]);
        let steps = |node: &mut Node, index: usize| {
            node.work = Work::new();
            node.ask(index, &check(5), 1, 0.0);
            node.work[Unit::RecentTableSteps]
        };
        assert_eq!((steps(&mut node, 0), steps(&mut node, 1)), (1, 2));
        // Rules in another order: known lists stay where they are.
        node.load(&["A", "B", "C", "D"]);
        assert_eq!([0, 1, 2, 3].map(|index| steps(&mut node, index)), [3, 1, 4, 2]);
        node.load(&["C", "D"]);
        assert_eq!([0, 1].map(|index| steps(&mut node, index)), [2, 1]);
    }

    #[test]
    fn what_a_list_holds_stays_when_other_rules_are_loaded_and_goes_with_its_last_rule() {
        let mut node = Node::new(&["A", "B"]);
        node.ask(1, &SET, 1, 0.0);
        node.load(&["B", "C"]);
        assert!(node.ask(0, &check(10), 1, 1.0));
        assert!(!node.ask(1, &check(10), 1, 1.0));
        node.load(&["C"]);
        node.load(&["B", "C"]);
        assert!(!node.ask(0, &check(10), 1, 1.0));
    }

    #[test]
    fn a_packet_counts_for_its_seconds_to_the_tick() {
        let mut node = Node::new(&["A"]);
        node.ask(0, &SET, 1, 1.0);
        let keep = Ask { reap: false, ..check(10) };
        assert!(node.ask(0, &keep, 1, 11.0));
        assert!(!node.ask(0, &keep, 1, 11.0041));
        assert!(node.ask(0, &Ask { invert: true, ..keep }, 1, 11.0041));
        assert!(node.ask(0, &Ask { seconds: None, ..keep }, 1, 1e6));
        // Reaping takes it out once it is out of date.
        assert!(!node.ask(0, &check(10), 1, 12.0));
        assert!(!node.ask(0, &Ask { seconds: None, ..keep }, 1, 12.0));
    }

    #[test]
    fn reaping_takes_the_oldest_entry_only_and_not_the_one_that_is_updated() {
        let mut node = Node::new(&["A"]);
        let keep = Ask { seconds: None, reap: false, ..check(1) };
        for last in [1, 2] {
            node.ask(0, &SET, last, 0.0);
        }
        // Client 2 asks: the oldest is client 1.
        assert!(!node.ask(0, &check(10), 2, 20.0));
        assert!(!node.ask(0, &keep, 1, 20.0));
        assert!(node.ask(0, &keep, 2, 20.0));
        // An update that matches keeps itself, though a packet of it is old.
        let update = Ask { action: Action::Update, seconds: Some(10), reap: true, ..SET };
        node.ask(0, &SET, 2, 25.0);
        assert!(node.ask(0, &update, 2, 30.0));
        assert!(node.ask(0, &update, 2, 39.0));
        // Nobody is reaped by a client that is not known.
        assert!(!node.ask(0, &check(1), 9, 60.0));
        assert!(node.ask(0, &keep, 2, 60.0));
    }

    #[test]
    fn a_hitcount_needs_that_many_packets_within_the_time() {
        let mut node = Node::new(&["A"]);
        let update = Ask { action: Action::Update, seconds: Some(10), hitcount: Some(3), ..SET };
        assert!(!node.ask(0, &update, 1, 0.0), "an unknown address is not put there");
        for second in [0.0, 1.0] {
            node.ask(0, &SET, 1, second);
        }
        assert!(!node.ask(0, &update, 1, 2.0), "two packets; one that does not match is not noted");
        node.ask(0, &SET, 1, 2.0);
        assert!(node.ask(0, &update, 1, 3.0));
        assert!(node.ask(0, &update, 1, 11.0), "1, 2 and 3 count still");
        assert!(!node.ask(0, &update, 1, 22.0));
    }

    #[test]
    fn more_packets_than_are_remembered_overwrite_the_oldest() {
        let mut node = Node::new(&["A"]);
        for packet in 0..40 {
            node.ask(0, &SET, 1, f64::from(packet));
        }
        let within = |seconds, hits| Ask {
            action: Action::Check,
            seconds: Some(seconds),
            hitcount: Some(hits),
            ..SET
        };
        assert!(node.ask(0, &within(31, 32), 1, 39.0));
        assert!(!node.ask(0, &within(1000, 33), 1, 39.0));
    }

    #[test]
    fn an_address_of_another_ttl_is_another_where_the_rule_asks() {
        let mut node = Node::new(&["A"]);
        let ask = Ask { action: Action::Check, ttl: true, ..SET };
        node.ask_ttl(0, &SET, 1, 0.0, 64);
        assert!(node.ask_ttl(0, &ask, 1, 0.0, 64));
        assert!(!node.ask_ttl(0, &ask, 1, 0.0, 63));
        assert!(node.ask_ttl(0, &Ask { ttl: false, ..ask }, 1, 0.0, 63));
    }

    #[test]
    fn removing_matches_what_was_there() {
        let mut node = Node::new(&["A"]);
        let remove = Ask { action: Action::Remove, ..SET };
        assert!(!node.ask(0, &remove, 1, 0.0));
        node.ask(0, &SET, 1, 0.0);
        assert!(node.ask(0, &remove, 1, 0.0));
        assert!(!node.ask(0, &remove, 1, 0.0));
    }

    #[test]
    fn a_mask_makes_clients_of_a_network_one() {
        let mut node = Node { tables: RecentTables::default(), work: Work::new() };
        node.tables.bind(&[ListSpec::new("A".into(), [255, 255, 255, 0].into(), &SET)].into_iter().collect());
        node.ask(0, &SET, 1, 0.0);
        assert!(node.ask(0, &check(5), 200, 0.0));
        assert!(!node.ask(0, &check(5), 256, 0.0));
    }
}

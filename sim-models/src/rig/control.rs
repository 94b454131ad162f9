//! Cells of the control plane: wall times of tools that load, change and list the rig's rules, and of whole syncs of kube-proxy.
//!
//! `load_full_wall`: everything into an empty table. `inc_partial_wall`: what kube-proxy writes when one Service
//! changed; `inc_min_wall`: only that Service's chains; `inc_add_wall`, `inc_del_wall`: a Service more, or one less. `save_wall`,
//! `list_chains_wall`, `list_terse_wall`: listings. IPVS is loaded by ipset, iptables-restore, ip and ipvsadm
//! apart. `kubeproxy_*`: the real kube-proxy on one core, S one-port ClusterIP Services with E ready endpoints elsewhere.
//!
//! Left out: user and system time apart (`*_user`, `*_sys`).

use super::case::Case;
use super::cell::{Cell, Measurement, Unpredicted};
use super::ruleset;
use crate::config::{ProxyConfig, XtablesBackend};
use crate::kernel::cost::{CostProfile, PROFILES};
use crate::kernel::rules::NodeRules;
use crate::kube::{EndpointLists, ServicePort};
use crate::proxy::sync::nft::Objects;
use crate::proxy::sync::xtables::Rules;
use crate::proxy::sync::{
    Parts, Size, SyncShape, SyncWork, ipvs, memory, nft, xtables, xtables_nft,
};
use crate::proxy::{self, Simulated};
use sim_core::classify::Family;
use std::ops::Add;

/// Which part of its time a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Wall time of a tool alone.
    Tool,
    /// Wall time of a sync.
    Sync,
    /// From the change to traffic.
    Live,
    /// Processor time of kube-proxy.
    OwnCpu,
    /// Processor time of its tools.
    ToolsCpu,
    /// Peak memory.
    Memory,
}

/// What a cell of the control plane measured.
#[derive(Clone, Debug)]
pub struct ControlCell {
    /// Part of the time.
    pub measure: Measure,
    /// Work done.
    pub work: SyncWork,
    /// The table's size, for memory.
    pub table: Size,
}

/// Whether a metric is one of the control plane's that is predicted.
pub fn is_control(metric: &str) -> bool {
    metric.ends_with("_wall") || metric.starts_with("kubeproxy_")
}

impl ControlCell {
    /// What `cell` measured.
    ///
    /// # Errors
    /// If its mode, case or metric is not one that is modelled.
    pub fn of(cell: &Cell) -> Result<Self, Unpredicted> {
        if cell.metric.starts_with("kubeproxy_") { of_kube_proxy(cell) } else { of_tool(cell) }
    }

    /// Its value in the unit of the cell: milliseconds, millions of instructions, KiB.
    ///
    /// # Errors
    /// If the profile does not price it.
    pub fn predict(&self, measurement: &Measurement, profile: &CostProfile) -> Result<f64, Unpredicted> {
        let cell = &measurement.cell;
        let unit = match (self.measure, profile.unit.as_str()) {
            (Measure::Memory, _) => "KiB",
            (_, "ns") => "ms",
            _ => "Minstr(virtual_ms)",
        };
        if measurement.unit != unit {
            let (theirs, name) = (&measurement.unit, &profile.name);
            return Err(Unpredicted(format!("measured in {theirs}, and profile {name} predicts {unit}")));
        }
        let other;
        let profile = match () {
            () if cell.kernel == profile.kernel => profile,
            // The tools of another rig of this profile have the prices of that rig's own.
            () if self.measure == Measure::Tool && profile.rigs.contains_key(&cell.kernel) => {
                let mut all = PROFILES.iter().filter_map(|(name, _)| CostProfile::named(name));
                let own = all.find(|p| p.kernel == cell.kernel && p.has_tool());
                other = own.ok_or_else(|| not_fitted(cell, profile))?;
                &other
            }
            () => return Err(not_fitted(cell, profile)),
        };
        let parts = match self.measure {
            Measure::Memory => {
                let unpriced = || Unpredicted(format!("profile {} prices no memory", profile.name));
                return memory::peak_kib(&self.table, &self.work, profile).ok_or_else(unpriced);
            }
            Measure::Tool if profile.has_tool() => self.work.parts(|name| profile.tool_price(name)),
            Measure::Tool => {
                return Err(Unpredicted(format!("profile {} prices no tools", profile.name)));
            }
            _ if profile.has_sync() => self.work.parts(|name| profile.sync_price(name)),
            _ => return Err(Unpredicted(format!("profile {} prices no syncs", profile.name))),
        };
        Ok(self.measure.of(&parts) / 1000.0)
    }
}

fn not_fitted(cell: &Cell, profile: &CostProfile) -> Unpredicted {
    let (kernel, name) = (&cell.kernel, &profile.name);
    Unpredicted(format!("kernel {kernel}: profile {name} was not fitted on it"))
}

impl Measure {
    /// Its part of the time.
    pub fn of(self, parts: &Parts) -> f64 {
        match self {
            Measure::Tool | Measure::Sync => parts.wall(),
            Measure::Live => parts.live(),
            Measure::OwnCpu => parts.own_cpu(),
            Measure::ToolsCpu => parts.tools_cpu(),
            Measure::Memory => 0.0,
        }
    }
}

fn checked(cell: &Cell) -> Result<(), Unpredicted> {
    let (s, e) = (u64::from(cell.services), u64::from(cell.endpoints));
    if s == 0 || e == 0 || s > 100_000 || s * e > 1_000_000 {
        let why = format!("{s} Services of {e} endpoints: the rig had 1 to 100,000, and endpoints");
        return Err(Unpredicted(why));
    }
    Ok(())
}

fn unknown(cell: &Cell) -> Unpredicted {
    Unpredicted(format!("mode {}: no metric {}", cell.mode, cell.metric))
}

fn of_tool(cell: &Cell) -> Result<ControlCell, Unpredicted> {
    checked(cell)?;
    let case = Case::of_load(cell)?;
    if case.node_ports && cell.services > 32_768 {
        return Err(Unpredicted(format!("{} NodePorts: more than there are", cell.services)));
    }
    let objects = ruleset::objects(&case, cell.services, cell.endpoints);
    let rules = ruleset::rules(&case, &cell.mode, &objects)?;
    let metric = cell.metric.strip_suffix("_wall").unwrap_or(&cell.metric);
    let (s, e) = (u64::from(cell.services), u64::from(cell.endpoints));
    let work = match cell.mode.as_str() {
        "ipt" | "ipt_pre121" | "iptnft" => of_iptables(&rules, metric, s),
        "nft" | "nft136" => of_nft(&rules, metric, s, cell.mode == "nft136"),
        _ => of_ipvs(&rules, metric, s, e),
    };
    let work = work.ok_or_else(|| unknown(cell))?;
    Ok(ControlCell { measure: Measure::Tool, work, table: Size::default() })
}

/// Of all Services' own, one's.
fn one_of(services: u64) -> impl Fn(u64) -> u64 {
    move |all| all.div_ceil(services)
}

fn of_iptables(rules: &NodeRules, metric: &str, services: u64) -> Option<SyncWork> {
    let is_own = |name: &str| {
        ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-"].iter().any(|s| name.starts_with(s))
    };
    let chains = || rules.xtables.iter().flat_map(|table| &table.chains);
    let sum = |wanted: &dyn Fn(&crate::kernel::xtables::Chain) -> bool| {
        chains().filter(|c| wanted(c)).map(Rules::of_chain).fold(Rules::default(), Add::add)
    };
    let own = sum(&|c| is_own(&c.name));
    let shared = sum(&|c| !is_own(&c.name) && c.base.is_none());
    let all = own + sum(&|c| !is_own(&c.name));
    let one = one_of(services);
    let one = Rules {
        rules: one(own.rules),
        chains: one(own.chains),
        matches: one(own.matches),
        statistics: one(own.statistics),
        recents: one(own.recents),
        port_names: one(own.port_names),
        jumps: one(own.jumps),
        extensions: own.extensions,
    };
    let empty = Rules::default();
    let nft = rules.xtables_backend == XtablesBackend::Nft;
    let restore = |text: Rules, before: Rules, rewritten: u64| match nft {
        true => xtables_nft::restore(text, before, all, rewritten),
        false => xtables::restore(text, before, all),
    };
    let flushing = |text: Rules, rewritten: u64| SyncWork {
        flushed_rules: if nft { 0 } else { text.rules },
        ..restore(text, all, rewritten)
    };
    Some(match metric {
        "load_full" => restore(all, empty, 0),
        "inc_partial" => flushing(shared + one, shared.rules),
        "inc_min" => flushing(one, 0),
        "save" if nft => xtables_nft::save(all),
        "save" => xtables::save(all),
        _ => return None,
    })
}

fn of_nft(rules: &NodeRules, metric: &str, services: u64, script_of_136: bool) -> Option<SyncWork> {
    let table = rules.nftables.as_ref()?;
    let all = Objects::of_table(table);
    let own = table.chains.iter().filter(|c| c.name.contains('/'));
    let (chains, own_rules) = own.fold((0, 0), |(n, r), c| (n + 1, r + c.rules.len() as u64));
    let one = one_of(services);
    let service = Objects {
        chains: one(chains),
        rules: one(own_rules),
        named: 0,
        elements: 0,
        sets: one(all.sets),
        set_elements: one(all.set_elements),
    };
    let named = one(all.elements);
    Some(match metric {
        // The older shape's script did not delete base chains first.
        "load_full" if script_of_136 => nft::transact(all, nft::BASE_CHAINS, Objects::default()),
        "load_full" => nft::transact(all, 0, Objects::default()),
        "inc_partial" => nft::transact(service, service.rules, all),
        "inc_add" => nft::transact(Objects { elements: named, ..service }, 0, all),
        "inc_del" => nft::transact(Objects { elements: named, ..Objects::default() }, service.rules, all),
        "list_chains" => nft::list_chains(all),
        "list_terse" => nft::list_terse(all),
        "save" => nft::list(all),
        _ => return None,
    })
}

fn of_ipvs(rules: &NodeRules, metric: &str, services: u64, endpoints: u64) -> Option<SyncWork> {
    let all = rules.xtables.iter().map(Rules::of_table).fold(Rules::default(), Add::add);
    let scheduler = rules.ipvs.first().map_or("", |server| &*server.scheduler);
    let addresses = rules.dummy_addrs.len() as u64;
    Some(match metric {
        "load_ipset" => ipvs::ipset(rules.ipsets.iter().map(|set| set.elements.len() as u64).sum()),
        "load_ipt" => xtables::restore(all, Rules::default(), all),
        "load_addr" => ipvs::addresses(addresses, 0),
        "load_ipvs" => ipvs::load(&rules.ipvs),
        "inc_partial" => ipvs::ipvsadm(0, 2, scheduler),
        "inc_add_ipvs" => ipvs::ipvsadm(1, endpoints, scheduler),
        "inc_del_ipvs" => ipvs::ipvsadm(1, 0, scheduler),
        "inc_add_addr" => ipvs::addresses(1, addresses),
        "inc_del_addr" => ipvs::addresses(1, 0),
        "save" => ipvs::list(services, services * endpoints),
        "addr_list" => ipvs::list_addresses(addresses),
        _ => return None,
    })
}

fn of_kube_proxy(cell: &Cell) -> Result<ControlCell, Unpredicted> {
    checked(cell)?;
    let (name, backend) = match cell.mode.as_str() {
        "ipt" => ("iptables", XtablesBackend::Legacy),
        "iptnft" => ("iptables", XtablesBackend::Nft),
        "nft136" => ("nftables", XtablesBackend::Legacy),
        _ => return Err(unknown(cell)),
    };
    let config = ProxyConfig {
        mode: name.to_owned(),
        kubernetes_minor: 36,
        backend,
        cluster_cidrs: vec!["10.244.0.0/16".parse().expect("a constant")],
        ..ProxyConfig::default()
    };
    let mode = proxy::mode(name).and_then(|mode| mode.simulated()).expect("both are simulated");
    let port = ruleset::objects(&Case::of_load(cell)?, 1, cell.endpoints).ports.remove(0);
    let idle = ServicePort { endpoints: EndpointLists::default(), ..port.clone() };
    let size = |port: &ServicePort| mode.size(port, &config, Family::Ipv4);
    let (one, new) = (size(&port), size(&idle));
    let table = (0..cell.services).fold(Size::default(), |sum, _| sum + one);
    let sync = |shape: SyncShape| mode.sync(&shape, &config);
    let change = SyncShape::change(table, one);
    let measure = match &cell.metric["kubeproxy_".len()..] {
        "change_to_traffic" => Measure::Live,
        "cpu_self_per_change" => Measure::OwnCpu,
        "cpu_tools_per_change" => Measure::ToolsCpu,
        "peak_rss" => Measure::Memory,
        _ => Measure::Sync,
    };
    let work = match &cell.metric["kubeproxy_".len()..] {
        "first_full_sync" => sync(SyncShape::first(table)),
        "full_resync" => both_families(mode, table, &config),
        "partial_sync" | "cpu_self_per_change" | "cpu_tools_per_change" => sync(change),
        // The Service comes first, without endpoints.
        "service_add_sync" => sync(SyncShape::added(table + new, new)),
        "service_delete_sync" => sync(SyncShape::removed(table, one)),
        "change_to_traffic" => SyncWork { deliveries: 1, ..sync(change) },
        "peak_rss" => sync(SyncShape::full(table)),
        _ => return Err(unknown(cell)),
    };
    Ok(ControlCell { measure, work, table })
}

/// A full sync of a table, and of the other family's empty one at the same time on the same core.
fn both_families(mode: &dyn Simulated, table: Size, config: &ProxyConfig) -> SyncWork {
    mode.sync(&SyncShape::full(table), config) + mode.sync(&SyncShape::full(Size::default()), config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::iptables::LARGE_CLUSTER_ENDPOINTS;

    fn cell(mode: &str, services: u32, endpoints: u32, metric: &str) -> Cell {
        Cell {
            kernel: "host618".into(),
            case: "grid".into(),
            outside: false,
            mode: mode.into(),
            services,
            endpoints,
            position: "NA".into(),
            metric: metric.into(),
        }
    }

    #[test]
    fn a_load_restores_what_the_generator_wrote() {
        // tests/rig/rulesets/ipt_10_2.full: 12 rules of filter, 83 of nat for 10 Services, 2 and 5 jumps and fixed rules.
        let work = ControlCell::of(&cell("ipt", 10, 2, "load_full_wall")).unwrap().work;
        assert_eq!((work.restore_rules, work.restore_statistics), (12 + 3 + 4 + 80 + 1, 10));
        let partial = ControlCell::of(&cell("ipt", 10, 2, "inc_partial_wall")).unwrap().work;
        assert_eq!(partial.restore_rules, 3 + 4 + 10 + 7 + 1);
        let least = ControlCell::of(&cell("ipt", 10, 2, "inc_min_wall")).unwrap().work;
        assert_eq!((least.restore_rules, least.read_rules), (7, work.restore_rules));
    }

    #[test]
    fn a_large_cluster_spares_its_comments_in_both_forms() {
        for (services, endpoints) in [(500, 2), (501, 2)] {
            let tool = ControlCell::of(&cell("ipt", services, endpoints, "load_full_wall")).unwrap().work;
            let sync = ControlCell::of(&cell("ipt", services, endpoints, "kubeproxy_first_full_sync"));
            let sync = sync.unwrap().work;
            let large = u64::from(services * endpoints) > LARGE_CLUSTER_ENDPOINTS;
            let of_one = if large { 5 + 2 } else { 5 + 2 + 6 };
            for work in [tool, sync] {
                assert_eq!(work.restore_matches / u64::from(services), of_one, "{services}");
            }
        }
    }
}

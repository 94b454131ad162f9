//! How much the rules of a Service port are, and what a sync of nftables mode does with them.
//!
//! Source: `pkg/proxy/nftables/proxier.go:syncProxyRules`, knftables `nftables.go`. The first sync lists seven sets and maps to
//! read elements back; every sync lists the table for chains and sets, then hands one transaction to nft. Before 1.32
//! every sync wrote every Service (kubernetes/kubernetes pull request 126013).
//!
//! Assumed of the node: one address, inside no source range. Left out: the transaction that deletes chains which an
//! earlier one emptied (it goes with a later sync and is small), and the clean-up of conntrack.

use super::mode::Nftables;
use super::{Shape, base, service};
use crate::config::ProxyConfig;
use crate::kernel::nftables::Table;
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::Simulated;
use crate::proxy::sync::nft::{self, Objects};
use crate::proxy::sync::{Size, SyncKind, SyncShape, SyncWork, unspecified};
use sim_core::classify::Family;

/// First Kubernetes minor version that writes only what changed.
pub const FIRST_MINOR_WITH_PARTIAL_SYNC: u32 = 32;
/// Sets and maps whose elements the first sync reads back.
const READ_BACK: u64 = 7;

impl Simulated for Nftables {
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size {
        let objects = ProxyObjects { node_ips: vec![unspecified(family)], ..ProxyObjects::default() };
        let shape = Shape::new(&objects, config, family);
        let mut table = Table::new(family, super::TABLE, None);
        let sets = base::write(&mut table, &shape, &[]);
        let before = Objects::of_table(&table);
        service::write(&mut table, &shape, &sets, port);
        for set in &mut table.sets {
            set.keep_last();
        }
        let after = Objects::of_table(&table);
        Size {
            ports: 1,
            v6_ports: u64::from(family == Family::Ipv6),
            reachable: port.endpoints.reachable.len() as u64,
            endpoints: u64::from(port.endpoints.total),
            own_rules: after.rules - before.rules,
            chains: after.chains - before.chains,
            elements: after.elements - before.elements,
            named_sets: after.named - before.named,
            anonymous: after.sets - before.sets,
            anonymous_elements: after.set_elements - before.set_elements,
            ..Size::default()
        }
    }

    fn sync(&self, shape: &SyncShape, config: &ProxyConfig) -> SyncWork {
        let always_full = config.kubernetes_minor < FIRST_MINOR_WITH_PARTIAL_SYNC;
        let whole = always_full || shape.kind != SyncKind::Partial;
        let (written, replaced) =
            if whole { (shape.table, shape.before) } else { (shape.written, shape.replaced) };
        let clean = shape.kind == SyncKind::First && shape.before == Size::default();
        let before = if clean { Objects::default() } else { objects(&shape.before) + FIXED };
        let mut sent = objects(&written);
        // Elements that are there already are not sent again.
        sent.elements = sent.elements.saturating_sub(replaced.elements);
        if whole {
            sent += FIXED;
        }
        let fixed_removed = match (whole, clean) {
            (_, true) => nft::BASE_CHAINS,
            (true, false) => FIXED.rules,
            (false, false) => 0,
        };
        let removed = replaced.own_rules + fixed_removed;
        let mut work = nft::transact(sent, removed, before);
        if shape.kind == SyncKind::First {
            for _ in 0..READ_BACK {
                work += nft::list_set(0);
            }
            work.nft_json_elements += before.elements;
        }
        work += nft::list_terse(before);
        work.syncs = 1;
        work.transactions = 1;
        work.service_ports = shape.table.ports;
        work.composed_elements = written.anonymous_elements;
        work.parsed_objects = before.chains + before.rules + before.named + before.set_elements;
        work
    }
}

/// What the table has whatever the Services are.
const FIXED: Objects = Objects { chains: 17, rules: 20, named: 9, elements: 1, sets: 0, set_elements: 0 };

fn objects(size: &Size) -> Objects {
    Objects {
        chains: size.chains,
        rules: size.own_rules,
        named: size.named_sets,
        elements: size.elements,
        sets: size.anonymous,
        set_elements: size.anonymous_elements,
    }
}

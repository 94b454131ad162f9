//! What ipset, ip and ipvsadm do, and the kernel under them: one request after another, each found by hash.
//!
//! Source: Linux `net/netfilter/ipvs/ip_vs_ctl.c:ip_vs_add_service` and `ip_vs_add_dest`, `net/ipv4/devinet.c:
//! __inet_insert_ifa` (the addresses of a device are a list, walked whole for each new one). Hash-table schedulers
//! fill all of their buckets anew for every change of a destination.
//!
//! Left out: estimators, and what `expire_nodest_conn` does to connections.

use super::{SyncWork, pairs};
use crate::kernel::ipvs::VirtualServer;

/// Buckets that a scheduler fills anew when a destination comes or goes (`IP_VS_SH_TAB_BITS`, `IP_VS_DH_TAB_BITS` 8;
/// `IP_VS_MH_TAB_INDEX` 12: a table of 4,093).
pub fn scheduler_buckets(scheduler: &str) -> u64 {
    match scheduler {
        "sh" | "dh" => 256,
        "mh" => 4_093,
        _ => 0,
    }
}

/// `ipset restore` of so many entries.
pub fn ipset(entries: u64) -> SyncWork {
    SyncWork { ipset_execs: 1, ipset_entries: entries, ..SyncWork::default() }
}

/// `ip -batch` that adds addresses to a device that has `before`.
pub fn addresses(added: u64, before: u64) -> SyncWork {
    let steps = added * before + pairs(added);
    SyncWork { ip_execs: 1, address_adds: added, address_steps: steps, ..SyncWork::default() }
}

/// `ip addr show` of so many.
pub fn list_addresses(addresses: u64) -> SyncWork {
    SyncWork { ip_execs: 1, addresses_listed: addresses, ..SyncWork::default() }
}

/// `ipvsadm` that adds, changes or removes so many servers.
pub fn ipvsadm(servers: u64, destinations: u64, scheduler: &str) -> SyncWork {
    SyncWork {
        ipvsadm_execs: 1,
        ipvs_servers: servers,
        ipvs_destinations: destinations,
        ipvs_buckets: destinations * scheduler_buckets(scheduler),
        ..SyncWork::default()
    }
}

/// `ipvsadm -R` of these servers into an empty table.
pub fn load(servers: &[VirtualServer]) -> SyncWork {
    let destinations: u64 = servers.iter().map(|s| s.real.len() as u64).sum();
    let scheduler = servers.first().map_or("", |s| &*s.scheduler);
    ipvsadm(servers.len() as u64, destinations, scheduler)
}

/// `ipvsadm -Sn` of so many.
pub fn list(servers: u64, destinations: u64) -> SyncWork {
    SyncWork { ipvsadm_execs: 1, ipvs_listed: servers + destinations, ..SyncWork::default() }
}

//! Kernel settings that kube-proxy makes when it starts in ipvs mode.
//!
//! Source: `pkg/proxy/ipvs/proxier.go:NewProxier` and `pkg/util/kernel/constants.go`. `net.ipv4.vs.conn_reuse_mode` is
//! not among them: kube-proxy sets it to 0 on kernels from 4.1 to 5.8 only and leaves it alone on later ones
//! (kubernetes/kubernetes issue 93297), and no cost profile here is of a kernel that old. What every
//! mode sets comes first: [`conntrack`].

use crate::config::ProxyConfig;
use crate::proxy::conntrack;

/// What stands in the text where a reader might look for the missing setting.
pub(super) const CONN_REUSE_MODE: &str =
    "# net.ipv4.vs.conn_reuse_mode is left alone: kube-proxy sets it (0) on kernels 4.1 to 5.8 only\n";

/// Names and values, in kube-proxy's order.
pub(super) fn sysctls(config: &ProxyConfig) -> Vec<(String, String)> {
    let always = [
        ("net.ipv4.vs.conntrack", "1"),
        ("net.ipv4.vs.expire_nodest_conn", "1"),
        ("net.ipv4.vs.expire_quiescent_template", "1"),
        ("net.ipv4.ip_forward", "1"),
    ];
    let strict_arp = [("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")];
    let strict_arp = strict_arp.iter().filter(|_| config.ipvs.strict_arp);
    let own = always.iter().chain(strict_arp).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    conntrack::sysctls(config).into_iter().chain(own).collect()
}

/// Seconds for `ipvsadm --set tcp tcpfin udp`, if any of the three is configured; parts of a second are dropped.
pub(super) fn timeouts(config: &ProxyConfig) -> Option<[u64; 3]> {
    let set = config.ipvs.timeouts.map(|timeout| timeout.as_ns());
    set.iter().any(|ns| *ns > 0).then(|| set.map(|ns| ns / 1_000_000_000))
}

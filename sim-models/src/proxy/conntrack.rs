//! What kube-proxy sets of the node's connection tracking when it starts, in every mode of its own.
//!
//! Source: `cmd/kube-proxy/app/server_linux.go:setupConntrack`, `getConntrackMax` and `conntrack.go`, release 1.36.
//! It runs before the mode is set up. Times are cut to seconds; zero leaves a setting alone. The greatest number of
//! entries depends on the machine's cores, which no object tells: [`limit`] says it in words.
//! Left out: the hash table's size, which kube-proxy raises to a quarter of the entries where it is smaller.

use crate::config::ProxyConfig;

/// Names and values, in kube-proxy's order.
pub fn sysctls(config: &ProxyConfig) -> Vec<(String, String)> {
    let conntrack = &config.conntrack;
    let seconds = |time: sim_core::units::SimSpan| match time.as_ns() {
        0 => None,
        ns => Some(ns / 1_000_000_000),
    };
    let all = [
        ("tcp_timeout_established", seconds(conntrack.tcp_established)),
        ("tcp_timeout_close_wait", seconds(conntrack.tcp_close_wait)),
        ("tcp_be_liberal", conntrack.tcp_be_liberal.then_some(1)),
        ("udp_timeout", seconds(conntrack.udp)),
        ("udp_timeout_stream", seconds(conntrack.udp_stream)),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((format!("net.netfilter.nf_conntrack_{name}"), value?.to_string())))
        .collect()
}

/// The setting that depends on the machine, in words, unless it is left alone.
pub fn limit(config: &ProxyConfig) -> Option<String> {
    let conntrack = &config.conntrack;
    (conntrack.max_per_core > 0).then(|| {
        let (each, least) = (conntrack.max_per_core, conntrack.min);
        format!("net.netfilter.nf_conntrack_max: {each} for each core, at least {least}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConntrackConfig;
    use crate::kube::ProxyObjects;
    use crate::proxy::MODES;
    use sim_core::classify::Family;
    use sim_core::units::SimSpan;

    fn lines(config: &ProxyConfig) -> Vec<String> {
        sysctls(config).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn by_default_the_two_times_of_tcp_are_set_and_the_limit() {
        let config = ProxyConfig::default();
        assert_eq!(
            lines(&config),
            [
                "net.netfilter.nf_conntrack_tcp_timeout_established=86400",
                "net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600",
            ]
        );
        let told = "net.netfilter.nf_conntrack_max: 32768 for each core, at least 131072";
        assert_eq!(limit(&config).as_deref(), Some(told));
    }

    #[test]
    fn zero_leaves_a_setting_alone_and_times_are_cut_to_seconds() {
        let zero = SimSpan::ZERO;
        let nothing = ConntrackConfig {
            max_per_core: 0,
            tcp_established: zero,
            tcp_close_wait: zero,
            ..ConntrackConfig::default()
        };
        let mut config = ProxyConfig { conntrack: nothing, ..ProxyConfig::default() };
        assert_eq!((lines(&config), limit(&config)), (Vec::new(), None));
        config.conntrack.udp = SimSpan::from_ms(10_999);
        config.conntrack.udp_stream = SimSpan::from_secs(90);
        config.conntrack.tcp_be_liberal = true;
        assert_eq!(
            lines(&config),
            [
                "net.netfilter.nf_conntrack_tcp_be_liberal=1",
                "net.netfilter.nf_conntrack_udp_timeout=10",
                "net.netfilter.nf_conntrack_udp_timeout_stream=90",
            ]
        );
    }

    #[test]
    fn every_mode_of_kube_proxy_makes_them_and_what_replaces_it_does_not() {
        for mode in MODES {
            let config = ProxyConfig { mode: mode.name().to_owned(), ..ProxyConfig::default() };
            let rules = mode.build(&ProxyObjects::default(), &config, Family::Ipv4);
            let ours = if mode.name() == "ebpf" { Vec::new() } else { sysctls(&config) };
            assert!(rules.sysctls.starts_with(&ours), "{}: {:?}", mode.name(), rules.sysctls);
            assert_eq!(ours.is_empty(), mode.name() == "ebpf");
        }
    }
}

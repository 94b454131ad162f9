//! The values of a KubeProxyConfiguration: every key known and of its kind, limits and defaults as kube-proxy has them.

use super::keys::{CONFIGURATION, Key, Kind};
use super::numbers::{integer, is_number};
use super::yaml::{Item, Yaml, boolean, shown};
use super::{KubeProxyConfiguration, Section, duration};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::known::Known;
use crate::tree::At;
use ipnet::IpNet;
use sim_core::units::SimSpan;
use sim_models::config::{
    ConntrackConfig, DetectLocal, FeatureGates, IpvsConfig, NodePortAddresses, ProxyConfig,
};
use std::net::IpAddr;

/// Modes of kube-proxy on Linux, the one that went in 1.26 among them.
const MODES: [&str; 4] = ["iptables", "ipvs", "nftables", "userspace"];
/// Values of `detectLocalMode`.
const DETECTORS: [&str; 4] = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];
/// Longest name of a network interface (`IFNAMSIZ` less its end).
const INTERFACE_MAX: usize = 15;

/// Reads the configuration; what is wrong goes to `out`.
pub(super) fn read(out: &mut Diagnostics, root: &Yaml, known: &Known) -> KubeProxyConfiguration {
    check(out, CONFIGURATION, root, "");
    let mut values = Values { root, out };
    let mode = values.mode();
    let read = KubeProxyConfiguration {
        node: values.text("hostnameOverride").map(|(name, _)| name.trim().to_lowercase()),
        primary_address: values.primary_address(),
        shared: values.shared(known),
        iptables: values.section("iptables"),
        ipvs: values.section("ipvs"),
        nftables: values.section("nftables"),
        mode,
    };
    let chosen = read.proxy(&read.mode);
    let section = if ["ipvs", "nftables"].contains(&read.mode.as_str()) { &read.mode } else { "iptables" };
    if chosen.min_sync_period > chosen.sync_period {
        let path = [format!("{section}.syncPeriod"), format!("{section}.minSyncPeriod")];
        let written = path.iter().find_map(|path| Some((values.at(path)?.at, path.as_str())));
        let (at, path) = written.expect("the defaults are in order");
        let d = Diagnostic::new(at, path, "`syncPeriod` is shorter than `minSyncPeriod`");
        values.out.push(d.help("where nothing is written they are 30s and 1s, in ipvs mode 30s and 0s"));
    }
    read
}

/// Tells unknown keys and values of the wrong kind.
fn check(out: &mut Diagnostics, keys: &[Key], value: &Yaml, path: &str) {
    let Item::Map(pairs) = &value.item else { return };
    for pair in pairs {
        let own = if path.is_empty() { shown(&pair.key) } else { format!("{path}.{}", shown(&pair.key)) };
        match keys.iter().find(|key| key.name == pair.key) {
            Some(key) => check_kind(out, key, &pair.value, &own),
            None => {
                let place = if path.is_empty() { "KubeProxyConfiguration" } else { path };
                let message = format!("unknown key `{}` in {place}", shown(&pair.key));
                let mut d = Diagnostic::new(pair.at, &own, message);
                // A long word is no slip, and comparing it would take long.
                let names = keys.iter().map(|key| key.name);
                if let Some(near) = did_you_mean(&shown(&pair.key), names.clone()) {
                    d = d.label(format!("did you mean `{near}`?"));
                }
                out.push(d.help(format!("allowed: {}", names.collect::<Vec<_>>().join(", "))));
            }
        }
    }
}

fn check_kind(out: &mut Diagnostics, key: &Key, value: &Yaml, path: &str) {
    if value.is_null() {
        return;
    }
    let mut refuse = |value: &Yaml, message: String| {
        let d = Diagnostic::new(value.at, path, message).label(format!("this is {}", value.kind()));
        out.push(d);
    };
    let must = || format!("`{}` must be {}", key.name, key.kind.expected());
    match (key.kind, &value.item) {
        (Kind::Open, _) | (Kind::Text, Item::Scalar { .. }) => {}
        (Kind::Table(keys), Item::Map(_)) => check(out, keys, value, path),
        (Kind::Bool, Item::Scalar { text, plain: true }) if boolean(text).is_some() => {}
        (Kind::Number, Item::Scalar { text, plain: true }) if is_number(text) => {}
        (Kind::Integer { min, max }, Item::Scalar { text, plain: true }) => match integer(text) {
            Some(n) if (min..=max).contains(&n) => {}
            Some(_) => out.push(Diagnostic::new(value.at, path, must())),
            None => refuse(value, must()),
        },
        (Kind::Duration, Item::Scalar { text, plain }) => {
            // metav1.Duration takes a text only: a number without quotes is none, not even 0.
            let number = *plain && is_number(text);
            let wrong = if number { Err("the unit is missing".into()) } else { duration::parse(text) };
            if let Err(message) = wrong {
                let d = Diagnostic::new(value.at, path, format!("`{}`: {message}", key.name));
                out.push(d.help(format!("allowed: {}", key.kind.expected())));
            }
        }
        (Kind::Texts, Item::List(items)) => {
            for item in items.iter().filter(|item| !matches!(item.item, Item::Scalar { .. })) {
                refuse(item, format!("`{}` must be {}", key.name, key.kind.expected()));
            }
        }
        (Kind::Flags, Item::Map(pairs)) => {
            let is_flag = |value: &Yaml| match &value.item {
                Item::Scalar { text, plain: true } => boolean(text).is_some(),
                _ => false,
            };
            for pair in pairs.iter().filter(|pair| !is_flag(&pair.value)) {
                refuse(&pair.value, format!("`{}` must be true or false", shown(&pair.key)));
            }
        }
        _ => refuse(value, must()),
    }
}

/// The values of one configuration. What [`check`] has told is passed over in silence.
struct Values<'a> {
    root: &'a Yaml,
    out: &'a mut Diagnostics,
}

impl<'a> Values<'a> {
    fn at(&self, path: &str) -> Option<&'a Yaml> {
        path.split('.').try_fold(self.root, |value, key| value.get(key))
    }

    fn text(&self, path: &str) -> Option<(&'a str, At)> {
        let value = self.at(path)?;
        match &value.item {
            Item::Scalar { text, .. } if !text.is_empty() => Some((text, value.at)),
            _ => None,
        }
    }

    fn boolean(&self, path: &str) -> Option<bool> {
        boolean(self.text(path)?.0)
    }

    fn count(&self, path: &str) -> Option<u32> {
        u32::try_from(integer(self.text(path)?.0)?).ok()
    }

    fn span(&self, path: &str) -> Option<SimSpan> {
        duration::parse(self.text(path)?.0).ok()
    }

    fn texts(&self, path: &str) -> Vec<(&'a str, At)> {
        let Some(Item::List(items)) = self.at(path).map(|value| &value.item) else { return Vec::new() };
        let text = |value: &'a Yaml| match &value.item {
            Item::Scalar { text, .. } => Some((text.as_str(), value.at)),
            _ => None,
        };
        items.iter().filter_map(text).collect()
    }

    fn refuse(&mut self, at: At, path: &str, message: String, allowed: &str) {
        self.out.push(Diagnostic::new(at, path, message).help(format!("allowed: {allowed}")));
    }

    /// One of `words`, or nothing if it is none of them, which is told.
    fn word(
        &mut self,
        path: &str,
        what: &str,
        words: &[&'a str],
        hint: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<&'a str> {
        let (word, at) = self.text(path)?;
        if words.contains(&word) {
            return Some(word);
        }
        let mut d = Diagnostic::new(at, path, format!("there is no {what} `{}`", shown(word)));
        match (hint(word), did_you_mean(&shown(word), words.iter().copied())) {
            (Some(hint), _) => d = d.label(hint),
            (None, Some(near)) => d = d.label(format!("did you mean `{near}`?")),
            (None, None) => {}
        }
        self.out.push(d.help(format!("allowed: {}", words.join(", "))));
        None
    }

    fn mode(&mut self) -> String {
        let hint = |word: &str| (word == "kernelspace").then_some("that is the mode of Windows");
        self.word("mode", "proxy mode", &MODES, hint).unwrap_or("iptables").to_owned()
    }

    fn primary_address(&mut self) -> Option<IpAddr> {
        let (text, at) = self.text("bindAddress")?;
        match text.parse::<IpAddr>() {
            Ok(address) => Some(address).filter(|address| !address.is_unspecified()),
            Err(_) => {
                let message = format!("`{}` is not an IP address", shown(text));
                self.refuse(at, "bindAddress", message, "an address of the node, or 0.0.0.0");
                None
            }
        }
    }

    fn section(&self, name: &str) -> Section {
        let path = |key: &str| format!("{name}.{key}");
        let period = |key: &str| self.span(&path(key)).filter(|span| *span > SimSpan::ZERO);
        let default = ProxyConfig::default();
        Section {
            masquerade_bit: self
                .count(&path("masqueradeBit"))
                .and_then(|bit| u8::try_from(bit).ok())
                .unwrap_or(default.masquerade_bit),
            masquerade_all: self.boolean(&path("masqueradeAll")).unwrap_or(false),
            sync_period: period("syncPeriod").unwrap_or(default.sync_period),
            min_sync_period: period("minSyncPeriod")
                .unwrap_or_else(|| ProxyConfig::default_min_sync_period(name)),
        }
    }

    fn shared(&mut self, known: &Known) -> ProxyConfig {
        let detect_local = self.detect_local();
        ProxyConfig {
            cluster_cidrs: match detect_local {
                DetectLocal::ClusterCidr => self.cluster_cidrs(),
                // kube-proxy does not look at it either.
                _ => Vec::new(),
            },
            detect_local,
            localhost_node_ports: self.boolean("iptables.localhostNodePorts").unwrap_or(true),
            node_port_addresses: self.node_port_addresses(),
            ipvs: self.ipvs(known),
            conntrack: self.conntrack(),
            gates: self.gates(),
            ..ProxyConfig::default()
        }
    }

    /// Gates come and go with releases, so any name is taken; of those that shape rules the value is read.
    fn gates(&self) -> FeatureGates {
        let gate = |name: &str| self.boolean(&format!("featureGates.{name}")).unwrap_or(true);
        FeatureGates {
            external_ips: gate("AllowServiceExternalIPs"),
            same_node_hints: gate("PreferSameTrafficDistribution"),
            service_cidrs: gate("MultiCIDRServiceAllocator"),
        }
    }

    fn detect_local(&mut self) -> DetectLocal {
        let by = self.word("detectLocalMode", "detector of local traffic", &DETECTORS, |_| None);
        match by {
            Some("NodeCIDR") => DetectLocal::NodeCidr,
            Some("BridgeInterface") => DetectLocal::BridgeInterface(self.interface("bridgeInterface")),
            Some("InterfaceNamePrefix") => {
                DetectLocal::InterfaceNamePrefix(self.interface("interfaceNamePrefix"))
            }
            _ => DetectLocal::ClusterCidr,
        }
    }

    /// The name that the detector needs.
    fn interface(&mut self, key: &str) -> std::sync::Arc<str> {
        let path = format!("detectLocal.{key}");
        let Some((name, at)) = self.text(&path) else {
            let at = self.at("detectLocalMode").expect("it was read").at;
            self.refuse(
                at,
                &path,
                format!("this detectLocalMode needs `{path}`"),
                "the name of an interface",
            );
            return "".into();
        };
        if let Err(message) = interface_name(name) {
            self.refuse(at, &path, message, INTERFACE_ALLOWED);
        }
        name.into()
    }

    fn network(&mut self, path: &str, text: &str, at: At) -> Option<IpNet> {
        let net = text.parse().ok();
        if net.is_none() {
            let message = format!("`{}` is not a network", shown(text));
            self.refuse(at, path, message, "an address and a prefix length, such as 10.244.0.0/16");
        }
        net
    }

    fn cluster_cidrs(&mut self) -> Vec<IpNet> {
        const PATH: &str = "clusterCIDR";
        let Some((text, at)) = self.text(PATH) else { return Vec::new() };
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > 2 {
            let message = format!("`{PATH}` has {} networks", parts.len());
            self.refuse(at, PATH, message, "one network, or one of each family with a comma between them");
            return Vec::new();
        }
        let nets: Vec<IpNet> = parts.iter().filter_map(|part| self.network(PATH, part.trim(), at)).collect();
        if let [a, b] = nets[..]
            && a.addr().is_ipv4() == b.addr().is_ipv4()
        {
            let message = format!("both networks of `{PATH}` are of one family");
            self.refuse(at, PATH, message, "one network, or one of each family");
        }
        nets
    }

    fn node_port_addresses(&mut self) -> NodePortAddresses {
        const PATH: &str = "nodePortAddresses";
        let texts = self.texts(PATH);
        match texts[..] {
            [] => return NodePortAddresses::Unset,
            [("primary", _)] => return NodePortAddresses::Primary,
            _ => {}
        }
        if let Some((_, at)) = texts.iter().find(|(text, _)| *text == "primary") {
            let message = "`primary` and networks cannot stand together".to_owned();
            self.refuse(*at, PATH, message, "networks, or primary alone");
            return NodePortAddresses::Unset;
        }
        let nets = texts.iter().filter_map(|(text, at)| self.network(PATH, text, *at)).collect();
        NodePortAddresses::Cidrs(nets)
    }

    fn ipvs(&mut self, known: &Known) -> IpvsConfig {
        let default = IpvsConfig::default();
        let scheduler = match self.text("ipvs.scheduler") {
            None => default.scheduler,
            Some((name, _)) if known.schedulers.iter().any(|known| known.name == name) => name.to_owned(),
            Some((name, at)) => {
                let names: Vec<&str> = known.schedulers.iter().map(|known| known.name.as_str()).collect();
                let message = format!("there is no IPVS scheduler `{}`", shown(name));
                let mut d = Diagnostic::new(at, "ipvs.scheduler", message);
                if let Some(near) = did_you_mean(&shown(name), names.iter().copied()) {
                    d = d.label(format!("did you mean `{near}`?"));
                }
                self.out.push(d.help(format!("allowed: {}", names.join(", "))));
                default.scheduler
            }
        };
        let excluded = self.texts("ipvs.excludeCIDRs");
        IpvsConfig {
            scheduler,
            strict_arp: self.boolean("ipvs.strictARP").unwrap_or(false),
            exclude_cidrs: excluded
                .into_iter()
                .filter_map(|(text, at)| self.network("ipvs.excludeCIDRs", text, at))
                .collect(),
            timeouts: ["ipvs.tcpTimeout", "ipvs.tcpFinTimeout", "ipvs.udpTimeout"]
                .map(|path| self.span(path).unwrap_or(SimSpan::ZERO)),
            tables: default.tables,
        }
    }

    fn conntrack(&self) -> ConntrackConfig {
        let default = ConntrackConfig::default();
        let span = |key: &str| self.span(&format!("conntrack.{key}"));
        ConntrackConfig {
            max_per_core: self.count("conntrack.maxPerCore").unwrap_or(default.max_per_core),
            min: self.count("conntrack.min").unwrap_or(default.min),
            tcp_established: span("tcpEstablishedTimeout").unwrap_or(default.tcp_established),
            tcp_close_wait: span("tcpCloseWaitTimeout").unwrap_or(default.tcp_close_wait),
            tcp_be_liberal: self.boolean("conntrack.tcpBeLiberal").unwrap_or(false),
            udp: span("udpTimeout").unwrap_or(default.udp),
            udp_stream: span("udpStreamTimeout").unwrap_or(default.udp_stream),
        }
    }
}

/// What an interface may be called.
pub(crate) const INTERFACE_ALLOWED: &str = "1 to 15 characters, no blanks, quotes, or any of / : \\ ! * +";

/// Whether Linux and the rule texts take a name, or the beginning of one: what is no interface's name could end its
/// word in a rule.
pub(crate) fn interface_name(name: &str) -> Result<(), String> {
    let plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\'' | '\\' | '!' | '*' | '+');
    if name.is_empty() || name.len() > INTERFACE_MAX || !name.chars().all(plain) {
        return Err(format!("`{}` is not the name of an interface", shown(name)));
    }
    Ok(())
}

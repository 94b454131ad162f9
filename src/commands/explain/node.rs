//! The node that the packet goes through: its rules, built from objects or read from its own dumps.

use crate::cli::{ClusterArgs, ExplainArgs};
use crate::commands::rules::diff::readable;
use crate::commands::rules::objects::text_of;
use crate::commands::rules::setup::{Setup, mode_named};
use crate::exit::Failure;
use ipnet::IpNet;
use sim_core::classify::Family;
use sim_models::kernel::nftables::{Element, Field, KeyValue, Rule, Statement, Verdict};
use sim_models::kernel::path::{Stack, StackError};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::{CompileError, CompileOptions, Problem};
use sim_models::kube::ProxyObjects;
use sim_models::kube::objects::Objects;
use sim_models::proxy::ProxyMode;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Seed of hash tables and of what nothing else decides.
pub const SEED: u64 = 42;

/// What to do about an unknown part.
const ALLOW_OPAQUE: &str =
    "  = --allow-opaque goes on without it: such a match never matches, such a target does nothing\n";

/// Rules with unknown parts that are told one by one.
const WARNINGS: usize = 4;

/// The node.
pub struct Subject {
    /// The mode that wrote its rules.
    pub mode: &'static dyn ProxyMode,
    /// What the rules are of, in words.
    pub what: String,
    /// The rules.
    pub rules: NodeRules,
    /// Its addresses, primary first; never empty.
    pub node_ips: Vec<IpAddr>,
    /// Whether these are its own, and not an address for examples.
    pub knows_its_ips: bool,
    /// The cluster, where it is known.
    pub cluster: Option<Cluster>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What is known of the cluster.
pub struct Cluster {
    /// Name of the node.
    pub node: String,
    /// All objects.
    pub objects: Objects,
    /// Services as the node's kube-proxy sees them.
    pub resolved: ProxyObjects,
}

impl Subject {
    /// The node of a setup.
    pub fn of_setup(setup: &Setup, family: Family) -> Self {
        let resolved = setup.resolved(&setup.objects, family);
        let who = if setup.mode.is_kube_proxys() {
            format!("kube-proxy 1.{} in {} mode", setup.config.kubernetes_minor, setup.mode.name())
        } else {
            format!("{} mode", setup.mode.name())
        };
        let node = if setup.node.is_empty() { "a node without a name" } else { &setup.node };
        let what = format!("{who} on {node}");
        let (node_ips, knows_its_ips) = or_example(resolved.node_ips.clone(), family);
        Subject {
            mode: setup.mode,
            what,
            rules: setup.build(family),
            node_ips,
            knows_its_ips,
            cluster: Some(Cluster { node: setup.node.clone(), objects: setup.objects.clone(), resolved }),
            notes: setup.notes.clone(),
        }
    }

    /// The node that dumps are of.
    pub fn of_dumps(args: &ExplainArgs, family: Family) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        for file in &args.rules {
            texts.push(text_of(file)?);
        }
        let mut whole = String::new();
        for (_, text) in &texts {
            whole.push_str(text);
            if !text.ends_with('\n') {
                whole.push('\n');
            }
        }
        let mode = match &args.cluster.mode {
            Some(name) => mode_named(name)?,
            None => sniffed(&whole, &args.rules)?,
        };
        let family_name = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
        let rules = readable(mode, "--rules")?.read(&whole, family).map_err(|error| {
            let (name, line) = place(&texts, error.line);
            Failure::Input(format!(
                "error: {}\n --> {name}:{line}:{}\n  = read as a dump of {} mode, which --mode says otherwise, and {family_name}, as the packet is\n",
                error.message,
                error.column,
                mode.name()
            ))
        })?;
        let names: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
        let addresses = args.cluster.node_address.iter().copied();
        let mut node_ips: Vec<IpAddr> = addresses.filter(|addr| Family::of(*addr) == family).collect();
        if node_ips.is_empty() {
            node_ips = told_by(&rules);
        }
        let (node_ips, knows_its_ips) = or_example(node_ips, family);
        let mut notes = rules.notes.clone();
        if is_empty(&rules) {
            let text = format!("error: {} has no rules of {family_name}\n", names.join(" and "));
            return Err(Failure::Input(text + "  = the packet's family decides which are read\n"));
        }
        if !is_kube_proxys(&rules) {
            notes.push(
                "none of these rules is kube-proxy's: does it run on that node, and in this mode?".into(),
            );
        }
        let what = format!("{} rules of {}", mode.name(), names.join(", "));
        Ok(Subject { mode, what, rules, node_ips, knows_its_ips, cluster: None, notes })
    }

    /// The rules as the kernel has them, and what of them is not known; that is refused, unless `allow_opaque`.
    pub fn compiled(&self, allow_opaque: bool) -> Result<(Stack, Vec<String>), Failure> {
        let refused = |why: &dyn Display, help: &str| {
            Failure::Input(format!("error: packets cannot be walked through these rules\n  = {why}\n{help}"))
        };
        if let Some(table) = &self.rules.nftables {
            table.validate().map_err(|why| refused(&format!("table {}, {why}", table.name), ""))?;
        }
        let stack = Stack::with(&self.rules, SEED, CompileOptions { allow_opaque }).map_err(|error| {
            let help = match &error {
                StackError::Xtables(CompileError {
                    problem: Problem::NotModelled { extension, text },
                    ..
                }) => {
                    let bare = *text == format!("-j {extension}");
                    let chain =
                        if bare { "  = or it is a chain that the dump does not declare\n" } else { "" };
                    format!("{chain}{ALLOW_OPAQUE}")
                }
                _ => String::new(),
            };
            refused(&error, &help)
        })?;
        let warnings = stack.warnings();
        let mut notes: Vec<String> = warnings.iter().take(WARNINGS).map(ToString::to_string).collect();
        if warnings.len() > WARNINGS {
            notes.push(format!("and {} more rules with what is not modelled", warnings.len() - WARNINGS));
        }
        Ok((stack, notes))
    }

    /// A test for addresses of pods on this node, where anything is known of them.
    pub fn pods_of_node(&self) -> Option<Box<dyn Fn(IpAddr) -> bool + '_>> {
        let Some(cluster) = &self.cluster else {
            let nets = local_networks(&self.rules);
            let known = !nets.is_empty();
            return known.then(|| -> Box<dyn Fn(IpAddr) -> bool> {
                Box::new(move |addr| nets.iter().any(|net| net.contains(&addr)))
            });
        };
        let here = cluster.objects.node(&cluster.node)?;
        let pods = cluster.objects.pods.iter().filter(|pod| pod.node.as_deref() == Some(&cluster.node));
        let addresses: Vec<IpAddr> = pods.flat_map(|pod| pod.addresses.iter().copied()).collect();
        let cidrs = here.pod_cidrs.clone();
        let known = !(addresses.is_empty() && cidrs.is_empty());
        known.then(|| -> Box<dyn Fn(IpAddr) -> bool> {
            Box::new(move |addr| addresses.contains(&addr) || cidrs.iter().any(|cidr| cidr.contains(&addr)))
        })
    }
}

/// Whether there is nothing that a packet could meet.
fn is_empty(rules: &NodeRules) -> bool {
    let xtables = rules.xtables.iter().flat_map(|table| &table.chains).all(|chain| chain.rules.is_empty());
    xtables && rules.nftables.is_none() && rules.ipvs.is_empty()
}

/// Whether anything in the rules is kube-proxy's.
fn is_kube_proxys(rules: &NodeRules) -> bool {
    let mut chains = rules.xtables.iter().flat_map(|table| &table.chains);
    !rules.ipvs.is_empty()
        || rules.nftables.as_ref().is_some_and(|table| !table.chains.is_empty())
        || chains.any(|chain| KUBE_PROXYS.contains(&&*chain.name))
}

/// Chains that kube-proxy writes in one mode or another, and kubelet does not.
const KUBE_PROXYS: [&str; 2] = ["KUBE-SERVICES", "KUBE-PORTALS-CONTAINER"];

/// Networks that rules take for those of pods: traffic from elsewhere is masqueraded.
fn local_networks(rules: &NodeRules) -> Vec<IpNet> {
    let tables = rules.xtables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let by_rule = tables.filter_map(|rule| rule.src.filter(|src| src.invert).map(|src| src.value));
    let nft = rules.nftables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    // What a source range refuses says nothing of pods.
    let drops = |rule: &&Rule| rule.statements.contains(&Statement::Verdict(Verdict::Drop));
    let by_statement =
        nft.filter(|rule| !drops(rule)).flat_map(|rule| &rule.statements).filter_map(|statement| {
            match statement {
                Statement::Addr { field: Field::SrcAddr, net, negate: true } => Some(*net),
                _ => None,
            }
        });
    // One pod's address is not where pods are.
    let mut nets: Vec<IpNet> =
        by_rule.chain(by_statement).filter(|net| net.prefix_len() < net.max_prefix_len()).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// The node's addresses, or one for examples, which stands for them.
fn or_example(ips: Vec<IpAddr>, family: Family) -> (Vec<IpAddr>, bool) {
    if !ips.is_empty() {
        return (ips, true);
    }
    let example: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    (vec![example], false)
}

/// Addresses of the node that its rules name: those that answer on node ports.
fn told_by(rules: &NodeRules) -> Vec<IpAddr> {
    let Some(table) = &rules.nftables else { return Vec::new() };
    let Some(set) = table.find_set("nodeport-ips") else { return Vec::new() };
    let elements = table.sets[set.0 as usize].elements.iter();
    let address = |element: &Element| match element.key.first() {
        Some(KeyValue::Addr(addr)) => Some(*addr),
        _ => None,
    };
    elements.filter_map(address).collect()
}

/// The file and line of a line of all texts one after the other.
fn place(texts: &[(String, String)], line: usize) -> (&str, usize) {
    let mut before = 0;
    for (name, text) in texts {
        let lines = text.lines().count();
        if line <= before + lines {
            return (name, line - before);
        }
        before += lines;
    }
    let (name, text) = texts.last().expect("clap requires a file");
    (name, text.lines().count().max(1))
}

/// The mode whose tools print such a text.
fn sniffed(text: &str, files: &[PathBuf]) -> Result<&'static dyn ProxyMode, Failure> {
    let has = |test: &dyn Fn(&str) -> bool| text.lines().any(test);
    let nft = text.trim_start().starts_with('{') || has(&|l| l.starts_with("table "));
    let ipvs = has(&|l| {
        ["-A -t ", "-A -u ", "-A --sctp-service ", "create ", "add KUBE-"].iter().any(|p| l.starts_with(p))
    });
    let tables = ["*nat", "*filter", "*mangle", "*raw", "*security"];
    let iptables = has(&|l| tables.contains(&l.trim_end()));
    let name = match (nft, ipvs, iptables) {
        (true, false, false) => "nftables",
        (_, true, _) => "ipvs",
        (_, false, true) if text.contains("KUBE-PORTALS-CONTAINER") => "userspace",
        (_, false, true) => "iptables",
        (false, false, false) => {
            let names: Vec<String> = files.iter().map(|file: &PathBuf| shown(file)).collect();
            return Err(Failure::Input(format!(
                "error: {}: no dump that is known\n  = allowed: iptables-save, nft list ruleset, ipvsadm -Sn with ipset save; --mode says which\n",
                names.join(", ")
            )));
        }
    };
    mode_named(name)
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// Whether packets can be walked through what a mode writes, and why not.
pub fn walkable(mode: &dyn ProxyMode) -> Result<(), String> {
    match mode.name() {
        "ebpf" => Err("maps only: packets are not walked through them".to_owned()),
        "userspace" => Err("REDIRECT to kube-proxy's own ports is not followed".to_owned()),
        _ => Ok(()),
    }
}

/// Refuses to read stdin twice.
pub fn one_stdin(args: &ExplainArgs) -> Result<(), Failure> {
    let ClusterArgs { from, proxy_config, .. } = &args.cluster;
    let files = [from, proxy_config].into_iter().flatten().chain(&args.rules);
    if files.filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::Input("error: only one of the files can be `-`, stdin\n".into()));
    }
    Ok(())
}

//! `windtunnel rules`: what kube-proxy would write for a cluster. Objects -> resolved Services -> rules -> text.

use crate::cli::{FamilyArg, RulesArgs};
use crate::commands::load::{load, neighbour, reason, tell};
use crate::exit::{Exit, Failure};
use crate::known::{KUBERNETES_MINORS, known};
use crate::terminal;
use ipnet::IpNet;
use scenarios::diagnostic::{Diagnostics, did_you_mean};
use scenarios::refusal::kubernetes_minor;
use scenarios::scenario::import_errors;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::Match;
use sim_models::kube::generate::generate;
use sim_models::kube::import::{MAX_ERRORS, import};
use sim_models::kube::objects::Objects;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{self, Form, ProxyMode};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Prints the rules of one node.
pub fn rules(args: &RulesArgs) -> Result<Exit, Failure> {
    let mode = mode(&args.mode)?;
    let (objects, mut config) = match (&args.from, &args.scenario) {
        (Some(file), _) => (read(file)?, ProxyConfig::default()),
        (None, Some(scenario)) => of_scenario(scenario, &args.set)?,
        (None, None) => unreachable!("clap requires one of them"),
    };
    let family = match args.family {
        FamilyArg::Ipv4 => Family::Ipv4,
        FamilyArg::Ipv6 => Family::Ipv6,
    };
    config.mode = mode.name().to_owned();
    config.kubernetes_minor = version(mode, args.kubernetes.as_deref(), config.kubernetes_minor)?;
    if let Some(name) = &args.scheduler {
        config.ipvs.scheduler = scheduler(mode, name)?;
    }
    let mut notes = Vec::new();
    config.cluster_cidrs = match (&args.cluster_cidr[..], args.from.is_some()) {
        ([], true) => guess_cluster_cidr(&objects, family, &mut notes).into_iter().collect(),
        ([], false) => config.cluster_cidrs,
        (given, _) => {
            if !given.iter().any(|cidr| Family::of(cidr.addr()) == family) {
                notes.push(format!("--cluster-cidr has no {} network", family_name(family)));
            }
            given.to_vec()
        }
    };
    let node = node(&objects, args.node.as_deref())?;
    let resolved = resolve(&objects, family, &node);
    what_is_missing(&objects, &node, family, &mut notes);
    not_modelled(mode, config.kubernetes_minor, &mut notes);

    let mut rules = mode.build(&resolved, &config, family);
    if config.bare_rules {
        rules.strip_own_additions();
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    let mut text = head(mode, &config, family, &node, &rules);
    text.push_str(&mode.print(&rules, Form::Load));
    terminal::print(&text)?;
    Ok(Exit::Fine)
}

/// An error about a name: what it should have been.
fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let mut text = format!("error: there is no {what} `{name}`\n");
    if let Some(near) = did_you_mean(name, names.clone()) {
        text.push_str(&format!("  = did you mean `{near}`?\n"));
    }
    let all: Vec<&str> = names.collect();
    let shown = all.len().min(12);
    let more = if all.len() > shown { format!(" and {} more", all.len() - shown) } else { String::new() };
    text.push_str(&format!("  = allowed: {}{more}\n", all[..shown].join(", ")));
    Failure::Input(text)
}

fn mode(name: &str) -> Result<&'static dyn ProxyMode, Failure> {
    proxy::mode(name).ok_or_else(|| unknown("proxy mode", name, proxy::MODES.iter().map(|mode| mode.name())))
}

fn scheduler(mode: &dyn ProxyMode, name: &str) -> Result<String, Failure> {
    if mode.name() != "ipvs" {
        let text = format!("error: --scheduler is for ipvs mode; {} mode has none\n", mode.name());
        return Err(Failure::Input(text));
    }
    let known = known().schedulers;
    if known.iter().any(|scheduler| scheduler.name == name) {
        return Ok(name.to_owned());
    }
    Err(unknown("IPVS scheduler", name, known.iter().map(|scheduler| scheduler.name.as_str())))
}

/// The minor version, if the mode was there and it is modelled.
fn version(mode: &dyn ProxyMode, written: Option<&str>, default: u32) -> Result<u32, Failure> {
    let (first, last) = KUBERNETES_MINORS;
    let newest = last.min(mode.versions().1);
    let allowed = format!("  = allowed: 1.{} to 1.{newest}\n", first.max(mode.versions().0));
    let minor = match written {
        // A mode that was removed is shown as it was last.
        None => default.min(newest),
        Some(text) => kubernetes_minor(text).ok_or_else(|| {
            Failure::Input(format!("error: `{text}` is not a version of Kubernetes\n{allowed}"))
        })?,
    };
    let (since, until) = mode.versions();
    if !(since..=until).contains(&minor) {
        let (name, history) = (mode.name(), mode.history());
        let text = format!("error: Kubernetes 1.{minor} has no {name} mode\n  = {name} mode: {history}\n");
        return Err(Failure::Input(text + &allowed));
    }
    if !(first..=last).contains(&minor) {
        return Err(Failure::Input(format!("error: Kubernetes 1.{minor} is not modelled\n{allowed}")));
    }
    Ok(minor)
}

/// Objects from a file or stdin.
fn read(file: &Path) -> Result<Objects, Failure> {
    let (name, text) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let text = std::io::stdin().read_to_end(&mut bytes).and_then(|_| {
            String::from_utf8(bytes).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))
        });
        ("stdin".to_owned(), text)
    } else {
        (file.display().to_string(), fs::read_to_string(file))
    };
    let text = text.map_err(|error| {
        let mut message = format!("error: cannot read {name}: {}\n", reason(&error));
        if let Some(near) = neighbour(file).filter(|_| error.kind() == std::io::ErrorKind::NotFound) {
            message.push_str(&format!("  = did you mean {near}?\n"));
        }
        Failure::Input(message)
    })?;
    import(&text).map_err(|errors| {
        let mut diagnostics = Diagnostics::default();
        import_errors(&mut diagnostics, &name, &text, &errors, MAX_ERRORS + 1);
        tell(diagnostics)
    })
}

/// Objects and proxy of the first point of a scenario.
fn of_scenario(path: &Path, sets: &[String]) -> Result<(Objects, ProxyConfig), Failure> {
    let plan = load(path, sets, None)?.plan;
    let point = plan.points.first().ok_or_else(|| Failure::Ours("a plan without points".into()))?;
    let config = &point.config;
    if !point.axes.is_empty() {
        let place: Vec<String> = point.axes.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        eprintln!("note: the scenario is a sweep; this is its first point, {}", place.join(", "));
    }
    let objects = match &config.cluster.objects {
        Some(objects) => Objects::clone(objects),
        None => {
            let made = generate(&config.cluster, config.seed);
            made.map_err(|error| Failure::Input(format!("error: {}: {error}\n", path.display())))?.objects
        }
    };
    Ok((objects, config.proxy.clone()))
}

/// The node, by name or the first. Where there are no Nodes at all, any name may stand in the endpoints' nodeName.
fn node(objects: &Objects, wanted: Option<&str>) -> Result<String, Failure> {
    match wanted {
        None => Ok(objects.nodes.first().map_or_else(String::new, |node| node.name.to_string())),
        Some(name) if objects.nodes.is_empty() || objects.node(name).is_some() => Ok(name.to_owned()),
        Some(name) => Err(unknown("node", name, objects.nodes.iter().map(|node| &*node.name))),
    }
}

/// The smallest network that holds the pod CIDRs of all nodes, unless it holds addresses that are no pod's.
fn guess_cluster_cidr(objects: &Objects, family: Family, notes: &mut Vec<String>) -> Option<IpNet> {
    const OTHERWISE: &str = "--cluster-cidr says otherwise";
    let of_family = |cidr: &&IpNet| Family::of(cidr.addr()) == family;
    let mut cidrs = objects.nodes.iter().flat_map(|node| &node.pod_cidrs).filter(of_family);
    let Some(first) = cidrs.next() else {
        let none = "no detector of local traffic: the Nodes have no pod CIDRs";
        notes.push(format!("{none} of {}; {OTHERWISE}", family_name(family)));
        return None;
    };
    let mut net = first.trunc();
    for cidr in cidrs {
        while !net.contains(cidr) {
            net = net.supernet().expect("the network of everything contains every network");
        }
    }
    let nodes = objects.nodes.iter().flat_map(|node| &node.addresses);
    let mut others = nodes.chain(objects.services.iter().flat_map(|service| &service.cluster_ips));
    if let Some(other) = others.find(|addr| net.contains(*addr)) {
        notes.push(format!(
            "no detector of local traffic: {net}, which holds the pod CIDRs of all nodes, holds {other} too; {OTHERWISE}"
        ));
        return None;
    }
    notes.push(format!(
        "{net}, which holds the pod CIDRs of all nodes, is taken for the clusterCIDR; {OTHERWISE}"
    ));
    Some(net)
}

/// What a reader of the rules might wonder about.
fn what_is_missing(objects: &Objects, node: &str, family: Family, notes: &mut Vec<String>) {
    if objects.services.is_empty() {
        let skipped: Vec<String> = objects.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let skipped =
            if skipped.is_empty() { String::new() } else { format!("; left out: {}", skipped.join(", ")) };
        notes
            .push(format!("no Services among the objects: these are the rules of an empty cluster{skipped}"));
    } else if objects.slices.is_empty() {
        notes.push("no EndpointSlices among the objects: no Service has endpoints".to_owned());
    }
    match objects.node(node) {
        None if node.is_empty() => {
            notes
                .push("no Nodes among the objects: no endpoint is local, and the node has no address".into());
        }
        None => notes.push(format!("no Nodes among the objects: {node} has no address")),
        Some(here) if !here.addresses.iter().any(|&addr| Family::of(addr) == family) => {
            notes.push(format!("{node} has no {} address", family_name(family)));
        }
        Some(_) => {}
    }
}

/// What of an older version is not modelled.
fn not_modelled(mode: &dyn ProxyMode, minor: u32, notes: &mut Vec<String>) {
    let newest = KUBERNETES_MINORS.1.min(mode.versions().1);
    // ebpf mode is no kube-proxy's.
    if minor < newest && mode.name() != "ebpf" {
        notes.push(format!(
            "of kube-proxy 1.{minor} in {} mode only what `windtunnel rules --help` lists is modelled; all else is as in \
             1.{newest}",
            mode.name()
        ));
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// Comment lines: what this is, and how it is loaded.
fn head(mode: &dyn ProxyMode, config: &ProxyConfig, family: Family, node: &str, rules: &NodeRules) -> String {
    let (minor, name) = (config.kubernetes_minor, mode.name());
    let node = if node.is_empty() { "a node without a name" } else { node };
    let who = match name {
        "ebpf" => "an eBPF service map in place of kube-proxy".to_owned(),
        _ => format!("kube-proxy 1.{minor} in {name} mode"),
    };
    let mut text = format!("# {who} on {node}, {}, by windtunnel\n", family_name(family));
    match (name, family) {
        ("nftables", _) => text.push_str("# load with: nft -f -\n"),
        ("iptables" | "userspace", Family::Ipv4) => text.push_str("# load with: iptables-restore\n"),
        ("iptables" | "userspace", Family::Ipv6) => text.push_str("# load with: ip6tables-restore\n"),
        // Modes of several tools head each section themselves.
        _ => {}
    }
    let all = rules.xtables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let counters: BTreeSet<&str> = all
        .flat_map(|rule| &rule.matches)
        .filter_map(|m| match m {
            Match::Nfacct(name) => Some(&**name),
            _ => None,
        })
        .collect();
    for name in counters {
        text.push_str(&format!("# needs the counter: nfacct add {name}\n"));
    }
    text
}

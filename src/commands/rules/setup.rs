//! Whose rules they are: mode, version, families, node and configuration, from flags, kube-proxy's file, a scenario,
//! and what the objects let guess, in this order.

use super::notes::{guess_cluster_cidr, not_modelled, refused_gates, what_is_missing};
use super::objects::{import_file, of_scenario, text_of};
use super::{family_name, unknown};
use crate::cli::{BackendArg, ClusterArgs, FamilyArg};
use crate::commands::load::tell;
use crate::exit::Failure;
use crate::known::{KUBERNETES_MINORS, known};
use scenarios::kube_proxy::KubeProxyConfiguration;
use scenarios::refusal::kubernetes_minor;
use sim_core::classify::Family;
use sim_models::config::{DetectLocal, ProxyConfig, XtablesBackend};
use sim_models::kernel::rules::NodeRules;
use sim_models::kube::ProxyObjects;
use sim_models::kube::gates;
use sim_models::kube::objects::{Node, Objects};
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{self, ProxyMode};
use std::net::IpAddr;
use std::path::Path;

/// What rules are made from.
pub struct Setup {
    /// The mode.
    pub mode: &'static dyn ProxyMode,
    /// Families, each with rules of its own.
    pub families: Vec<Family>,
    /// The node, empty if there is none.
    pub node: String,
    /// Its kube-proxy.
    pub config: ProxyConfig,
    /// The cluster.
    pub objects: Objects,
    /// Addresses of the node that its object lacks.
    node_addresses: Vec<IpAddr>,
    /// `bindAddress`.
    primary_address: Option<IpAddr>,
    /// kube-proxy's own file, if there is one.
    file: Option<KubeProxyConfiguration>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Setup {
    /// Reads everything.
    pub fn new(args: &ClusterArgs, families: Vec<Family>) -> Result<Setup, Failure> {
        let mut notes = Vec::new();
        // A mistyped name is told before gigabytes are read.
        let written = args.mode.as_deref().map(mode_named).transpose()?;
        let file = args.proxy_config.as_deref().map(configuration).transpose()?;
        let (objects, config) = match (&args.from, &args.scenario) {
            (Some(from), _) => {
                let name = written.map(|mode| mode.name());
                let name = name.or(file.as_ref().map(|file| file.mode.as_str())).unwrap_or("iptables");
                let config = match &file {
                    Some(file) => file.proxy(name),
                    None => of_mode(name),
                };
                (import_file(from, args.keep_going, &mut notes)?, config)
            }
            (None, Some(scenario)) => {
                of_scenario(scenario, &args.set, written.map(|mode| mode.name()), &mut notes)?
            }
            (None, None) => unreachable!("clap requires one of them"),
        };
        let mode = match written {
            Some(mode) => mode,
            None => mode_named(&config.mode)?,
        };
        let config = with_flags(args, mode, config)?;
        let wanted = args.node.as_deref().or(file.as_ref().and_then(|file| file.node.as_deref()));
        let node = node(&objects, wanted, args.node.is_none())?;
        let mut setup = Setup {
            mode,
            families,
            node,
            config,
            objects,
            node_addresses: args.node_address.clone(),
            primary_address: file.as_ref().and_then(|file| file.primary_address),
            file,
            notes,
        };
        setup.local_detector(args);
        let objects = std::mem::take(&mut setup.objects);
        setup.objects = setup.as_seen(objects);
        for family in &setup.families {
            what_is_missing(&setup.objects, &setup.node, *family, &mut setup.notes);
        }
        not_modelled(mode, setup.config.kubernetes_minor, &mut setup.notes);
        refused_gates(mode, &setup.config, &mut setup.notes);
        Ok(setup)
    }

    /// Whether nothing said which node it is.
    pub fn node_is_open(&self, args: &ClusterArgs) -> bool {
        let by_file = self.file.as_ref().is_some_and(|file| file.node.is_some());
        args.node.is_none() && !by_file && self.node_addresses.is_empty() && self.primary_address.is_none()
    }

    /// The same node under another mode; flags that this mode has not are left out of account.
    pub fn in_mode(&self, args: &ClusterArgs, mode: &'static dyn ProxyMode) -> Result<Setup, Failure> {
        let config = match (&self.file, &args.scenario) {
            (Some(file), _) => file.proxy(mode.name()),
            (None, Some(_)) => self.config.clone(),
            (None, None) => of_mode(mode.name()),
        };
        let args = ClusterArgs {
            backend: args.backend.filter(|_| mode.runs_iptables()),
            scheduler: args.scheduler.clone().filter(|_| mode.name() == "ipvs"),
            ..args.clone()
        };
        let mut setup = Setup {
            mode,
            config: with_flags(&args, mode, config)?,
            notes: Vec::new(),
            families: self.families.clone(),
            node: self.node.clone(),
            objects: self.objects.clone(),
            node_addresses: self.node_addresses.clone(),
            file: self.file.clone(),
            ..*self
        };
        setup.local_detector(&args);
        Ok(setup)
    }

    /// The network of all pods: flags, then the file or the scenario, then a guess.
    fn local_detector(&mut self, args: &ClusterArgs) {
        let has_file = self.file.is_some();
        if !self.mode.tells_local_traffic() {
            return;
        }
        if !args.cluster_cidr.is_empty() {
            self.config.detect_local = DetectLocal::ClusterCidr;
            self.config.cluster_cidrs = args.cluster_cidr.clone();
        } else if args.from.is_some() && !has_file {
            let guess = |family| guess_cluster_cidr(&self.objects, family, &mut self.notes);
            self.config.cluster_cidrs = self.families.iter().copied().filter_map(guess).collect();
            return;
        }
        if self.config.detect_local != DetectLocal::ClusterCidr {
            return;
        }
        for family in &self.families {
            let has = self.config.cluster_cidrs.iter().any(|cidr| Family::of(cidr.addr()) == *family);
            let name = family_name(*family);
            if !args.cluster_cidr.is_empty() && !has {
                self.notes.push(format!("--cluster-cidr has no {name} network"));
            } else if has_file && !has {
                let none = "no detector of local traffic: clusterCIDR has no";
                self.notes.push(format!("{none} {name} network; --cluster-cidr says otherwise"));
            }
        }
    }

    /// Objects as this kube-proxy sees them: by its feature gates, its Node with the addresses that flags and
    /// `bindAddress` give it.
    pub fn as_seen(&self, mut objects: Objects) -> Objects {
        gates::apply(&mut objects, self.config.gates);
        if self.node_addresses.is_empty() && self.primary_address.is_none() {
            return objects;
        }
        let position = objects.nodes.iter().position(|node| *node.name == *self.node);
        let position = position.unwrap_or_else(|| {
            let name = self.node.as_str().into();
            objects.nodes.push(Node { name, zone: None, addresses: Vec::new(), pod_cidrs: Vec::new() });
            objects.nodes.len() - 1
        });
        let addresses = &mut objects.nodes[position].addresses;
        if let Some(primary) = self.primary_address {
            addresses.retain(|address| *address != primary);
            addresses.insert(0, primary);
        }
        for address in &self.node_addresses {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        objects
    }

    /// The objects as the node's proxy of one family sees them.
    pub fn resolved(&self, objects: &Objects, family: Family) -> ProxyObjects {
        resolve(objects, family, &self.node)
    }

    /// The node's rules of one family.
    pub fn build(&self, family: Family) -> NodeRules {
        let mut rules = self.mode.build(&self.resolved(&self.objects, family), &self.config, family);
        if self.config.bare_rules {
            rules.strip_own_additions();
        }
        rules
    }

    /// Says on stderr what the output rests on, each thing once.
    pub fn tell_notes(&self) {
        for (i, note) in self.notes.iter().enumerate() {
            if !self.notes[..i].contains(note) {
                eprintln!("note: {note}");
            }
        }
    }
}

/// The families that were asked for.
pub fn families(family: FamilyArg) -> Vec<Family> {
    match family {
        FamilyArg::Ipv4 => vec![Family::Ipv4],
        FamilyArg::Ipv6 => vec![Family::Ipv6],
        FamilyArg::Both => vec![Family::Ipv4, Family::Ipv6],
    }
}

/// The mode of that name.
pub fn mode_named(name: &str) -> Result<&'static dyn ProxyMode, Failure> {
    proxy::mode(name).ok_or_else(|| unknown("proxy mode", name, proxy::MODES.iter().map(|mode| mode.name())))
}

/// kube-proxy's own file.
fn configuration(file: &Path) -> Result<KubeProxyConfiguration, Failure> {
    let (name, text) = text_of(file)?;
    KubeProxyConfiguration::parse(&name, &text, &known()).map_err(tell)
}

/// The defaults of a mode.
fn of_mode(name: &str) -> ProxyConfig {
    let min_sync_period = ProxyConfig::default_min_sync_period(name);
    ProxyConfig { mode: name.to_owned(), min_sync_period, ..ProxyConfig::default() }
}

/// What flags say over a configuration.
fn with_flags(
    args: &ClusterArgs,
    mode: &dyn ProxyMode,
    mut config: ProxyConfig,
) -> Result<ProxyConfig, Failure> {
    config.mode = mode.name().to_owned();
    config.kubernetes_minor = version(mode, args.kubernetes.as_deref(), config.kubernetes_minor)?;
    if let Some(name) = &args.scheduler {
        config.ipvs.scheduler = scheduler(mode, name)?;
    }
    if let Some(backend) = args.backend {
        if !mode.runs_iptables() {
            let text = format!(
                "error: --backend is of the iptables command; {} mode does not use it\n",
                mode.name()
            );
            return Err(Failure::Input(text));
        }
        config.backend = match backend {
            BackendArg::Legacy => XtablesBackend::Legacy,
            BackendArg::Nft => XtablesBackend::Nft,
        };
    }
    Ok(config)
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
    let (since, until) = mode.versions();
    let newest = last.min(until);
    let allowed = format!("  = allowed: 1.{} to 1.{newest}\n", first.max(since));
    let minor = match written {
        // A mode that was removed is shown as it was last.
        None => default.min(newest),
        Some(text) => kubernetes_minor(text).ok_or_else(|| {
            Failure::Input(format!("error: `{text}` is not a version of Kubernetes\n{allowed}"))
        })?,
    };
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

/// The node, by name or the first. Where there are no Nodes at all, any name may stand in the endpoints' nodeName.
fn node(objects: &Objects, wanted: Option<&str>, by_file: bool) -> Result<String, Failure> {
    match wanted {
        None => Ok(objects.nodes.first().map_or_else(String::new, |node| node.name.to_string())),
        Some(name) if objects.nodes.is_empty() || objects.node(name).is_some() => Ok(name.to_owned()),
        Some(name) => {
            let failure = unknown("node", name, objects.nodes.iter().map(|node| &*node.name));
            Err(match failure {
                Failure::Input(text) if by_file => Failure::Input(
                    text + "  = it is the configuration's hostnameOverride; --node says otherwise\n",
                ),
                failure => failure,
            })
        }
    }
}

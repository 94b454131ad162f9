//! The rules themselves, in one of the forms that tools read or people look at.

use super::family_name;
use super::setup::Setup;
use super::sync;
use crate::cli::{FormatArg, RulesArgs};
use crate::exit::{Exit, Failure};
use crate::terminal;
use serde::Deserialize;
use serde_json::value::RawValue;
use sim_core::classify::Family;
use sim_core::units::SimTime;
use sim_models::config::{ProxyConfig, XtablesBackend};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::Match;
use sim_models::kube::ProxyObjects;
use sim_models::proxy::{Form, ProxyMode, conntrack};
use std::collections::BTreeSet;

/// Prints rules, or what kube-proxy writes at its first sync.
pub fn print(args: &RulesArgs, setup: &Setup) -> Result<Exit, Failure> {
    let Some(form) = form(args.format, setup.mode, &setup.config)? else {
        return sync::first(setup);
    };
    setup.tell_notes();
    if form == Form::Json && setup.families.len() > 1 {
        let texts: Vec<String> =
            setup.families.iter().map(|family| setup.mode.print(&setup.build(*family), form)).collect();
        terminal::print(&merged(&texts)?)?;
        return Ok(Exit::Fine);
    }
    for family in &setup.families {
        let rules = setup.build(*family);
        if let Some(why) = setup.mode.refused(&rules) {
            eprintln!("note: kube-proxy could not load these rules: {why}");
        }
        if form == Form::Load {
            terminal::print(&head(setup, *family, &rules))?;
        }
        terminal::print(&setup.mode.print(&rules, form))?;
    }
    Ok(Exit::Fine)
}

/// The form that was asked for, if the mode has it; `None` is what kube-proxy writes to its tools.
pub fn form(format: FormatArg, mode: &dyn ProxyMode, config: &ProxyConfig) -> Result<Option<Form>, Failure> {
    let wanted = match format {
        FormatArg::Load => Form::Load,
        FormatArg::Json => Form::Json,
        FormatArg::Listing => Form::Listing,
        FormatArg::Stdin if has_inputs(mode, config) => return Ok(None),
        FormatArg::Stdin => return Err(no_form(mode, "stdin", config)),
    };
    if mode.forms().contains(&wanted) {
        return Ok(Some(wanted));
    }
    Err(no_form(mode, name(wanted), config))
}

/// Whether the mode has tools that read rules from stdin.
pub fn has_inputs(mode: &dyn ProxyMode, config: &ProxyConfig) -> bool {
    mode.inputs(&[(SimTime::ZERO, ProxyObjects::default())], config, Family::Ipv4).is_some()
}

fn name(form: Form) -> &'static str {
    Form::ALL
        .iter()
        .find(|(known, ..)| *known == form)
        .map(|(_, name, _)| *name)
        .expect("every form is listed")
}

fn no_form(mode: &dyn ProxyMode, wanted: &str, config: &ProxyConfig) -> Failure {
    let mut allowed: Vec<&str> = mode.forms().iter().map(|form| name(*form)).collect();
    if has_inputs(mode, config) {
        allowed.push("stdin");
    }
    let text =
        format!("error: {} mode has no format {wanted}\n  = allowed: {}\n", mode.name(), allowed.join(", "));
    Failure::Input(text)
}

/// What `nft -j` prints.
#[derive(Deserialize)]
struct NftJson {
    nftables: Vec<Box<RawValue>>,
}

/// Several documents of `nft -j` as one, as nft prints the tables of both families.
pub fn merged(texts: &[String]) -> Result<String, Failure> {
    let ours = |error: serde_json::Error| Failure::Ours(format!("our JSON is none: {error}"));
    let mut all: Vec<Box<RawValue>> = Vec::new();
    for text in texts {
        let one: NftJson = serde_json::from_str(text).map_err(ours)?;
        let is_head = |object: &RawValue| object.get()[1..].trim_start().starts_with("\"metainfo\"");
        let again = !all.is_empty();
        all.extend(one.nftables.into_iter().filter(|object| !(again && is_head(object))));
    }
    let objects: Vec<&str> = all.iter().map(|object| object.get()).collect();
    // With the blanks that nft puts there.
    Ok(format!("{{\"nftables\": [{}]}}\n", objects.join(", ")))
}

/// Comment lines: what this is, and how it is loaded.
pub fn head(setup: &Setup, family: Family, rules: &NodeRules) -> String {
    let (minor, name) = (setup.config.kubernetes_minor, setup.mode.name());
    let node = if setup.node.is_empty() { "a node without a name" } else { &setup.node };
    let who = if setup.mode.is_kube_proxys() {
        format!("kube-proxy 1.{minor} in {name} mode")
    } else {
        "an eBPF service map in place of kube-proxy".to_owned()
    };
    let mut text = format!("# {who} on {node}, {}, by windtunnel\n", family_name(family));
    let restore = match (family, setup.config.backend) {
        (Family::Ipv4, XtablesBackend::Legacy) => "iptables-restore",
        (Family::Ipv6, XtablesBackend::Legacy) => "ip6tables-restore",
        (Family::Ipv4, XtablesBackend::Nft) => "iptables-nft-restore",
        (Family::Ipv6, XtablesBackend::Nft) => "ip6tables-nft-restore",
    };
    // Modes of several tools head each section themselves.
    if let Some(command) = setup.mode.load_command(restore) {
        text.push_str(&format!("# load with: {command}\n"));
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
    // ipvs mode has a section for them, which can be loaded.
    for (name, value) in rules.sysctls.iter().filter(|_| name != "ipvs") {
        text.push_str(&format!("# sysctl -w {name}={value}\n"));
    }
    if let Some(limit) = conntrack::limit(&setup.config).filter(|_| name != "ebpf") {
        text.push_str(&format!("# {limit}\n"));
    }
    text
}

//! KubeProxyConfiguration, the file that kube-proxy is started with: YAML or JSON -> [`KubeProxyConfiguration`] ->
//! [`ProxyConfig`] of a mode.
//!
//! Takes the configuration itself, one among several documents, or the ConfigMap that holds it (`kubectl -n
//! kube-system get cm kube-proxy -o yaml`). Defaults are those of `pkg/proxy/apis/config/v1alpha1/defaults.go` (an
//! empty text, a time of zero and null mean the default, save in `conntrack`), limits those of
//! `pkg/proxy/apis/config/validation`, and which section counts in which mode is as in `v1alpha1/conversion.go`,
//! release 1.36.
//!
//! kube-proxy warns of unknown keys and goes on; here they are errors, since a key that is not read shapes no rules.
//! Left out: whether a feature gate exists; of gates, those that shape rules count ([`FeatureGates`]).
//!
//! [`FeatureGates`]: sim_models::config::FeatureGates

mod document;
mod duration;
mod keys;
mod numbers;
mod values;
mod yaml;

pub(crate) use values::{INTERFACE_ALLOWED, interface_name};

use crate::diagnostic::Diagnostics;
use crate::known::Known;
use sim_core::units::SimSpan;
use sim_models::config::ProxyConfig;
use std::net::IpAddr;

/// What kube-proxy reads when it starts, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeProxyConfiguration {
    /// `mode`; iptables where nothing is written.
    pub mode: String,
    /// `hostnameOverride`: the Node that kube-proxy takes itself for.
    pub node: Option<String>,
    /// `bindAddress`, unless it is 0.0.0.0 or `::`: the node's primary address.
    pub primary_address: Option<IpAddr>,
    /// What all modes share.
    shared: ProxyConfig,
    /// `iptables`, which ipvs mode reads too.
    iptables: Section,
    /// The periods of `ipvs`.
    ipvs: Section,
    /// `nftables`.
    nftables: Section,
}

/// What each mode has for itself.
#[derive(Clone, Debug, PartialEq)]
struct Section {
    masquerade_bit: u8,
    masquerade_all: bool,
    sync_period: SimSpan,
    min_sync_period: SimSpan,
}

impl KubeProxyConfiguration {
    /// Reads the text of `file`, a path used for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str, known: &Known) -> Result<Self, Diagnostics> {
        let mut out = Diagnostics::default();
        let read = Self::read(&mut out, file, text, known);
        match read {
            Some(configuration) if out.is_empty() => Ok(configuration),
            _ => Err(out),
        }
    }

    /// As [`parse`](Self::parse), what is wrong being added to `out`; `None` only if something was.
    pub fn read(out: &mut Diagnostics, file: &str, text: &str, known: &Known) -> Option<Self> {
        let before = out.list.len();
        let root = document::find(out, file, text)?;
        let configuration = values::read(out, &root, known);
        (out.list.len() == before).then_some(configuration)
    }

    /// The configuration of one mode: kube-proxy started with this file and that mode.
    pub fn proxy(&self, mode: &str) -> ProxyConfig {
        let (marks, periods) = match mode {
            "nftables" => (&self.nftables, &self.nftables),
            "ipvs" => (&self.iptables, &self.ipvs),
            _ => (&self.iptables, &self.iptables),
        };
        ProxyConfig {
            mode: mode.to_owned(),
            masquerade_bit: marks.masquerade_bit,
            masquerade_all: marks.masquerade_all,
            sync_period: periods.sync_period,
            min_sync_period: periods.min_sync_period,
            ..self.shared.clone()
        }
    }
}

#[cfg(test)]
mod tests;

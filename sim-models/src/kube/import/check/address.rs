//! Addresses and networks.
//!
//! The API server still takes the "sloppy" IPv4 addresses with leading zeros that old objects have, and kube-proxy
//! reads them as decimal (`TestBadIPs`); other tools read them as octal, so they are refused here, with the usual form.

use super::Checker;
use crate::kube::import::position::Step::{self, At};
use crate::kube::import::position::quoted;
use crate::kube::import::raw::LONG;
use crate::kube::import::shape::{Capped, Text};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

impl Checker<'_> {
    /// An address in its usual form: no leading zeros, not an IPv4 address in IPv6 clothes.
    pub(super) fn ip(&mut self, text: &str, path: &[Step<'static>]) -> Option<IpAddr> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
                self.error(path, format!("{} is an IPv4-mapped address: write it as IPv4", quoted(text)));
                None
            }
            Ok(ip) => Some(ip),
            Err(_) => {
                let message = match without_zeros(text) {
                    Some(ip) => format!("{} has leading zeros: write {ip}", quoted(text)),
                    None => format!("{} is no IP address", quoted(text)),
                };
                self.error(path, message);
                None
            }
        }
    }

    /// An address that packets may be sent to from elsewhere (`ValidateNonSpecialIP`).
    pub(super) fn routable(&mut self, text: &str, path: &[Step<'static>]) -> Option<IpAddr> {
        let ip = self.ip(text, path)?;
        if let Some(range) = special(ip) {
            self.error(path, format!("{ip} is {range}, which the API server refuses here"));
        }
        Some(ip)
    }

    pub(super) fn network(&mut self, text: &str, path: &[Step<'static>]) -> Option<IpNet> {
        let trimmed = text.trim();
        let Some((ip, prefix)) = trimmed.split_once('/') else {
            self.error(path, format!("{} is no network: write address/prefix", quoted(text)));
            return None;
        };
        let ip = self.ip(ip, path)?;
        let digits =
            prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let net = prefix.parse().ok().filter(|_| digits).and_then(|prefix| IpNet::new(ip, prefix).ok());
        if net.is_none() {
            let longest = if ip.is_ipv4() { 32 } else { 128 };
            let prefix = crate::kube::import::position::escaped(prefix);
            self.error(path, format!("/{prefix} is no prefix length of {ip}: 0-{longest}"));
        }
        net
    }

    pub(super) fn networks(
        &mut self,
        texts: Option<&Capped<Text<'_>, LONG>>,
        path: &[Step<'static>; 2],
    ) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (i, text) in self.list(texts, path).iter().enumerate() {
            networks.extend(self.network(text, &[path[0], path[1], At(i)]));
        }
        networks
    }
}

/// The address that kube-proxy takes a text with leading zeros for.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| !part.is_empty() && part.len() <= 16)?;
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| digits)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// The range that keeps an address from being an endpoint's or an external IP.
fn special(ip: IpAddr) -> Option<&'static str> {
    let (link_local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let ranges = [
        (ip.is_unspecified(), "unspecified"),
        (ip.is_loopback(), "loopback"),
        (link_local, "link-local"),
        (multicast, "link-local multicast"),
    ];
    ranges.into_iter().find(|(is, _)| *is).map(|(_, range)| range)
}

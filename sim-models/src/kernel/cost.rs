//! Cost profiles: the only place where work becomes time.
//!
//! A profile is a data file (`profiles/*.toml`) in which every constant has a value, an error and a source. It
//! prices each unit of [`Work`]; the price holds with everything in the first-level cache. Cache lines cost
//! extra by the level they are found in, which follows from one idea: a line is where its reuse distance says.
//! The distance is the number of distinct lines touched since its last use, against the size of each level.
//! What was touched in between follows from how packets spread over Services ([`Locality`]).
//!
//! Left out: contention between cores, and the translation look-aside buffer as a level of its own (its misses
//! are in the price of a chased line).

mod control;

use crate::config::CacheState;
use control::Control;
use serde::Deserialize;
use sim_core::classify::{Unit, Work};
use sim_core::dist;
use std::collections::BTreeMap;

/// The embedded profiles: name and text.
pub const PROFILES: &[(&str, &str)] = &[
    ("linux-6.18", include_str!("../../profiles/linux-6.18.toml")),
    ("linux-6.12-uml", include_str!("../../profiles/linux-6.12-uml.toml")),
    ("linux-6.1-instructions", include_str!("../../profiles/linux-6.1-instructions.toml")),
];

/// One constant with its provenance.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// Value in the profile's unit, unless the name says another.
    pub value: f64,
    /// Standard error or spread.
    pub error: f64,
    /// Where it was measured and how.
    pub source: String,
}

/// Sizes and latencies of the caches.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CacheModel {
    /// Bytes of the first level that rules get before they spill.
    pub l1_bytes: Constant,
    /// Bytes of the second level at which the first lines spill.
    pub l2_bytes_low: Constant,
    /// Bytes of the second level at which the last lines spill. (Sets fill unevenly.)
    pub l2_bytes_high: Constant,
    /// Extra time of a line read in address order from the second level.
    pub stream_l2: Constant,
    /// The same from the shared level.
    pub stream_l3: Constant,
    /// The same from memory.
    pub stream_dram: Constant,
    /// Extra time of a line of one Service's own data, from the second level.
    pub own_l2: Constant,
    /// The same from the shared level, misses of the address translation included.
    pub own_l3: Constant,
    /// Extra time of any other line reached through a pointer, from the shared level.
    pub chase_l3: Constant,
    /// Extra time of any line reached through a pointer, from memory.
    pub chase_dram: Constant,
    /// Lines that every packet touches outside rules, established or not.
    pub path_lines: Constant,
    /// More such lines for the first packet of a connection.
    pub first_packet_lines: Constant,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    name: String,
    unit: String,
    kernel: String,
    description: String,
    ns_per_unit: f64,
    #[serde(default)]
    differences_only: bool,
    calibrated: BTreeMap<String, (f64, f64)>,
    #[serde(default)]
    rigs: BTreeMap<String, Constant>,
    price: BTreeMap<String, Constant>,
    cache: Option<CacheModel>,
    #[serde(default)]
    sync: BTreeMap<String, Constant>,
    #[serde(default)]
    tool: BTreeMap<String, Constant>,
    #[serde(default)]
    memory: BTreeMap<String, Constant>,
}

/// A cost profile.
#[derive(Clone, Debug)]
pub struct CostProfile {
    /// Its name.
    pub name: String,
    /// `ns` or `instr`.
    pub unit: String,
    /// The `kernel` column of the measurements it was fitted on.
    pub kernel: String,
    /// What it was measured on.
    pub description: String,
    /// Nanoseconds that one unit takes: 1 for a profile in ns, an estimate for one in instructions.
    pub ns_per_unit: f64,
    /// Whether only differences between two of its figures mean anything.
    pub differences_only: bool,
    /// Ranges inside which it was calibrated, by quantity (`services`, `endpoints`).
    pub calibrated: BTreeMap<String, (f64, f64)>,
    /// Constant part of measurements on other rigs, by the `kernel` column of their files.
    pub rigs: BTreeMap<String, Constant>,
    prices: Vec<f64>,
    constants: BTreeMap<String, Constant>,
    cache: Option<CacheModel>,
    control: Control,
}

/// A profile file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or not of the profile's form.
    #[error("{0}")]
    Syntax(String),
    /// A price for something that is not a unit of work.
    #[error("price.{0}: no such unit of work")]
    UnknownUnit(String),
}

/// How the packets of one node spread over Services: what decides reuse distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Locality {
    /// State in which other work leaves the caches between packets.
    pub state: CacheState,
    /// Lines that a walk over the whole linear table streams; 0 for one that is always walked to the same place.
    pub table_lines: f64,
    /// Services that packets choose among with equal probability; 1 for the same one each time.
    pub services: f64,
    /// Endpoints of each, chosen with equal probability.
    pub endpoints: f64,
    /// Lines of its own that one Service's lookup reads, those of the endpoint left out.
    pub lines_per_service: f64,
    /// Lines of the endpoint chosen.
    pub lines_per_endpoint: f64,
}

impl Locality {
    /// Every packet takes the same way.
    pub fn repeated(state: CacheState) -> Self {
        Locality {
            state,
            table_lines: 0.0,
            services: 1.0,
            endpoints: 1.0,
            lines_per_service: 0.0,
            lines_per_endpoint: 0.0,
        }
    }

    /// Takes the lines from the work of one packet that walks the whole table and finds a Service.
    pub fn with_lines_of(self, work: &Work) -> Self {
        let endpoint = f64::from(work[Unit::LinesEndpoint]);
        Locality {
            table_lines: f64::from(work[Unit::LinesStream]),
            lines_per_service: f64::from(work[Unit::LinesOwn]) - endpoint,
            lines_per_endpoint: endpoint,
            ..self
        }
    }
}

/// A locality with what it means for the caches of a profile, worked out once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residency {
    state: CacheState,
    table_lines: f64,
    /// Shares of a Service's own lines beyond the first and second level.
    service: (f64, f64),
    /// The same of an endpoint's.
    endpoint: (f64, f64),
}

/// Bytes of a cache line.
const LINE: f64 = 64.0;

/// Lines found beyond the first level, by level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Misses {
    l2: f64,
    l3: f64,
}

impl CostProfile {
    /// Reads a profile.
    ///
    /// # Errors
    /// If the text is not a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let named = |name: &str| PROFILES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        let whole = control::with_base(text, named)?;
        let file: ProfileFile = whole.try_into().map_err(|e: toml::de::Error| ProfileError::Syntax(e.to_string()))?;
        let mut prices = vec![0.0; Unit::COUNT];
        for (name, constant) in &file.price {
            let unit = Unit::ALL.iter().find(|u| u.name() == name);
            prices[*unit.ok_or_else(|| ProfileError::UnknownUnit(name.clone()))? as usize] = constant.value;
        }
        let control = Control { sync: file.sync, tool: file.tool, memory: file.memory };
        control.check()?;
        Ok(CostProfile {
            name: file.name,
            unit: file.unit,
            kernel: file.kernel,
            description: file.description,
            ns_per_unit: file.ns_per_unit,
            differences_only: file.differences_only,
            calibrated: file.calibrated,
            rigs: file.rigs,
            prices,
            constants: file.price,
            cache: file.cache,
            control,
        })
    }

    /// The embedded profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = PROFILES.iter().find(|(n, _)| *n == name)?;
        Some(CostProfile::parse(text).unwrap_or_else(|e| panic!("embedded profile {name}: {e}")))
    }

    /// Price of one unit in the profile's unit, first-level cache.
    pub fn price(&self, unit: Unit) -> f64 {
        self.prices[unit as usize]
    }

    /// The price of a unit of sync work in thousands of the profile's unit; zero where the profile has none.
    pub fn sync_price(&self, name: &str) -> f64 {
        self.control.sync.get(name).map_or(0.0, |c| c.value)
    }

    /// Whether the profile prices whole syncs.
    pub fn has_sync(&self) -> bool {
        !self.control.sync.is_empty()
    }

    /// The price of a unit of sync work where a tool runs alone; zero where the profile has none.
    pub fn tool_price(&self, name: &str) -> f64 {
        self.control.tool.get(name).map_or(0.0, |c| c.value)
    }

    /// Whether the profile prices tools that run alone.
    pub fn has_tool(&self) -> bool {
        !self.control.tool.is_empty()
    }

    /// A quantity of kube-proxy's memory in KiB.
    pub fn memory_price(&self, name: &str) -> Option<f64> {
        self.control.memory.get(name).map(|c| c.value)
    }

    /// Every constant with its name, for provenance.
    pub fn constants(&self) -> Vec<(String, Constant)> {
        let mut all: Vec<(String, Constant)> =
            self.constants.iter().map(|(n, c)| (format!("price.{n}"), c.clone())).collect();
        if let Some(c) = &self.cache {
            let named = [
                ("l1_bytes", &c.l1_bytes),
                ("l2_bytes_low", &c.l2_bytes_low),
                ("l2_bytes_high", &c.l2_bytes_high),
                ("stream_l2", &c.stream_l2),
                ("stream_l3", &c.stream_l3),
                ("stream_dram", &c.stream_dram),
                ("own_l2", &c.own_l2),
                ("own_l3", &c.own_l3),
                ("chase_l3", &c.chase_l3),
                ("chase_dram", &c.chase_dram),
                ("path_lines", &c.path_lines),
                ("first_packet_lines", &c.first_packet_lines),
            ];
            all.extend(named.iter().map(|(n, c)| (format!("cache.{n}"), (*c).clone())));
        }
        all.extend(self.control.constants());
        all
    }

    /// What `locality` means for this profile's caches.
    pub fn residency(&self, locality: &Locality) -> Residency {
        let beyond = |bytes: f64| missing_shares(locality, bytes / LINE);
        let (l1, l2) = match &self.cache {
            None => ((0.0, 0.0), (0.0, 0.0)),
            Some(c) => {
                (beyond(c.l1_bytes.value), beyond((c.l2_bytes_low.value + c.l2_bytes_high.value) / 2.0))
            }
        };
        Residency {
            state: locality.state,
            table_lines: locality.table_lines,
            service: (l1.0, l2.0),
            endpoint: (l1.1, l2.1),
        }
    }

    /// The cost of `work` in the profile's unit; `first` says whether it is of a connection's first packet.
    pub fn cost(&self, work: &Work, residency: &Residency, first: bool) -> f64 {
        let cpu: f64 = work.iter().map(|(unit, n)| self.prices[unit as usize] * f64::from(n)).sum();
        cpu + self.cache.as_ref().map_or(0.0, |c| c.extra(work, residency, first))
    }
}

impl CacheModel {
    fn extra(&self, work: &Work, at: &Residency, first: bool) -> f64 {
        let stream = f64::from(work[Unit::LinesStream]);
        let chase = f64::from(work[Unit::LinesChase]);
        let path = self.path_lines.value + if first { self.first_packet_lines.value } else { 0.0 };
        match at.state {
            CacheState::Hot => {
                // Only first packets walk the long table, to a place that differs; what later ones walk is the same
                // each time.
                let s = self.stream_misses(stream, if first { at.table_lines } else { 0.0 });
                let c = own_misses(work, at);
                s.l2 * self.stream_l2.value
                    + s.l3 * self.stream_l3.value
                    + c.l2 * self.own_l2.value
                    + c.l3 * self.own_l3.value
            }
            CacheState::Shared => {
                let own = f64::from(work[Unit::LinesOwn]);
                stream * self.stream_l3.value
                    + own * self.own_l3.value
                    + ((chase - own).max(0.0) + path) * self.chase_l3.value
            }
            CacheState::Cold => stream * self.stream_dram.value + (chase + path) * self.chase_dram.value,
        }
    }

    /// Lines of a walk of `n` lines that are beyond each level, in a table of `table` lines.
    fn stream_misses(&self, n: f64, table: f64) -> Misses {
        let beyond_l1 = walk_misses(n, table, self.l1_bytes.value / LINE);
        let (low, high) = (self.l2_bytes_low.value / LINE, self.l2_bytes_high.value / LINE);
        // Sets fill unevenly: capacities between low and high are equally common.
        let parts = 8;
        let beyond_l2 = (0..parts)
            .map(|i| walk_misses(n, table, low + (high - low) * (f64::from(i) + 0.5) / f64::from(parts)))
            .sum::<f64>()
            / f64::from(parts);
        Misses { l2: beyond_l1 - beyond_l2, l3: beyond_l2 }
    }
}

/// Of the lines that belong to the Service and the endpoint chosen, those beyond each level. What all Services
/// share stays close.
fn own_misses(work: &Work, at: &Residency) -> Misses {
    let endpoint = f64::from(work[Unit::LinesEndpoint]);
    let service = f64::from(work[Unit::LinesOwn]) - endpoint;
    let beyond = |(s, e): (f64, f64)| s * service + e * endpoint;
    let (l1, l2) = (beyond((at.service.0, at.endpoint.0)), beyond((at.service.1, at.endpoint.1)));
    Misses { l2: l1 - l2, l3: l2 }
}

/// Shares of Services' and of endpoints' lines that are not in an LRU cache of `capacity` lines, by Che's
/// approximation (Che, Tung and Wang 2002): a line stays for a fixed number of packets T, the one at which the
/// expected number of lines resident fills the cache; a line that one packet in `n` uses is then missing with
/// probability exp(-T / n).
fn missing_shares(at: &Locality, capacity: f64) -> (f64, f64) {
    let each = at.services * at.endpoints;
    let (a, b) = (at.services * at.lines_per_service, each * at.lines_per_endpoint);
    let room = (capacity - at.table_lines.min(capacity / 2.0)).max(1.0);
    if a + b <= room {
        return (0.0, 0.0);
    }
    let missing = |t: f64| (dist::exp(-t / at.services), dist::exp(-t / each));
    let resident = |t: f64| {
        let (s, e) = missing(t);
        a * (1.0 - s) + b * (1.0 - e)
    };
    let (mut low, mut high) = (0.0, each * 64.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if resident(middle) < room { low = middle } else { high = middle }
    }
    missing(low)
}

/// How many lines of a walk over lines `0..n` miss in an LRU cache of `capacity` lines.
///
/// With `table` zero the same walk comes again and again: all or nothing. Otherwise walks end anywhere in
/// `0..table` with equal probability. The reuse distance of line `i` is then the length of the last walk that
/// passed it, uniform in `i..table`, so that it misses with probability `(table - capacity) / (table - i)`.
fn walk_misses(n: f64, table: f64, capacity: f64) -> f64 {
    if table <= 0.0 {
        return if n > capacity { n } else { 0.0 };
    }
    if table <= capacity || n <= 0.0 {
        return 0.0;
    }
    let inside = n.min(capacity);
    (table - capacity) * dist::ln(table / (table - inside)) + (n - capacity).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_walk_misses_wholly_or_not_at_all() {
        assert_eq!(walk_misses(100.0, 0.0, 100.0), 0.0);
        assert_eq!(walk_misses(101.0, 0.0, 100.0), 101.0);
    }

    #[test]
    fn random_walks_miss_as_a_simulated_lru_cache_does() {
        let (table, capacity, n) = (60usize, 40usize, 50usize);
        let mut stream = sim_core::rng::Stream::new(1, "test", "walks");
        let mut lru: Vec<usize> = Vec::new();
        let (mut touched, mut missed) = (vec![0u32; table], vec![0u32; table]);
        for _ in 0..40_000 {
            for line in 0..1 + stream.below(table as u64) as usize {
                touched[line] += 1;
                match lru.iter().rposition(|&l| l == line) {
                    Some(at) => drop(lru.remove(at)),
                    None => missed[line] += 1,
                }
                lru.push(line);
                if lru.len() > capacity {
                    lru.remove(0);
                }
            }
        }
        let simulated: f64 = (0..n).map(|i| f64::from(missed[i]) / f64::from(touched[i])).sum();
        let law = walk_misses(n as f64, table as f64, capacity as f64);
        assert!((simulated / law - 1.0).abs() < 0.05, "simulated {simulated}, law {law}");
    }

    #[test]
    fn a_price_for_an_unknown_unit_is_refused() {
        let text = r#"
            name = "x"
            unit = "ns"
            kernel = "x"
            description = ""
            ns_per_unit = 1.0
            calibrated = {}
            sync = {}
            [price.rule_evils]
            value = 1.0
            error = 0.0
            source = ""
        "#;
        assert_eq!(CostProfile::parse(text).unwrap_err(), ProfileError::UnknownUnit("rule_evils".into()));
    }
}

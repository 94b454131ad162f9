//! The rig that packet costs were measured on, rebuilt, so that a profile can be held against every cell.
//!
//! Services `0..S` have VIPs 172.20.0.1+i, port 80 to 8080, with E endpoints each. One packet at a time goes
//! from a pod's veth through PREROUTING, routing, FORWARD and POSTROUTING to a backend's veth; `case.rs` tells what
//! other cases send. `first_pkt` is the SYN of a fresh flow, `est_pkt_*` an ACK of an established one; a figure is
//! the median over packets. At position `rand` every packet goes to another VIP. The rules (`ruleset.rs`) are
//! kube-proxy's without what it adds for itself; `component.rs` has tables of one repeated rule.
//!
//! Which Services a random position met, and which endpoint holds a client with affinity, is not recorded: the
//! former is told as the sampling error of a prediction, of the latter the nearest possible cost counts.
//!
//! What it takes to load, change and list those rules is in `control.rs`.

mod case;
mod cell;
mod component;
mod control;
mod crossover;
mod dump;
mod probe;
mod ruleset;
#[cfg(test)]
mod tests;

pub use cell::{Cell, Measurement, Unpredicted, blemish, is_predicted, parse_csv};
pub use control::{ControlCell, Measure, is_control};
pub use crossover::{CellCrossover, crossovers};
pub use dump::{Checked, DumpRig, Record, parse_packets};

use crate::config::CacheState;
use crate::kernel::cost::{CostProfile, Locality};
use crate::kernel::path::{Crossing, Stack};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{TableName, layout};
use case::Case;
use sim_core::classify::Work;

/// A prediction and the work of the packet it is the cost of.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// In the profile's unit, or bytes and counts for `blob_*`.
    pub value: f64,
    /// Work of the median packet.
    pub work: Work,
    /// How packets spread, which decides what caches hold.
    pub locality: Locality,
    /// Standard error of a measured median of 200 packets, as a share of it, that the choice of Services and
    /// endpoints alone causes: what no model can predict.
    pub sampling_error: f64,
    /// What the figure can be, in order, where that hangs on a choice made before the measuring; else one value.
    pub possible: Vec<f64>,
}

impl Prediction {
    /// Whether a cell with this measured value says nothing about the profile: what its packets happened to meet moves
    /// its median by more than half a percent, and explains the error.
    pub fn is_by_chance(&self, measured: f64) -> bool {
        let error = (self.value / measured - 1.0).abs();
        self.sampling_error > 0.005 && error > 0.01 && error < 2.5 * self.sampling_error
    }
}

/// A ruleset under test; built once for all cells of one (case, mode, services, endpoints).
pub struct Rig {
    case: Case,
    /// The node had a device for clients outside.
    outside: bool,
    rules: NodeRules,
    stack: Stack,
    services: u32,
    endpoints: u32,
    /// How packets to random Services spread.
    spread: Locality,
}

impl Rig {
    /// Builds the rules of `cell`'s case, mode and size and compiles them.
    ///
    /// # Errors
    /// If the cell's case or mode is not one the rig can rebuild.
    pub fn new(cell: &Cell) -> Result<Self, Unpredicted> {
        let case = Case::of(cell)?;
        let component = component::is_component(cell);
        let endpoints = u64::from(cell.services) * u64::from(cell.endpoints);
        let empty = !component && (cell.services == 0 || cell.endpoints == 0);
        if empty || cell.services > 100_000 || endpoints > 1_000_000 {
            let (s, e) = (cell.services, cell.endpoints);
            return Err(Unpredicted(format!(
                "{s} Services of {e} endpoints: the rig had 1 to 100,000, and endpoints"
            )));
        }
        if case.node_ports && cell.services > 32_768 {
            return Err(Unpredicted(format!("{} NodePorts: more than there are", cell.services)));
        }
        let (services, of_each) = if component { (1, 1) } else { (cell.services, cell.endpoints) };
        let objects = ruleset::objects(&case, services, of_each);
        let rules = if component {
            component::build(&case, &cell.mode, cell.services)?
        } else {
            ruleset::rules(&case, &cell.mode, &objects)?
        };
        let stack = Stack::new(&rules, 1).map_err(|e| Unpredicted(e.to_string()))?;
        let spread = Locality::repeated(CacheState::Hot);
        let outside = cell.outside;
        let mut rig = Rig { case, outside, rules, stack, services, endpoints: of_each, spread };
        rig.measure_locality();
        Ok(rig)
    }

    /// The rules that the cells were measured under.
    pub fn rules(&self) -> &NodeRules {
        &self.rules
    }

    /// Lines of the longest walk, and lines that change with the Service called.
    fn measure_locality(&mut self) {
        let mut state = self.fresh_state(0);
        let last = self.send(&mut state, self.services - 1, 1);
        self.spread = Locality {
            services: f64::from(self.services),
            endpoints: f64::from(self.endpoints),
            ..self.spread.with_lines_of(&last.work)
        };
    }

    /// Predicts `cell`, which must have the mode and size the rig was built for.
    ///
    /// # Errors
    /// If the metric is not one the model has.
    pub fn predict(
        &self,
        measurement: &Measurement,
        profile: &CostProfile,
    ) -> Result<Prediction, Unpredicted> {
        let cell = &measurement.cell;
        if measurement.value == 0.0 {
            return Err(Unpredicted("measured as zero: no error can be told as a share of it".to_owned()));
        }
        if let Some(value) = self.blob(&cell.metric) {
            let (work, locality) = (Work::new(), Locality::repeated(CacheState::Hot));
            return Ok(Prediction { value, work, locality, sampling_error: 0.0, possible: vec![value] });
        }
        let offset = offset(measurement, profile)?;
        let (base, state) = match cell.metric.split_once("_cold") {
            None => (cell.metric.as_str(), CacheState::Hot),
            Some((base, "8")) => (base, CacheState::Shared),
            Some((base, "1024")) => (base, CacheState::Cold),
            Some(_) => return Err(Unpredicted(format!("metric {}: unknown cache state", cell.metric))),
        };
        if state != CacheState::Hot && offset.is_some() {
            let why =
                format!("{}: the profile knows only a constant of this rig, not its caches", cell.kernel);
            return Err(Unpredicted(why));
        }
        let flows = match base {
            "first_pkt" => None,
            _ => Some(flows(base).ok_or_else(|| Unpredicted::metric(&cell.metric))?),
        };
        let spread = cell.position == "rand";
        let places = self.places(&cell.position)?;
        let locality = if spread { Locality { state, ..self.spread } } else { Locality::repeated(state) };
        let residency = profile.residency(&locality);
        let median = |crossings: &[Crossing]| {
            let first = flows.is_none();
            Median::of(crossings.iter().map(|c| (profile.cost(&c.work, &residency, first), c.work)))
        };
        let offset = offset.unwrap_or(0.0);
        let seeds = if self.depends_on_history() { 0..HISTORIES } else { 0..1 };
        let mut runs = Vec::new();
        for seed in seeds {
            runs.push(median(&match flows {
                // Where costs have steps the model's own sample must not be a small one too.
                None if self.case.new_clients => {
                    (0..POOLED).flat_map(|seed| self.first_packets(&places, seed)).collect()
                }
                None => self.first_packets(&places, seed),
                Some(n) => self.later_packets(&places, n, seed)?,
            }));
        }
        let mut possible: Vec<f64> = runs.iter().map(|run| run.value + offset).collect();
        possible.sort_by(f64::total_cmp);
        possible.dedup();
        let distance = |run: &&Median| (run.value + offset - measurement.value).abs();
        let run = runs.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("at least one");
        let value = run.value + offset;
        let sampling_error = run.spread / value.max(1.0);
        Ok(Prediction { value, work: run.work, locality, sampling_error, possible })
    }

    fn blob(&self, metric: &str) -> Option<f64> {
        let nat = self.rules.xtables.iter().find(|t| t.name == TableName::Nat)?;
        let size = layout::blob_size(nat);
        match metric {
            "blob_bytes" => Some(size.bytes as f64),
            "blob_entries" => Some(size.entries as f64),
            _ => None,
        }
    }
}

/// Repetitions with another choice of the endpoints that hold clients.
const HISTORIES: u64 = 40;

/// Samples taken together where every packet meets an endpoint at random.
const POOLED: u64 = 12;
/// Packets of one measured median.
const SAMPLE: f64 = 200.0;

/// Number of flows that a metric of later packets goes round.
fn flows(metric: &str) -> Option<u32> {
    match metric {
        "est_pkt" | "est_pkt_1flow" => Some(1),
        other => other.strip_prefix("est_pkt_")?.strip_suffix("flows")?.parse().ok().filter(|&n| n <= 50_000),
    }
}

/// What a profile adds to cells of another rig; `None` for a cell of its own.
fn offset(measurement: &Measurement, profile: &CostProfile) -> Result<Option<f64>, Unpredicted> {
    let cell = &measurement.cell;
    if measurement.unit != profile.unit {
        let (theirs, ours) = (&measurement.unit, &profile.unit);
        let why = format!("measured in {theirs}, and profile {} predicts {ours}", profile.name);
        return Err(Unpredicted(why));
    }
    // Repetitions on another set-up of a rig have its name with a suffix.
    let rig = profile.rigs.iter().find(|(name, _)| cell.kernel.starts_with(name.as_str()));
    let own = cell.kernel.strip_suffix("micro").unwrap_or(&cell.kernel).trim_end_matches('-');
    if rig.is_none() && own != profile.kernel {
        let (kernel, name) = (&cell.kernel, &profile.name);
        return Err(Unpredicted(format!("kernel {kernel}: profile {name} was not fitted on it")));
    }
    Ok(rig.map(|(_, c)| c.value))
}

/// The packet in the middle.
struct Median {
    value: f64,
    work: Work,
    /// Standard error of a sample median.
    spread: f64,
}

impl Median {
    fn of(costs: impl Iterator<Item = (f64, Work)>) -> Self {
        let mut costs: Vec<(f64, Work)> = costs.collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (low, high) = (costs[(costs.len() - 1) / 2], costs[costs.len() / 2]);
        // Between the order statistics that are two standard errors of a sample median away from it lie four: with few
        // endpoints to choose from costs have steps, which one error alone may not reach.
        let step = (costs.len() as f64 / SAMPLE.sqrt()).ceil() as usize;
        let (below, above) = (costs[costs.len() / 2 - step].0, costs[costs.len() / 2 + step].0);
        Median { value: (low.0 + high.0) / 2.0, work: low.1, spread: (above - below) / 4.0 }
    }
}

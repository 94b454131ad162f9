//! The names that scenarios may use, filled in by the caller, so that this crate repeats no table of the models.

use crate::keys::Family;

/// A name and what it means in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name as scenarios write it.
    pub name: String,
    /// One line for lists.
    pub doc: String,
}

/// Every name there is.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Proxy modes that can be simulated.
    pub modes: Vec<Named>,
    /// Proxy modes that only have rules to print.
    pub rules_only: Vec<Named>,
    /// IPVS schedulers.
    pub schedulers: Vec<Named>,
    /// Cost profiles.
    pub profiles: Vec<Named>,
    /// Figures of a run.
    pub metrics: Vec<Named>,
    /// Units of those: `ns`, `bytes`, `count`, ...; `cost` is the unit of the profile.
    pub metric_units: Vec<(String, String)>,
    /// Distributions of a run.
    pub distributions: Vec<Named>,
    /// Figures over time.
    pub series: Vec<Named>,
    /// First and last minor version of Kubernetes that is modelled.
    pub kubernetes_minors: (u32, u32),
    /// Modes that came later than the first of these versions; the others are in all of them.
    pub mode_history: Vec<ModeHistory>,
}

/// Since when there is a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeHistory {
    /// Name of the mode.
    pub mode: String,
    /// First minor version of Kubernetes that has it.
    pub first_minor: u32,
    /// The same in words, for example "alpha in 1.29, stable in 1.33".
    pub told: String,
}

impl Named {
    /// From (name, line) pairs.
    pub fn list(pairs: &[(&str, &str)]) -> Vec<Named> {
        pairs.iter().map(|(name, doc)| Named { name: (*name).to_owned(), doc: (*doc).to_owned() }).collect()
    }
}

impl Known {
    /// The names of one family.
    pub fn names(&self, family: Family) -> Vec<&Named> {
        match family {
            Family::Mode => self.modes.iter().collect(),
            Family::Scheduler => self.schedulers.iter().collect(),
            Family::Profile => self.profiles.iter().collect(),
            Family::Metric => self.metrics.iter().collect(),
            Family::Figure => self.metrics.iter().chain(&self.distributions).chain(&self.series).collect(),
        }
    }
}

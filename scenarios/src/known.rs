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
    /// Proxy modes.
    pub modes: Vec<Named>,
    /// IPVS schedulers.
    pub schedulers: Vec<Named>,
    /// Cost profiles.
    pub profiles: Vec<Named>,
    /// Figures of a run.
    pub metrics: Vec<Named>,
    /// First and last minor version of Kubernetes that is modelled.
    pub kubernetes_minors: (u32, u32),
}

impl Named {
    /// From (name, line) pairs.
    pub fn list(pairs: &[(&str, &str)]) -> Vec<Named> {
        pairs.iter().map(|(name, doc)| Named { name: (*name).to_owned(), doc: (*doc).to_owned() }).collect()
    }
}

impl Known {
    /// The names of one family.
    pub fn names(&self, family: Family) -> &[Named] {
        match family {
            Family::Mode => &self.modes,
            Family::Scheduler => &self.schedulers,
            Family::Profile => &self.profiles,
            Family::Metric => &self.metrics,
        }
    }
}

//! Functions of the models that this command calls, until they are there: `kube::import::import_with`,
//! `kube::arrival::arrivals`, and `ProxyMode::inputs` of states with their times. Whoever has them calls them where
//! this module is used (`objects.rs`, `print.rs`, `sync.rs`) and deletes it.

use sim_core::classify::Family;
use sim_core::units::SimTime;
use sim_models::config::ProxyConfig;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::{ImportError, import};
use sim_models::kube::objects::Objects;
use sim_models::proxy::ProxyMode;
use sim_models::proxy::input::ToolInput;

/// How an import goes about faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave a broken object out, whole, and go on with the others.
    #[allow(dead_code, reason = "what it asks for is not there yet")]
    pub keep_going: bool,
}

/// What an import found.
pub struct Imported {
    /// The objects that are right.
    pub objects: Objects,
    /// What is wrong with those that were left out.
    pub errors: Vec<ImportError>,
    /// What was decided where the input leaves it open.
    pub notes: Vec<String>,
}

/// Reads a cluster's objects; going on past faults is what is not there yet.
pub fn import_with(text: &str, _options: Options) -> Result<Imported, Vec<ImportError>> {
    Ok(Imported { objects: import(text)?, errors: Vec::new(), notes: Vec::new() })
}

/// The states that a proxy sees between two states of a cluster: Services arrive before their slices.
pub fn arrivals(old: &Objects, new: &Objects) -> Vec<Objects> {
    let services_first = Objects { slices: old.slices.clone(), ..new.clone() };
    let mut states = Vec::with_capacity(2);
    if services_first != *old {
        states.push(services_first);
    }
    if old.slices != new.slices {
        states.push(new.clone());
    }
    states
}

/// What kube-proxy writes at syncs that begin at these times; the times are what is not there yet.
pub fn inputs(
    mode: &dyn ProxyMode,
    states: &[(SimTime, ProxyObjects)],
    config: &ProxyConfig,
    family: Family,
) -> Option<Vec<Vec<ToolInput>>> {
    let states: Vec<ProxyObjects> = states.iter().map(|(_, objects)| objects.clone()).collect();
    mode.inputs(&states, config, family)
}

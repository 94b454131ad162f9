//! What the work of a packet costs, by profile and by what the caches hold.

use super::node::Subject;
use crate::exit::Failure;
use scenarios::diagnostic::did_you_mean;
use serde::Serialize;
use sim_models::config::CacheState;
use sim_models::kernel::cost::{CostProfile, Locality, PROFILES};
use sim_models::kernel::explore::{Exploration, ONE};
use sim_models::kernel::path::Crossing;

/// The cost of one packet under one profile.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The profile.
    pub profile: String,
    /// What it counts in: `ns` or `instr`.
    pub unit: String,
    /// With every line in the first-level cache, as for a packet of the same kind just before.
    pub hot: f64,
    /// With other work on the core between: lines come from the shared cache. `None` if the profile has no caches.
    pub shared: Option<f64>,
    /// With every line from memory.
    pub cold: Option<f64>,
    /// `hot`, averaged over all that can become of the packet.
    pub mean_hot: f64,
    /// The number of Services lies outside the range that the profile was calibrated in.
    pub extrapolated: bool,
}

/// Costs by every profile, or by those named.
pub fn costs(
    wanted: &[String],
    subject: &Subject,
    crossing: &Crossing,
    exploration: &Exploration,
) -> Result<Vec<Cost>, Failure> {
    let names: Vec<&str> = match wanted {
        [] => PROFILES.iter().map(|(name, _)| *name).collect(),
        named => named.iter().map(String::as_str).collect(),
    };
    names.into_iter().map(|name| cost(name, subject, crossing, exploration)).collect()
}

fn cost(
    name: &str,
    subject: &Subject,
    crossing: &Crossing,
    exploration: &Exploration,
) -> Result<Cost, Failure> {
    let profile = CostProfile::named(name).ok_or_else(|| {
        let names = PROFILES.iter().map(|(name, _)| *name);
        let mut text = format!("error: there is no cost profile `{name}`\n");
        if let Some(near) = did_you_mean(name, names.clone()) {
            text.push_str(&format!("  = did you mean `{near}`?\n"));
        }
        Failure::Input(text + &format!("  = allowed: {}\n", names.collect::<Vec<_>>().join(", ")))
    })?;
    let at = |state, crossing: &Crossing| {
        let residency = profile.residency(&Locality::repeated(state));
        profile.cost(&crossing.work, &residency, crossing.first)
    };
    let (hot, shared, cold) =
        (at(CacheState::Hot, crossing), at(CacheState::Shared, crossing), at(CacheState::Cold, crossing));
    let all: f64 =
        exploration.branches.iter().map(|b| at(CacheState::Hot, &b.crossing) * weight(b.weight)).sum();
    let followed: f64 = exploration.branches.iter().map(|b| weight(b.weight)).sum();
    let services = subject.cluster.as_ref().map(|cluster| cluster.resolved.ports.len() as f64);
    let range = profile.calibrated.get("services");
    let extrapolated = services.zip(range).is_some_and(|(n, (low, high))| n < *low || n > *high);
    // A profile without caches has one figure.
    let has_caches = cold != hot;
    Ok(Cost {
        profile: profile.name,
        unit: profile.unit,
        hot,
        shared: has_caches.then_some(shared),
        cold: has_caches.then_some(cold),
        mean_hot: all / followed,
        extrapolated,
    })
}

fn weight(weight: u128) -> f64 {
    weight as f64 / ONE as f64
}

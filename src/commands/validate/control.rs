//! Cells of the control plane: tools that load, change and list rules, whole syncs of kube-proxy, and its memory.

use super::Found;
use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{ControlCell, Measurement, Unpredicted};

/// Counts the work of the cell and prices it.
///
/// # Errors
/// If the model has no figure for the cell, or the profile no price.
pub(super) fn predict(measurement: &Measurement, profile: &CostProfile) -> Result<Found, Unpredicted> {
    if measurement.value == 0.0 {
        return Err(Unpredicted("measured as zero: no error can be told as a share of it".to_owned()));
    }
    let cell = ControlCell::of(&measurement.cell)?;
    let value = cell.predict(measurement, profile)?;
    let counted = cell.work.units().into_iter().filter(|(.., n)| *n > 0);
    let work: Vec<String> = counted.map(|(name, _, n)| format!("{name}={n}")).collect();
    Ok(Found { value, sampling_error: 0.0, by_chance: None, work: work.join(" ") })
}

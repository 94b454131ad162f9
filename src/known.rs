//! The names that scenarios may use, gathered from the tables of the models.

use reports::metrics::{DISTRIBUTIONS, KNOWN, SERIES};
use scenarios::known::{Known, ModeHistory, Named};
use sim_models::kernel::cost::{MACHINES, PROFILES};
use sim_models::kernel::ipvs::scheduler::SCHEDULERS;
use sim_models::proxy::{MODES, ProxyMode, simulated};

/// First and last minor version of Kubernetes that is modelled: from the only one with nothing but userspace mode. What
/// older versions are modelled by is said in `proxy/iptables`, `proxy/nftables` and `proxy/userspace`.
pub const KUBERNETES_MINORS: (u32, u32) = (0, 36);

/// Every mode, scheduler, profile and metric there is.
pub fn known() -> Known {
    let named = |name: &str, doc: &str| Named { name: name.to_owned(), doc: doc.to_owned() };
    Known {
        modes: simulated().map(|m| named(m.name(), m.describe())).collect(),
        rules_only: rules_only().map(|m| named(m.name(), m.describe())).collect(),
        schedulers: SCHEDULERS.iter().map(|(name, doc, _)| named(name, doc)).collect(),
        profiles: PROFILES.iter().chain(MACHINES).map(|(name, _)| named(name, &profile_line(name))).collect(),
        metrics: KNOWN.iter().map(|m| named(m.name, m.description)).collect(),
        metric_units: KNOWN.iter().map(|m| (m.name.to_owned(), m.unit.to_owned())).collect(),
        distributions: DISTRIBUTIONS.iter().map(|d| named(d.name, d.description)).collect(),
        series: SERIES.iter().map(|s| named(s.name, s.description)).collect(),
        kubernetes_minors: KUBERNETES_MINORS,
        mode_history: MODES
            .iter()
            .map(|m| ModeHistory {
                mode: m.name().to_owned(),
                first_minor: m.versions().0,
                told: m.history().to_owned(),
            })
            .collect(),
    }
}

fn rules_only() -> impl Iterator<Item = &'static dyn ProxyMode> {
    MODES.iter().copied().filter(|mode| mode.simulated().is_none())
}

fn profile_line(name: &str) -> String {
    let profile = sim_models::kernel::cost::CostProfile::named(name).expect("a name of the table");
    format!("{}: {}", profile.unit, profile.description)
}

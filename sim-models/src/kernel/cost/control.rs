//! Prices of control-plane work in a profile: whole syncs, tools that run alone, memory; and profiles that say only how
//! they differ from another.
//!
//! `[sync.*]` and `[tool.*]` price the units of [`SyncWork`](crate::proxy::sync::SyncWork) in thousands of the
//! profile's unit (microseconds, thousands of instructions), `[memory.*]` those of
//! [`memory`](crate::proxy::sync::memory) in KiB. A profile with `base = "NAME"` has everything of that one, what it names
//! itself in its place, and whole sections scaled by `[factor.SECTION]`.
//!
//! Left out: a base that has a base itself.

use super::{Constant, ProfileError};
use crate::proxy::sync::SyncWork;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Prices of one section by name.
type Prices = BTreeMap<String, Constant>;

/// The three sections.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    pub sync: Prices,
    pub tool: Prices,
    pub memory: Prices,
}

impl Control {
    /// Every constant with its name.
    pub fn constants(&self) -> impl Iterator<Item = (String, Constant)> {
        let sections = [("sync", &self.sync), ("tool", &self.tool), ("memory", &self.memory)];
        sections
            .into_iter()
            .flat_map(|(section, prices)| prices.iter().map(move |(n, c)| (format!("{section}.{n}"), c.clone())))
    }

    /// Complains of names that are no unit.
    pub fn check(&self) -> Result<(), ProfileError> {
        for (section, prices) in [("sync", &self.sync), ("tool", &self.tool)] {
            if let Some(name) = prices.keys().find(|name| !SyncWork::NAMES.contains(&name.as_str())) {
                return Err(ProfileError::UnknownUnit(format!("{section}.{name}")));
            }
        }
        Ok(())
    }
}

/// The text of a profile with what its base has, if it names one; `named` finds the text of a base.
pub(super) fn with_base<'a>(
    text: &str,
    named: impl Fn(&str) -> Option<&'a str>,
) -> Result<toml::Table, ProfileError> {
    let syntax = |e: toml::de::Error| ProfileError::Syntax(e.to_string());
    let mut own: toml::Table = toml::from_str(text).map_err(syntax)?;
    let factors = own.remove("factor");
    let mut whole = match own.remove("base") {
        None => own,
        Some(base) => {
            let name = base.as_str().unwrap_or_default();
            let base = named(name).ok_or_else(|| ProfileError::Syntax(format!("no base profile {base}")))?;
            overlay(toml::from_str(base).map_err(syntax)?, own)
        }
    };
    if let Some(factors) = factors {
        let factors: BTreeMap<String, Constant> =
            Deserialize::deserialize(factors).map_err(|e| ProfileError::Syntax(e.to_string()))?;
        for (section, factor) in &factors {
            scale(&mut whole, section, factor)?;
        }
    }
    Ok(whole)
}

/// Keys of `own` in place of those of `base`; of sections, name by name.
fn overlay(mut base: toml::Table, own: toml::Table) -> toml::Table {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(section)), toml::Value::Table(named)) => section.extend(named),
            (_, value) => drop(base.insert(key, value)),
        }
    }
    base
}

/// Multiplies the values and errors of a section.
fn scale(whole: &mut toml::Table, section: &str, factor: &Constant) -> Result<(), ProfileError> {
    let prices = whole.get_mut(section).and_then(toml::Value::as_table_mut);
    let prices = prices.ok_or_else(|| ProfileError::Syntax(format!("factor.{section}: no such section")))?;
    for constant in prices.iter_mut().filter_map(|(_, v)| v.as_table_mut()) {
        for field in ["value", "error"] {
            let number = constant.get(field).and_then(|v| v.as_float().or(v.as_integer().map(|n| n as f64)));
            if let Some(number) = number {
                constant.insert(field.to_owned(), toml::Value::Float(number * factor.value));
            }
        }
        if let Some(toml::Value::String(source)) = constant.get_mut("source") {
            *source = format!("{source}; times {} ({})", factor.value, factor.source);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = \"b\"\n[sync.execs]\nvalue = 2.0\nerror = 1.0\nsource = \"x\"\n\
        [sync.syncs]\nvalue = 5.0\nerror = 0.0\nsource = \"y\"\n";

    #[test]
    fn a_profile_on_a_base_has_all_of_it_but_what_it_names_and_scales() {
        let text = "base = \"b\"\nname = \"c\"\n[sync.syncs]\nvalue = 7.0\nerror = 0.0\nsource = \"z\"\n\
            [factor.sync]\nvalue = 3.0\nerror = 0.0\nsource = \"slower\"\n";
        let whole = with_base(text, |name| (name == "b").then_some(BASE)).unwrap();
        let value = |name: &str| whole["sync"][name]["value"].as_float().unwrap();
        assert_eq!((value("execs"), value("syncs")), (6.0, 21.0));
        assert_eq!(whole["name"].as_str(), Some("c"));
        assert_eq!(whole["sync"]["execs"]["source"].as_str(), Some("x; times 3 (slower)"));
    }

    #[test]
    fn a_base_that_is_not_there_is_an_error() {
        let found = with_base("base = \"nothing\"", |_| None).unwrap_err();
        assert_eq!(found, ProfileError::Syntax("no base profile \"nothing\"".to_owned()));
    }
}

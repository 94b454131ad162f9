//! How the ipsets found on a node differ from those that are wanted: by name and element, in no order.
//!
//! Not looked at: sets that are not wanted, since kube-proxy always has all of its own and the others are other
//! programs' or the other family's; the size of hash tables, which grows; how the elements are ordered.

use super::{IpSet, SetKind, print};
use crate::kernel::dump::Difference;
use std::collections::{BTreeMap, BTreeSet};

/// What differs, in the order of `wanted`.
pub fn diff(wanted: &[IpSet], found: &[IpSet]) -> Vec<Difference> {
    let by_name: BTreeMap<&str, &IpSet> = found.iter().map(|set| (&*set.name, set)).collect();
    let mut out = Vec::new();
    for set in wanted {
        let place = format!("ipset {}", set.name);
        let Some(there) = by_name.get(&*set.name) else {
            let mut text = print::create(set);
            for element in &set.elements {
                text.push_str(&format!("\nadd {} {element}", set.name));
            }
            out.push(Difference { place, wanted: Some(text), found: None });
            continue;
        };
        let bitmap = set.kind == SetKind::BitmapPort && there.kind == SetKind::BitmapPort;
        let same = set.kind == there.kind
            && (bitmap || (set.family == there.family && set.maxelem == there.maxelem));
        if !same {
            let [wanted, found] = [set, *there].map(|set| Some(print::create(set)));
            out.push(Difference { place: place.clone(), wanted, found });
        }
        let [want, have] = [set, *there].map(|set| set.elements.iter().collect::<BTreeSet<_>>());
        let line = |element: &_| Some(format!("add {} {element}", set.name));
        for element in want.difference(&have) {
            out.push(Difference { place: place.clone(), wanted: line(element), found: None });
        }
        for element in have.difference(&want) {
            out.push(Difference { place: place.clone(), wanted: None, found: line(element) });
        }
    }
    out
}

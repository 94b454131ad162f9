//! `cluster.endpoints`: one number, named shares of Services with their numbers, or ClusterLoader2's load test, whose
//! Services follow from the nodes.

use crate::keys::Key;
use crate::refusal::Refusal;
use crate::tree::{Node, Value};
use sim_models::config::EndpointLaw;
use sim_models::kube::cluster_loader;

/// Most endpoints of one Service.
const PER_SERVICE_MAX: i128 = 50_000;

/// Reads the law.
pub fn law(key: &Key, node: &Node) -> Result<EndpointLaw, Refusal> {
    match &node.value {
        Value::Integer(n) => Ok(EndpointLaw::Fixed(count(*n)?)),
        Value::Text(word) if word == "clusterloader2" => Ok(EndpointLaw::ClusterLoader2),
        Value::Table(table) if table.entries.is_empty() => Err(Refusal::kind(key, node)),
        Value::Table(table) => {
            let mut mix = Vec::new();
            for entry in &table.entries {
                let pair = match &entry.node.value {
                    Value::Array(items) if items.len() == 2 => {
                        let share = match items[1].value {
                            Value::Float(x) => Some(x),
                            Value::Integer(n) => Some(n as f64),
                            _ => None,
                        };
                        match (&items[0].value, share) {
                            (Value::Integer(n), Some(share)) => Some((*n, share)),
                            _ => None,
                        }
                    }
                    _ => None,
                };
                let Some((n, share)) = pair else {
                    let message = format!("`{}` must be [endpoints, share], such as [5, 0.75]", entry.key);
                    return Err(Refusal::new(message)
                        .at(entry.node.at)
                        .label(format!("this is {}", entry.node.value.kind())));
                };
                let endpoints = count(n).map_err(|r| r.at(entry.node.at))?;
                if !(share > 0.0 && share <= 1.0) {
                    let message = format!("the share of `{}` must be above 0 and at most 1", entry.key);
                    return Err(Refusal::new(message).at(entry.node.at));
                }
                mix.push((entry.key.clone(), endpoints, share));
            }
            let sum: f64 = mix.iter().map(|(_, _, share)| share).sum();
            if (sum - 1.0).abs() > 1e-6 {
                let given: Vec<String> =
                    mix.iter().map(|(name, _, share)| format!("{name} {share}")).collect();
                return Err(Refusal::new(format!("the shares add up to {sum}, not to 1"))
                    .help(format!("given: {}", given.join(", "))));
            }
            Ok(EndpointLaw::Mix(mix))
        }
        _ => Err(Refusal::kind(key, node)),
    }
}

fn count(n: i128) -> Result<u32, Refusal> {
    if (0..=PER_SERVICE_MAX).contains(&n) {
        return Ok(u32::try_from(n).expect("within the limit"));
    }
    Err(Refusal::new(format!("`endpoints` must be from 0 to {PER_SERVICE_MAX}"))
        .help("reason: larger Services are split by hand in real clusters".to_owned()))
}

/// Services of a cluster of so many nodes whose scenario says `written`.
pub fn services(law: &EndpointLaw, written: u64, nodes: u64) -> u64 {
    match law {
        EndpointLaw::ClusterLoader2 => {
            load_test(nodes).iter().map(|(services, _)| u64::from(*services)).sum()
        }
        _ => written,
    }
}

/// Upper estimate of the endpoints of `services` Services on `nodes` nodes, for limits.
pub fn total(law: &EndpointLaw, services: u64, nodes: u64) -> u64 {
    match law {
        EndpointLaw::Fixed(n) => services * u64::from(*n),
        EndpointLaw::Mix(mix) => {
            let mean: f64 = mix.iter().map(|(_, n, share)| f64::from(*n) * share).sum();
            (mean * services as f64).ceil() as u64
        }
        EndpointLaw::ClusterLoader2 => {
            load_test(nodes).iter().map(|(s, n)| u64::from(*s) * u64::from(*n)).sum()
        }
    }
}

fn load_test(nodes: u64) -> [(u32, u32); 3] {
    cluster_loader::services(u32::try_from(nodes).unwrap_or(u32::MAX))
}

//! `v1 Endpoints` as the EndpointSlices that they stand for.
//!
//! Source: `pkg/controller/endpointslicemirroring` of Kubernetes 1.36. The controller mirrors the Endpoints of
//! Services without a selector; kube-proxy reads nothing but slices. So Endpoints count here
//!
//! - where the controller would mirror them and the input does not have the result: a Service without selector and
//!   without slices;
//! - where the input has no slices at all (`kubectl get services,endpoints`): then the Endpoints of every Service stand
//!   in for the slices that were not asked for, `kubernetes` among them.
//!
//! Left out: which of more than a thousand addresses are kept is chance in the controller; here it is the first.

use crate::kube::objects::{EndpointSlice, Service, SliceEndpoint, SlicePort};
use sim_core::classify::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// `--mirroring-max-endpoints-per-subset` of the controller manager.
const MAX_ENDPOINTS: usize = 1000;

/// Names that a note lists.
const MAX_NAMES: usize = 5;

/// Checked Endpoints, for which it is not yet known whether they count.
pub(super) struct Pending {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub revision: u64,
    /// Label `skip-mirror`, or the annotation of an old leader election.
    pub not_for_mirroring: bool,
    /// Of a headless Service: its slices do not reach kube-proxy.
    pub headless: bool,
    pub subsets: Vec<Subset>,
}

/// Addresses, the ready ones first, and the ports that they all have.
pub(super) struct Subset {
    pub addresses: Vec<SliceEndpoint>,
    pub ports: Vec<SlicePort>,
}

/// Namespace and name.
type Name = (Arc<str>, Arc<str>);

/// Endpoints, and what decides whether they count.
#[derive(Default)]
pub(super) struct Mirror {
    pub pending: Vec<Pending>,
    /// Services with a selector.
    selecting: BTreeSet<Name>,
    /// Services with a slice.
    sliced: BTreeSet<Name>,
    /// Whether there is any slice.
    any_slice: bool,
}

impl Mirror {
    /// A Service has a selector.
    pub(super) fn selects(&mut self, service: &Service) {
        self.selecting.insert((service.namespace.clone(), service.name.clone()));
    }

    /// There is a slice of this Service, or of none.
    pub(super) fn has_slice(&mut self, namespace: &Arc<str>, service: Option<&Arc<str>>) {
        self.any_slice = true;
        self.sliced.extend(service.map(|service| (namespace.clone(), service.clone())));
    }

    /// The slices that the Endpoints of these Services stand for, and what is to be told about it.
    pub(super) fn finish(self, services: &[Service]) -> (Vec<EndpointSlice>, Vec<String>) {
        let Mirror { pending, selecting, sliced, any_slice } = self;
        if pending.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let services: BTreeSet<(&str, &str)> =
            services.iter().map(|service| (&*service.namespace, &*service.name)).collect();
        let (mut mirrored, mut stand_in, mut unused) = (Told::default(), Told::default(), Told::default());
        let mut slices = Vec::new();
        for endpoints in pending {
            let name = (endpoints.namespace.clone(), endpoints.name.clone());
            if endpoints.headless || sliced.contains(&name) || !services.contains(&(&*name.0, &*name.1)) {
                continue;
            }
            if !endpoints.not_for_mirroring && !selecting.contains(&name) {
                mirrored.add(&name);
            } else if !any_slice {
                stand_in.add(&name);
            } else {
                unused.add(&name);
                continue;
            }
            slices.extend(slices_of(endpoints));
        }
        let notes = [
            mirrored.note("mirrored into EndpointSlices, as the mirroring controller does"),
            stand_in.note("taken for EndpointSlices, of which there are none among the objects: kube-proxy reads only those"),
            unused.note("not used: kube-proxy reads only EndpointSlices, and the objects have none of these Services"),
        ];
        (slices, notes.into_iter().flatten().collect())
    }
}

/// Names for a note.
#[derive(Default)]
struct Told {
    count: usize,
    first: Vec<String>,
}

impl Told {
    fn add(&mut self, (namespace, name): &Name) {
        self.count += 1;
        if self.first.len() < MAX_NAMES {
            self.first.push(format!("{namespace}/{name}"));
        }
    }

    fn note(self, what: &str) -> Option<String> {
        let more = self.count - self.first.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (self.count > 0).then(|| format!("Endpoints {}{more} were {what}", self.first.join(", ")))
    }
}

/// One slice for each family and set of ports (`reconciler.go:reconcile`, `utils.go:addressToEndpoint`).
fn slices_of(endpoints: Pending) -> Vec<EndpointSlice> {
    type Key = (bool, Vec<(Arc<str>, u8, u16)>);
    let mut slices: Vec<(EndpointSlice, BTreeMap<IpAddr, usize>)> = Vec::new();
    let mut by_key: BTreeMap<Key, usize> = BTreeMap::new();
    for subset in endpoints.subsets {
        let mut ports: Vec<_> =
            subset.ports.iter().map(|port| (port.name.clone(), port.proto.number(), port.port)).collect();
        ports.sort_unstable();
        for endpoint in subset.addresses.into_iter().take(MAX_ENDPOINTS) {
            let family = Family::of(endpoint.address);
            let at = *by_key.entry((family == Family::Ipv6, ports.clone())).or_insert(slices.len());
            if at == slices.len() {
                let slice = EndpointSlice {
                    namespace: endpoints.namespace.clone(),
                    name: format!("{}-mirrored-{at}", endpoints.name).into(),
                    service: Some(endpoints.name.clone()),
                    family,
                    endpoints: Vec::new(),
                    ports: subset.ports.clone(),
                    revision: endpoints.revision,
                };
                slices.push((slice, BTreeMap::new()));
            }
            let (slice, known) = &mut slices[at];
            // The same address again replaces what was said of it before.
            match known.get(&endpoint.address) {
                Some(&before) => slice.endpoints[before] = endpoint,
                None if slice.endpoints.len() < MAX_ENDPOINTS => {
                    known.insert(endpoint.address, slice.endpoints.len());
                    slice.endpoints.push(endpoint);
                }
                None => {}
            }
        }
    }
    slices.into_iter().map(|(slice, _)| slice).collect()
}

//! First packets through IPVS alone, and the plain map that they are measured against.

use sim_core::classify::{Packet, Proto, Work};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use sim_models::kernel::hook::KernelRandom;
use sim_models::kernel::ipvs::tcp_state::Timeouts;
use sim_models::kernel::ipvs::{
    IpvsConfig, IpvsState, IpvsVerdict, RealServer, SchedulerFlags, Services, Tables, VirtualServer,
};
use std::net::{IpAddr, SocketAddr};

/// Milliseconds between two packets. A half-open connection lasts a minute, so there are 3,000 at any time, and each
/// packet pays for the end of one.
const MS_BETWEEN: u64 = 20;

/// Address, port and protocol number of a service.
type Key = (u32, u16, u8);

fn address(service: u32) -> u32 {
    // Spread over the service network, so that neither table has it easier than random addresses.
    0x0a60_0000 | (service.wrapping_mul(0x9e37_79b1) & 0x000f_ffff)
}

/// A node with virtual servers of three real servers each, and its connections.
pub struct Balancer {
    services: Services,
    state: IpvsState,
    random: KernelRandom,
    flows: u64,
}

impl Balancer {
    /// A node in a kernel with fixed or resizable tables, that has seen one packet to every service.
    pub fn new(resizable: bool, scheduler: &str, services: u32) -> Self {
        let real = |service: u32, n: u32| {
            let addr = IpAddr::from((0x0af4_0000 + service * 3 + n).to_be_bytes());
            RealServer::new(SocketAddr::new(addr, 8080))
        };
        let servers: Vec<VirtualServer> = (0..services)
            .map(|service| VirtualServer {
                addr: IpAddr::from(address(service).to_be_bytes()),
                port: 80,
                proto: Proto::Tcp,
                scheduler: scheduler.into(),
                flags: SchedulerFlags::default(),
                persistence_seconds: None,
                persistence_prefix: None,
                real: (0..3).map(|n| real(service, n)).collect(),
            })
            .collect();
        let tables = if resizable { Tables::RESIZABLE } else { Tables::Fixed };
        let services = Services::of_kernel(tables, Timeouts::default(), 1, &servers);
        let random = KernelRandom::new(Stream::new(1, "bench", "kernel"));
        let services = services.expect("servers as kube-proxy makes them");
        let state = IpvsState::new(IpvsConfig::default(), 1);
        let mut balancer = Balancer { services, state, random, flows: 0 };
        let all = balancer.services.iter().count() as u32;
        (0..all).for_each(|place| {
            balancer.first_packet(place);
        });
        balancer
    }

    fn now(&self) -> SimTime {
        SimTime::ZERO + SimSpan::from_ms(self.flows * MS_BETWEEN)
    }

    /// The first packet of a new connection to the service at `place`; returns its work.
    ///
    /// # Panics
    /// If it is not translated.
    pub fn first_packet(&mut self, place: u32) -> Work {
        self.flows += 1;
        let client = IpAddr::from((0x0af8_0000 + (self.flows as u32 >> 14)).to_be_bytes());
        let port = 1_024 + (self.flows & 0x3fff) as u16;
        let packet = Packet::tcp_syn(client, port, IpAddr::from(address(place).to_be_bytes()), 80);
        let mut work = Work::new();
        let now = self.now();
        let verdict = self.state.request(&self.services, &packet, now, &mut self.random, &mut work);
        assert!(matches!(verdict, IpvsVerdict::Translate { new: true, .. }), "{verdict:?}");
        work
    }
}

/// A plain map from key to number.
pub struct Plain {
    map: hashbrown::HashTable<(Key, u32)>,
}

fn hash(key: &Key) -> u64 {
    let bits = u64::from(key.0) << 24 | u64::from(key.1) << 8 | u64::from(key.2);
    bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20)
}

impl Plain {
    /// A map of `services` keys.
    pub fn new(services: u32) -> Self {
        let mut map = hashbrown::HashTable::new();
        for service in 0..services {
            let entry = ((address(service), 80, 6), service);
            map.insert_unique(hash(&entry.0), entry, |other| hash(&other.0));
        }
        Plain { map }
    }

    /// The number of the service at `place`.
    pub fn find(&self, place: u32) -> Option<u32> {
        let key = (address(place), 80, 6);
        self.map.find(hash(&key), |entry| entry.0 == key).map(|entry| entry.1)
    }
}

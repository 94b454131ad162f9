//! `ipvsadm -Sn` (which `ipvsadm -R` reads back) and `ipvsadm -Ln`.
//!
//! Departure: `ipvsadm` sorts by address; here services and real servers stand in creation order, which is
//! what the kernel's lists depend on.

use super::{Forwarding, IpvsState, RealServer, SchedulerFlags, Services, VirtualServer};
use sim_core::classify::Proto;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

fn flag_names(server: &VirtualServer) -> Vec<String> {
    let SchedulerFlags { fallback, port } = server.flags;
    // Only sh and mh name their flags; for others ipvsadm prints the numbers.
    let name = |named: &str, number: &str| match &*server.scheduler {
        "sh" | "mh" => format!("{}-{named}", server.scheduler),
        _ => format!("flag-{number}"),
    };
    let all = [(fallback, name("fallback", "1")), (port, name("port", "2"))];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

/// The restorable form: `-A -t 10.96.0.1:80 -s rr` and `-a -t 10.96.0.1:80 -r 10.244.0.5:8080 -m -w 1`.
pub fn save(servers: &[VirtualServer]) -> String {
    let mut out = String::new();
    for server in servers {
        out.push_str(&virtual_server(server));
        out.push('\n');
        for real in &server.real {
            out.push_str(&real_server(server, real));
            out.push('\n');
        }
    }
    out
}

/// `-t 10.96.0.1:80`.
fn service_name(server: &VirtualServer) -> String {
    let kind = match server.proto {
        Proto::Udp => "-u",
        Proto::Sctp => "--sctp-service",
        _ => "-t",
    };
    format!("{kind} {}", SocketAddr::new(server.addr, server.port))
}

/// The line that adds a virtual server, without a line end.
pub(super) fn virtual_server(server: &VirtualServer) -> String {
    let mut out = format!("-A {} -s {}", service_name(server), server.scheduler);
    let flags = flag_names(server);
    if !flags.is_empty() {
        write!(out, " -b {}", flags.join(",")).expect("a string takes all");
    }
    if let Some(seconds) = server.persistence_seconds {
        write!(out, " -p {seconds}").expect("a string takes all");
    }
    if let Some(prefix) = server.persistence_prefix {
        match server.addr {
            // ipvsadm writes the mask of an IPv4 service in full.
            IpAddr::V4(_) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                write!(out, " -M {}", Ipv4Addr::from(mask)).expect("a string takes all");
            }
            IpAddr::V6(_) => write!(out, " -M {prefix}").expect("a string takes all"),
        }
    }
    out
}

/// The line that adds a real server, without a line end.
pub(super) fn real_server(server: &VirtualServer, real: &RealServer) -> String {
    let forwarding = match real.forwarding {
        Forwarding::Masq => "-m",
        Forwarding::Route => "-g",
        Forwarding::Tunnel => "-i",
    };
    format!("-a {} -r {} {forwarding} -w {}", service_name(server), real.addr, real.weight)
}

/// The listing, with the connection counts of `state`.
pub fn list(services: &Services, state: &IpvsState) -> String {
    let mut out = format!("IP Virtual Server version 1.2.1 (size={})\n", state.buckets());
    out.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    out.push_str("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n");
    for server in services.virtual_servers() {
        let at = SocketAddr::new(server.addr, server.port);
        let proto = server.proto.name().to_uppercase();
        write!(out, "{proto:<4} {at} {}", server.scheduler).expect("a string takes all");
        let flags = flag_names(&server);
        if !flags.is_empty() {
            write!(out, " ({})", flags.join(",")).expect("a string takes all");
        }
        if let Some(seconds) = server.persistence_seconds {
            write!(out, " persistent {seconds}").expect("a string takes all");
        }
        out.push('\n');
        for real in &server.real {
            let (active, inactive) = state.connections(&server.key(), real.addr);
            let addr = real.addr.to_string();
            writeln!(out, "  -> {addr:<28} {:<7} {:<6} {active:<10} {inactive:<10}", "Masq", real.weight)
                .expect("a string takes all");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ipvs::IpvsConfig;

    fn server(scheduler: &str, addr: &str, persistence: Option<u32>) -> VirtualServer {
        VirtualServer {
            addr: addr.parse().unwrap(),
            port: 80,
            proto: Proto::Tcp,
            scheduler: scheduler.into(),
            flags: SchedulerFlags { port: scheduler == "mh", fallback: false },
            persistence_seconds: persistence,
            persistence_prefix: None,
            real: vec![RealServer::new("10.80.1.0:8080".parse().unwrap())],
        }
    }

    #[test]
    fn the_saved_form_is_ipvsadms() {
        let servers = [server("rr", "172.20.0.1", Some(10_800)), server("mh", "172.20.0.2", None)];
        let expected = "\
-A -t 172.20.0.1:80 -s rr -p 10800
-a -t 172.20.0.1:80 -r 10.80.1.0:8080 -m -w 1
-A -t 172.20.0.2:80 -s mh -b mh-port
-a -t 172.20.0.2:80 -r 10.80.1.0:8080 -m -w 1
";
        assert_eq!(save(&servers), expected);
    }

    #[test]
    fn the_listing_is_ipvsadms() {
        let services = Services::new(&[server("rr", "172.20.0.1", Some(10_800))]).unwrap();
        let state = IpvsState::new(IpvsConfig::default(), 0);
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.20.0.1:80 rr persistent 10800
  -> 10.80.1.0:8080               Masq    1      0          0         
";
        assert_eq!(list(&services, &state), expected);
    }
}

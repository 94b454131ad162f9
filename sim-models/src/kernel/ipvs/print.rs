//! `ipvsadm -Sn` (which `ipvsadm -R` reads back), `ipvsadm -Ln`, and single commands of `ipvsadm`.
//!
//! Source: `ipvsadm.c:print_service_entry`, `print_title` and `list_all` of ipvsadm 1.31, and its `libipvs.c:
//! ipvs_cmp_services`, `ipvs_cmp_dests`, by which it sorts. Departure: the saved form is not sorted; there services and
//! real servers stand in creation order, which is what the kernel's lists depend on.

use super::{Forwarding, IpvsState, RealServer, SchedulerFlags, ServiceKey, Services, VirtualServer};
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

/// `-t 10.96.0.1:80`.
fn service_name(proto: Proto, addr: IpAddr, port: u16) -> String {
    let option = match proto {
        Proto::Udp => "-u",
        Proto::Sctp => "--sctp-service",
        _ => "-t",
    };
    format!("{option} {}", SocketAddr::new(addr, port))
}

/// One command on a virtual server, `-A`, `-E` or `-D`, as a line for `ipvsadm -R`.
pub fn service_command(command: &str, server: &VirtualServer, out: &mut String) {
    write!(out, "{command} {}", service_name(server.proto, server.addr, server.port))
        .expect("a string takes all");
    if command != "-D" {
        write_options(server, out).expect("a string takes all");
    }
    out.push('\n');
}

/// Scheduler, flags and persistence of a virtual server.
fn write_options(server: &VirtualServer, out: &mut String) -> std::fmt::Result {
    write!(out, " -s {}", server.scheduler)?;
    let flags = flag_names(server);
    if !flags.is_empty() {
        write!(out, " -b {}", flags.join(","))?;
    }
    if let Some(seconds) = server.persistence_seconds {
        write!(out, " -p {seconds}")?;
    }
    match persistence_mask(server) {
        None => Ok(()),
        Some(mask) => write!(out, " -M {mask}"),
    }
}

/// The part of a client's address that persistence goes by, if it is not all of it. ipvsadm writes that of an IPv4
/// service in full.
fn persistence_mask(server: &VirtualServer) -> Option<String> {
    let prefix = server.persistence_prefix?;
    Some(match server.addr {
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from(mask).to_string()
        }
        IpAddr::V6(_) => prefix.to_string(),
    })
}

/// One command on a real server that is reached by masquerading, `-a`, `-e` or `-d`, as a line for `ipvsadm -R`; `-d`
/// needs only the address.
pub fn real_server_command(command: &str, key: &ServiceKey, addr: SocketAddr, weight: u32, out: &mut String) {
    let real = RealServer { weight, ..RealServer::new(addr) };
    write_real_server(command, key, &real, out).expect("a string takes all");
}

fn write_real_server(
    command: &str,
    key: &ServiceKey,
    real: &RealServer,
    out: &mut String,
) -> std::fmt::Result {
    write!(out, "{command} {} -r {}", service_name(key.proto, key.addr, key.port), real.addr)?;
    if command != "-d" {
        let forwarding = match real.forwarding {
            Forwarding::Masq => "-m",
            Forwarding::Route => "-g",
            Forwarding::Tunnel => "-i",
        };
        write!(out, " {forwarding} -w {}", real.weight)?;
        // `ipvsadm -S` leaves thresholds out; `ipvsadm -R` reads them.
        for (option, connections) in [("-x", real.upper), ("-y", real.lower)] {
            if connections > 0 {
                write!(out, " {option} {connections}")?;
            }
        }
    }
    out.write_char('\n')
}

/// The restorable form: `-A -t 10.96.0.1:80 -s rr` and `-a -t 10.96.0.1:80 -r 10.244.0.5:8080 -m -w 1`.
pub fn save(servers: &[VirtualServer]) -> String {
    let mut out = String::new();
    for server in servers {
        service_command("-A", server, &mut out);
        for real in &server.real {
            write_real_server("-a", &server.key(), real, &mut out).expect("a string takes all");
        }
    }
    out
}

/// The line that adds a virtual server, without a line end.
pub(super) fn virtual_server(server: &VirtualServer) -> String {
    let mut line = String::new();
    service_command("-A", server, &mut line);
    line.trim_end().to_owned()
}

/// The line that adds a real server, without a line end.
pub(super) fn real_server(server: &VirtualServer, real: &RealServer) -> String {
    let mut line = String::new();
    write_real_server("-a", &server.key(), real, &mut line).expect("a string takes all");
    line.trim_end().to_owned()
}

/// What the listing calls it (`ipvsadm.c:fwd_name`).
fn forwarding_name(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masq => "Masq",
        Forwarding::Route => "Route",
        Forwarding::Tunnel => "Tunnel",
    }
}

/// The listing of a running node, with the connection counts of `state`.
pub fn list(services: &Services, state: &IpvsState) -> String {
    listing(&services.virtual_servers(), state.buckets(), &|key, addr| state.connections(key, addr))
}

/// The listing, `ipvsadm -Ln`: `buckets` of the connection table, open and expiring connections of each real server.
pub fn listing(
    servers: &[VirtualServer],
    buckets: usize,
    connections: &dyn Fn(&ServiceKey, SocketAddr) -> (u32, u32),
) -> String {
    let mut out = format!("IP Virtual Server version 1.2.1 (size={buckets})\n");
    out.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    out.push_str("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n");
    let mut sorted: Vec<&VirtualServer> = servers.iter().collect();
    sorted.sort_by_key(|server| (server.addr.is_ipv6(), server.proto.number(), server.addr, server.port));
    for server in sorted {
        let at = SocketAddr::new(server.addr, server.port);
        let proto = server.proto.name().to_uppercase();
        write!(out, "{proto:<4} {at} {}", server.scheduler).expect("a string takes all");
        let flags = flag_names(server);
        if !flags.is_empty() {
            write!(out, " ({})", flags.join(",")).expect("a string takes all");
        }
        if let Some(seconds) = server.persistence_seconds {
            write!(out, " persistent {seconds}").expect("a string takes all");
            if let Some(mask) = persistence_mask(server) {
                write!(out, " mask {mask}").expect("a string takes all");
            }
        }
        out.push('\n');
        let mut reals: Vec<_> = server.real.iter().collect();
        reals.sort_by_key(|real| real.addr);
        for real in reals {
            let (active, inactive) = connections(&server.key(), real.addr);
            let addr = real.addr.to_string();
            let (forward, weight) = (forwarding_name(real.forwarding), real.weight);
            writeln!(out, "  -> {addr:<28} {forward:<7} {weight:<6} {active:<10} {inactive:<10}")
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

    #[test]
    fn the_listing_of_the_seed_documents_comes_out_to_the_column() {
        // Their listing of the `kubernetes` Service, whose trailing blanks the document lost.
        let seed = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.1.129:443 rr
  -> 192.168.1.61:6443            Masq    1      1          0
  -> 192.168.1.62:6443            Masq    1      2          0
  -> 192.168.1.63:6443            Masq    1      1          0
";
        let real = |n: u8| RealServer::new(SocketAddr::from(([192, 168, 1, n], 6443)));
        let api = VirtualServer {
            port: 443,
            real: vec![real(63), real(61), real(62)],
            ..server("rr", "192.168.1.129", None)
        };
        let active =
            |_: &ServiceKey, addr: SocketAddr| (if addr.to_string().contains(".62:") { 2 } else { 1 }, 0);
        let text = listing(&[api], 4096, &active);
        let trimmed: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(trimmed, seed);
    }

    #[test]
    fn the_listing_names_what_forwards_and_the_mask_of_persistence() {
        let mut v4 = server("rr", "172.20.0.1", Some(300));
        v4.persistence_prefix = Some(24);
        let at = |n: u8, forwarding| RealServer { forwarding, ..RealServer::new(([10, 0, 0, n], 80).into()) };
        v4.real = vec![at(1, Forwarding::Masq), at(2, Forwarding::Route), at(3, Forwarding::Tunnel)];
        let mut v6 = server("rr", "fd00::1", Some(300));
        (v6.persistence_prefix, v6.real) = (Some(64), vec![]);
        let text = listing(&[v4, v6], 4096, &|_, _| (0, 0));
        let lines: Vec<&str> = text.lines().skip(3).map(str::trim_end).collect();
        let expected = [
            "TCP  172.20.0.1:80 rr persistent 300 mask 255.255.255.0",
            "  -> 10.0.0.1:80                  Masq    1      0          0",
            "  -> 10.0.0.2:80                  Route   1      0          0",
            "  -> 10.0.0.3:80                  Tunnel  1      0          0",
            "TCP  [fd00::1]:80 rr persistent 300 mask 64",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_listing_is_sorted_by_protocol_and_address_and_brackets_ipv6() {
        let at = |proto, addr: &str| VirtualServer { proto, real: vec![], ..server("mh", addr, None) };
        let rows = [
            at(Proto::Sctp, "10.0.0.1"),
            at(Proto::Udp, "10.0.0.1"),
            at(Proto::Tcp, "10.0.0.10"),
            at(Proto::Tcp, "fd00::1"),
            at(Proto::Tcp, "10.0.0.9"),
        ];
        let text = listing(&rows, 4096, &|_, _| (0, 0));
        let expected = [
            "TCP  10.0.0.9:80 mh (mh-port)",
            "TCP  10.0.0.10:80 mh (mh-port)",
            "UDP  10.0.0.1:80 mh (mh-port)",
            "SCTP 10.0.0.1:80 mh (mh-port)",
            "TCP  [fd00::1]:80 mh (mh-port)",
        ];
        assert_eq!(text.lines().skip(3).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn commands_on_servers_are_lines_for_ipvsadm() {
        let server = server("mh", "172.20.0.1", Some(60));
        let mut text = String::new();
        service_command("-E", &server, &mut text);
        real_server_command("-e", &server.key(), server.real[0].addr, 0, &mut text);
        real_server_command("-d", &server.key(), server.real[0].addr, 0, &mut text);
        service_command("-D", &server, &mut text);
        let expected = "\
-E -t 172.20.0.1:80 -s mh -b mh-port -p 60
-e -t 172.20.0.1:80 -r 10.80.1.0:8080 -m -w 0
-d -t 172.20.0.1:80 -r 10.80.1.0:8080
-D -t 172.20.0.1:80
";
        assert_eq!(text, expected);
    }
}

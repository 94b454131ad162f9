//! Reads `ipvsadm -Sn`, which is `ipvsadm --save --numeric`.
//!
//! Source: `ipvsadm.c:print_service_entry` and `parse_options`. Left out: services by firewall mark (`-f`), which
//! kube-proxy does not make, are passed over; options that no field of [`VirtualServer`] holds (`--ops`, `--pe`,
//! the kind of a tunnel) are errors, since leaving them out would make different servers equal.

use super::{Forwarding, RealServer, SchedulerFlags, ServiceKey, VirtualServer};
use crate::kernel::dump::{Fault, ReadError, decimal, in_line};
use sim_core::classify::{Family, Proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Seconds of `-p` without a number (`ipvsadm.h:IPVS_DEFAULT_TIMEOUT`).
const DEFAULT_PERSISTENCE: u32 = 300;

/// Reads a whole save, in which both families may be.
pub fn parse(text: &str) -> Result<Vec<VirtualServer>, ReadError> {
    let mut reader = Reader::default();
    for (line, number) in text.lines().zip(1..) {
        reader.line(number, line)?;
    }
    Ok(reader.finish())
}

/// Reads a save line by line.
#[derive(Debug, Default)]
pub struct Reader {
    servers: Vec<VirtualServer>,
    by_key: BTreeMap<ServiceKey, usize>,
    /// Real servers that are there, to see one that comes twice.
    real: std::collections::BTreeSet<(usize, SocketAddr)>,
}

/// One line's options.
#[derive(Default)]
struct Options<'a> {
    /// `None` inside: by firewall mark.
    service: Option<Option<ServiceKey>>,
    scheduler: Option<&'a str>,
    flags: Option<&'a str>,
    persistence: Option<u32>,
    mask: Option<&'a str>,
    real: Option<SocketAddr>,
    forwarding: Option<Forwarding>,
    weight: Option<u32>,
    thresholds: [Option<u32>; 2],
}

impl Reader {
    /// Reads one line; `number` counts from 1.
    pub fn line(&mut self, number: usize, line: &str) -> Result<(), ReadError> {
        self.one(line).map_err(|fault| in_line(number, line, fault))
    }

    /// All virtual servers in the order of their lines.
    pub fn finish(self) -> Vec<VirtualServer> {
        self.servers
    }

    fn one<'a>(&mut self, line: &'a str) -> Result<(), Fault<'a>> {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => Ok(()),
            Some(word) if word.starts_with('#') => Ok(()),
            Some(word @ "-A") => self.service(word, options(words)?),
            Some(word @ "-a") => self.real_server(word, options(words)?),
            Some(word) => Err((word, format!("{word:?} is no command of a save: -A, -a"))),
        }
    }

    fn service<'a>(&mut self, command: &'a str, given: Options<'a>) -> Result<(), Fault<'a>> {
        let key = given
            .service
            .ok_or((command, "a virtual server needs -t, -u, --sctp-service or -f".to_owned()))?;
        let Some(key) = key else { return Ok(()) };
        if given.real.is_some()
            || given.forwarding.is_some()
            || given.weight.is_some()
            || given.thresholds != [None; 2]
        {
            return Err((command, "-r, -m, -g, -i, -w, -x and -y belong to -a".to_owned()));
        }
        if given.mask.is_some() && given.persistence.is_none() {
            return Err((command, "-M needs -p".to_owned()));
        }
        if self.by_key.insert(key, self.servers.len()).is_some() {
            return Err((command, format!("virtual server {} port {} is there twice", key.addr, key.port)));
        }
        let full: u8 = if key.addr.is_ipv4() { 32 } else { 128 };
        let persistence_prefix = given.mask.map(|mask| prefix(mask, key.addr)).transpose()?;
        self.servers.push(VirtualServer {
            addr: key.addr,
            port: key.port,
            proto: key.proto,
            // `ipvsadm.c:DEF_SCHED`.
            scheduler: given.scheduler.unwrap_or("wlc").into(),
            flags: given.flags.map_or(Ok(SchedulerFlags::default()), scheduler_flags)?,
            persistence_seconds: given.persistence,
            persistence_prefix: persistence_prefix.filter(|prefix| *prefix != full),
            real: Vec::new(),
        });
        Ok(())
    }

    fn real_server<'a>(&mut self, command: &'a str, given: Options<'a>) -> Result<(), Fault<'a>> {
        let key =
            given.service.ok_or((command, "a real server needs -t, -u, --sctp-service or -f".to_owned()))?;
        let Some(key) = key else { return Ok(()) };
        if given.scheduler.is_some()
            || given.flags.is_some()
            || given.persistence.is_some()
            || given.mask.is_some()
        {
            return Err((command, "-s, -b, -p and -M belong to -A".to_owned()));
        }
        let Some(&at) = self.by_key.get(&key) else {
            return Err((
                command,
                format!("virtual server {} port {} was not added above", key.addr, key.port),
            ));
        };
        let addr = given.real.ok_or((command, "a real server needs -r".to_owned()))?;
        if !self.real.insert((at, addr)) {
            return Err((command, format!("real server {addr} is there twice")));
        }
        // `ipvsadm` routes where nothing else is said.
        let forwarding = given.forwarding.unwrap_or(Forwarding::Route);
        let [upper, lower] = given.thresholds.map(|connections| connections.unwrap_or(0));
        if lower > upper {
            return Err((command, format!("the lower threshold {lower} is above the upper one, {upper}")));
        }
        let weight = given.weight.unwrap_or(1);
        self.servers[at].real.push(RealServer { addr, weight, forwarding, upper, lower });
        Ok(())
    }
}

fn options<'a>(words: impl Iterator<Item = &'a str>) -> Result<Options<'a>, Fault<'a>> {
    let mut given = Options::default();
    let mut words = words.peekable();
    while let Some(option) = words.next() {
        // `-p` is the only option whose value may be absent.
        if matches!(option, "-p" | "--persistent") {
            let text = words.next_if(|word| !word.starts_with('-'));
            given.persistence = Some(text.map_or(Ok(DEFAULT_PERSISTENCE), number)?);
            continue;
        }
        let forwarding = match option {
            "-m" | "--masquerading" => Some(Forwarding::Masq),
            "-g" | "--gatewaying" => Some(Forwarding::Route),
            "-i" | "--ipip" => Some(Forwarding::Tunnel),
            _ => None,
        };
        if forwarding.is_some() {
            given.forwarding = forwarding;
            continue;
        }
        let mut value = || words.next().ok_or_else(|| (option, format!("{option} has no value")));
        match option {
            "-t" | "--tcp-service" => given.service = Some(Some(service(value()?, Proto::Tcp)?)),
            "-u" | "--udp-service" => given.service = Some(Some(service(value()?, Proto::Udp)?)),
            "--sctp-service" => given.service = Some(Some(service(value()?, Proto::Sctp)?)),
            "-f" | "--fwmark-service" => {
                number(value()?)?;
                given.service = Some(None);
            }
            "-s" | "--scheduler" => given.scheduler = Some(value()?),
            "-b" | "--sched-flags" => given.flags = Some(value()?),
            "-M" | "--netmask" => given.mask = Some(value()?),
            "-r" | "--real-server" => given.real = Some(socket(value()?)?),
            "-w" | "--weight" => given.weight = Some(number(value()?)?),
            "-x" | "--u-threshold" => given.thresholds[0] = Some(number(value()?)?),
            "-y" | "--l-threshold" => given.thresholds[1] = Some(number(value()?)?),
            // IPv6 services by firewall mark.
            "-6" | "--ipv6" => {}
            _ => {
                let allowed = "-t -u --sctp-service -f -s -b -p -M -r -m -g -i -w -x -y";
                return Err((option, format!("{option:?} is not read; allowed are {allowed}")));
            }
        }
    }
    Ok(given)
}

fn number(text: &str) -> Result<u32, Fault<'_>> {
    decimal(text).ok_or_else(|| (text, format!("{text:?} is no number of 32 bits")))
}

fn socket(text: &str) -> Result<SocketAddr, Fault<'_>> {
    text.parse().map_err(|_| (text, format!("{text:?} is no ADDRESS:PORT, with [] around an IPv6 address")))
}

fn service(text: &str, proto: Proto) -> Result<ServiceKey, Fault<'_>> {
    let at = socket(text)?;
    Ok(ServiceKey { addr: at.ip(), port: at.port(), proto })
}

/// Names and numbers of `ipvsadm.c:parse_sched_flags`.
fn scheduler_flags(list: &str) -> Result<SchedulerFlags, Fault<'_>> {
    let mut flags = SchedulerFlags::default();
    for name in list.split(',') {
        match name {
            "flag-1" | "sh-fallback" | "mh-fallback" => flags.fallback = true,
            "flag-2" | "sh-port" | "mh-port" => flags.port = true,
            _ => {
                let allowed = "flag-1, flag-2, sh-fallback, sh-port, mh-fallback, mh-port";
                return Err((name, format!("{name:?} is no flag of a scheduler: {allowed}")));
            }
        }
    }
    Ok(flags)
}

/// `255.255.255.0` for an IPv4 service, a prefix length for IPv6.
fn prefix(text: &str, addr: IpAddr) -> Result<u8, Fault<'_>> {
    let wrong = || (text, format!("{text:?} is no mask like 255.255.255.0, or 1 to 128 for IPv6"));
    match Family::of(addr) {
        Family::Ipv4 => {
            let bits = u32::from(text.parse::<Ipv4Addr>().map_err(|_| wrong())?);
            let ones = bits.leading_ones();
            (bits.count_ones() == ones).then_some(ones as u8).ok_or_else(wrong)
        }
        Family::Ipv6 => {
            let length = number(text)?;
            u8::try_from(length).ok().filter(|length| (1..=128).contains(length)).ok_or_else(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{print, scheduler};
    use super::*;

    #[test]
    fn every_scheduler_and_option_is_printed_as_it_was() {
        let mut text = String::new();
        for (n, (scheduler, ..)) in scheduler::SCHEDULERS.iter().enumerate() {
            text.push_str(&format!("-A -t 10.96.0.{n}:80 -s {scheduler}\n"));
        }
        text.push_str(
            "\
-A -t 10.97.0.1:80 -s sh -b sh-fallback,sh-port
-a -t 10.97.0.1:80 -r 10.244.0.1:8080 -m -w 0
-a -t 10.97.0.1:80 -r 10.244.0.2:8080 -g -w 1
-a -t 10.97.0.1:80 -r 10.244.0.3:8080 -i -w 65535
-a -t 10.97.0.1:80 -r 10.244.0.4:8080 -m -w 1 -x 100 -y 80
-A -t 10.97.0.2:80 -s mh -b mh-port
-A -t 10.97.0.3:80 -s rr -b flag-1,flag-2
-A -u 10.97.0.4:53 -s rr -p 10800
-A -u 10.97.0.5:53 -s rr -p 10800 -M 255.255.255.0
-A --sctp-service [fd00:97::1]:9 -s wrr -p 300 -M 64
-a --sctp-service [fd00:97::1]:9 -r [fd00:244::1]:9 -m -w 3
",
        );
        assert_eq!(print::save(&parse(&text).unwrap()), text);
    }

    #[test]
    fn defaults_are_ipvsadms_and_services_by_firewall_mark_are_passed_over() {
        let text = "\
# a comment
-A -f 1 -s wlc
-a -f 1 -r 10.0.0.1:0 -g -w 1
-A -p -t 10.96.0.1:80
-a -t 10.96.0.1:80 -r 10.244.0.1:8080
-A -t 10.96.0.2:80 -s rr -p 10 -M 255.255.255.255
";
        let servers = parse(text).unwrap();
        let expected = "\
-A -t 10.96.0.1:80 -s wlc -p 300
-a -t 10.96.0.1:80 -r 10.244.0.1:8080 -g -w 1
-A -t 10.96.0.2:80 -s rr -p 10
";
        assert_eq!(print::save(&servers), expected);
    }

    #[test]
    fn errors_say_where_and_what_is_allowed() {
        let server = "-A -t 10.96.0.1:80 -s rr\n";
        for (text, line, column, part) in [
            ("-D -t 10.96.0.1:80", 1, 1, "-A, -a"),
            ("-A -s rr", 1, 1, "needs -t"),
            ("-A -t 10.96.0.1", 1, 7, "ADDRESS:PORT"),
            ("-A -t fd00::1:80", 1, 7, "[]"),
            ("-A -t", 1, 4, "no value"),
            ("-A -t 10.96.0.1:80 --ops", 1, 20, "allowed are"),
            ("-A -t 10.96.0.1:80 -b x", 1, 23, "sh-fallback"),
            ("-A -t 10.96.0.1:80 -p x", 1, 23, "32 bits"),
            ("-A -t 10.96.0.1:80 -p 5 -M 255.0.255.0", 1, 28, "255.255.255.0"),
            ("-A -t [fd00::1]:80 -p 5 -M 129", 1, 28, "1 to 128"),
            ("-A -t 10.96.0.1:80 -M 255.0.0.0", 1, 1, "-M needs -p"),
            ("-A -t 10.96.0.1:80 -m", 1, 1, "belong to -a"),
            ("-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m", 1, 1, "not added above"),
            (&format!("{server}{server}"), 2, 1, "twice"),
            (&format!("{server}-a -t 10.96.0.1:80 -m"), 2, 1, "needs -r"),
            (&format!("{server}-a -t 10.96.0.1:80 -r 10.0.0.1:80 -s rr"), 2, 1, "belong to -A"),
            (&format!("{server}-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m -x 3 -y 4"), 2, 1, "above the upper"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.message.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_not_simulated_is_refused_by_the_simulated_kernel() {
        use super::super::{ServiceError, Services};
        for text in [
            "-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.0.0.1:80 -i",
            "-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.0.0.1:80 -g",
        ] {
            let refused = Services::new(&parse(text).unwrap());
            assert!(matches!(refused, Err(ServiceError::NotSimulated { .. })), "{refused:?}");
        }
    }
}

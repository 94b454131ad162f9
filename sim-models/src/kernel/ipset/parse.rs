//! Reads `ipset save`.
//!
//! Sets of the kinds in [`SetKind`] are typed; sets of other kinds or with options that are not modelled (timeouts,
//! counters, comments), which other programs on the node make, are kept as lines. `hashsize`, `bucketsize` and
//! `initval` say how the kernel holds a set now, not what it was asked for: they are kept with the line only.
//! Elements come out behind their own set's line, where `ipset save` prints them.
//!
//! Source: `ipset/lib/session.c`, `lib/parse.c`, and the kernel's `ip_set_hash_*.c:*_list`.

use super::{IpSet, SetEntry, SetKind, print};
use crate::kernel::dump::{Fault, ReadError, decimal, in_line};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a save holds beside the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The line that created each set.
    pub creates: Vec<String>,
    /// Lines about sets that are not typed, each with the number of typed sets before it.
    pub others: Vec<(usize, String)>,
}

/// All sets of a save.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Those that are typed.
    pub sets: Vec<IpSet>,
    /// The rest.
    pub notes: Notes,
}

impl Saved {
    /// The text that was read.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let mut others = self.notes.others.iter().peekable();
        for (i, (set, create)) in self.sets.iter().zip(&self.notes.creates).enumerate() {
            while let Some((_, line)) = others.next_if(|(at, _)| *at <= i) {
                out.push_str(line);
                out.push('\n');
            }
            out.push_str(create);
            out.push('\n');
            print::write_elements(set, &mut out);
        }
        for (_, line) in others {
            out.push_str(line);
            out.push('\n');
        }
        out
    }
}

/// Reads a whole save. Takes time linear in the text.
pub fn parse(text: &str) -> Result<Saved, ReadError> {
    let mut reader = Reader::default();
    for (line, number) in text.lines().zip(1..) {
        reader.line(number, line)?;
    }
    Ok(reader.finish())
}

/// Reads a save line by line.
#[derive(Debug, Default)]
pub struct Reader {
    saved: Saved,
    /// Sets by name; `None` for one that is not typed.
    names: BTreeMap<Arc<str>, Option<usize>>,
}

impl Reader {
    /// Reads one line; `number` counts from 1.
    pub fn line(&mut self, number: usize, line: &str) -> Result<(), ReadError> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.one(line).map_err(|fault| in_line(number, line, fault))
    }

    /// All that was read.
    pub fn finish(self) -> Saved {
        self.saved
    }

    fn one<'a>(&mut self, line: &'a str) -> Result<(), Fault<'a>> {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => Ok(()),
            Some(word) if word.starts_with('#') => Ok(()),
            Some("create") => self.create(line, words),
            Some("add") => self.add(line, words),
            Some(word) => Err((word, format!("{word:?} is no command of a save: create, add"))),
        }
    }

    fn create<'a>(
        &mut self,
        line: &'a str,
        mut words: impl Iterator<Item = &'a str>,
    ) -> Result<(), Fault<'a>> {
        let name = words.next().ok_or((&line[line.len()..], "create has no name".to_owned()))?;
        if self.names.contains_key(name) {
            return Err((name, format!("set {name} is there twice")));
        }
        let kind = words.next().ok_or((&line[line.len()..], "create has no type".to_owned()))?;
        let set = match kinds().find(|known| known.name() == kind) {
            Some(kind) => options(name, kind, words)?,
            None => None,
        };
        let at = set.is_some().then_some(self.saved.sets.len());
        match set {
            Some(set) => {
                self.saved.sets.push(set);
                self.saved.notes.creates.push(line.to_owned());
            }
            None => self.saved.notes.others.push((self.saved.sets.len(), line.to_owned())),
        }
        self.names.insert(name.into(), at);
        Ok(())
    }

    fn add<'a>(&mut self, line: &'a str, mut words: impl Iterator<Item = &'a str>) -> Result<(), Fault<'a>> {
        let name = words.next().ok_or((&line[line.len()..], "add has no set".to_owned()))?;
        let Some(&set) = self.names.get(name) else {
            return Err((name, format!("set {name} was not created above")));
        };
        let Some(set) = set else {
            self.saved.notes.others.push((self.saved.sets.len(), line.to_owned()));
            return Ok(());
        };
        let set = &mut self.saved.sets[set];
        let text = words.next().ok_or((&line[line.len()..], "add has no element".to_owned()))?;
        if let Some(more) = words.next() {
            return Err((more, format!("an element of {name} has no options: it was created without any")));
        }
        let entry = element(text, set.kind, set.family);
        set.elements.push(entry.ok_or_else(|| (text, wanted(text, set.kind, set.family)))?);
        Ok(())
    }
}

fn kinds() -> impl Iterator<Item = SetKind> {
    [SetKind::HashIp, SetKind::HashIpPort, SetKind::HashIpPortIp, SetKind::HashIpPortNet, SetKind::BitmapPort]
        .into_iter()
}

/// The options of `create`; `None` if one of them is not modelled.
fn options<'a>(
    name: &'a str,
    kind: SetKind,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Option<IpSet>, Fault<'a>> {
    let mut set = IpSet::new(name, kind, Family::Ipv4);
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or((option, format!("{option} has no value")));
        match (option, kind) {
            ("family", _) => {
                set.family = match value()? {
                    "inet" => Family::Ipv4,
                    "inet6" => Family::Ipv6,
                    other => return Err((other, format!("{other:?} is no family: inet, inet6"))),
                }
            }
            ("range", SetKind::BitmapPort) if value()? == "0-65535" => {}
            ("maxelem", _) => {
                let text = value()?;
                set.maxelem =
                    decimal(text).ok_or_else(|| (text, format!("{text:?} is no number of elements")))?;
            }
            ("hashsize" | "bucketsize" | "initval", _) => {
                value()?;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(set))
}

fn wanted(text: &str, kind: SetKind, family: Family) -> String {
    let family = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let shape = match kind {
        SetKind::HashIp => "ADDRESS",
        SetKind::HashIpPort => "ADDRESS,tcp:PORT",
        SetKind::HashIpPortIp => "ADDRESS,tcp:PORT,ADDRESS",
        SetKind::HashIpPortNet => "ADDRESS,tcp:PORT,NETWORK",
        SetKind::BitmapPort => return format!("{text:?} is no port from 0 to 65535"),
    };
    format!("{text:?} is no element like {shape} with {family} addresses and protocol tcp, udp, sctp or icmp")
}

/// One element, as [`SetEntry`] prints it.
fn element(text: &str, kind: SetKind, family: Family) -> Option<SetEntry> {
    let addr = |text: &str| text.parse::<IpAddr>().ok().filter(|addr| Family::of(*addr) == family);
    if kind == SetKind::BitmapPort {
        return decimal(text).map(SetEntry::Port);
    }
    let mut parts = text.split(',');
    let first = addr(parts.next()?)?;
    if kind == SetKind::HashIp {
        return parts.next().is_none().then_some(SetEntry::Ip(first));
    }
    let (proto, number) = parts.next()?.split_once(':')?;
    let proto = [Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Icmp].into_iter().find(|p| p.name() == proto)?;
    let number = decimal(number)?;
    let third = parts.next();
    if parts.next().is_some() {
        return None;
    }
    match (kind, third) {
        (SetKind::HashIpPort, None) => Some(SetEntry::IpPort(first, proto, number)),
        (SetKind::HashIpPortIp, Some(other)) => Some(SetEntry::IpPortIp(first, proto, number, addr(other)?)),
        (SetKind::HashIpPortNet, Some(net)) => {
            let net = match net.split_once('/') {
                Some((base, prefix)) => IpNet::new(addr(base)?, decimal(prefix)?).ok()?,
                None => IpNet::from(addr(net)?),
            };
            Some(SetEntry::IpPortNet(first, proto, number, net))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_every_kind_are_read_and_others_are_kept_as_lines() {
        let text = "\
create timed hash:ip family inet hashsize 1024 maxelem 65536 timeout 300
add timed 1.2.3.4 timeout 99
create A hash:ip,port family inet hashsize 4096 maxelem 65536 bucketsize 12 initval 0xfb726de9
add A 10.96.0.1,tcp:80
add A 10.96.0.1,sctp:53
create B hash:ip,port,net family inet6 hashsize 1024 maxelem 10
add B 2001:db8::1,udp:53,fd00::/8
add B 2001:db8::1,udp:53,fd01::1
create some bitmap:port range 10-20
add some 11
create C bitmap:port range 0-65535
add C 65535
create D list:set size 8
add D A
";
        let saved = parse(text).unwrap();
        let names: Vec<&str> = saved.sets.iter().map(|set| &*set.name).collect();
        assert_eq!(names, ["A", "B", "C"]);
        assert_eq!((saved.sets[1].family, saved.sets[1].maxelem), (Family::Ipv6, 10));
        assert_eq!(saved.sets[2].elements, [SetEntry::Port(65_535)]);
        assert_eq!(saved.notes.others.len(), 6);
        assert_eq!(saved.print(), text);
    }

    #[test]
    fn errors_say_where_and_what_is_allowed() {
        let set = "create A hash:ip,port family inet\n";
        for (text, line, column, part) in [
            ("flush A", 1, 1, "create, add"),
            ("create", 1, 7, "no name"),
            ("create A", 1, 9, "no type"),
            ("create A hash:ip family inet4", 1, 25, "inet, inet6"),
            ("create A hash:ip maxelem +5", 1, 26, "number of elements"),
            ("create A hash:ip maxelem", 1, 18, "no value"),
            ("add A 1.2.3.4", 1, 5, "not created"),
            (&format!("{set}{set}"), 2, 8, "twice"),
            (&format!("{set}add A"), 2, 6, "no element"),
            (&format!("{set}add A 10.0.0.1"), 2, 7, "ADDRESS,tcp:PORT"),
            (&format!("{set}add A fd00::1,tcp:80"), 2, 7, "IPv4"),
            (&format!("{set}add A 10.0.0.1,tcp:080000"), 2, 7, "ADDRESS,tcp:PORT"),
            (&format!("{set}add A 10.0.0.1,gre:80"), 2, 7, "tcp, udp, sctp"),
            (&format!("{set}add A 10.0.0.1,tcp:80 timeout 5"), 2, 23, "no options"),
            ("create P bitmap:port range 0-65535\nadd P 65536", 2, 7, "0 to 65535"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.message.contains(part), "{text:?}: {error}");
        }
    }
}

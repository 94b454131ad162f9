//! Bytes of rules as Linux 6.18 said of them (`IPT_SO_GET_INFO`, by iptables 1.8.9), less the entry itself.

use super::*;
use crate::kernel::xtables::layout::{entry_bytes, rule_bytes};

/// Text of a rule, bytes over IPv4, bytes over IPv6 where it has a form there.
const MEASURED: &[(&str, u64, u64)] = &[
    ("-j ACCEPT", 40, 40),
    ("-m comment --comment x", 328, 328),
    ("-p tcp -m tcp --dport 5", 88, 88),
    ("-p udp -m udp --dport 5", 88, 88),
    ("-p sctp -m sctp --dport 5", 368, 368),
    ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", 88, 88),
    ("-p tcp -m multiport --dports 80,443", 120, 120),
    ("-m limit --limit 5/min", 112, 112),
    ("-m physdev --physdev-is-in", 144, 144),
    ("-m physdev --physdev-in eth0", 144, 144),
    ("-m iprange --src-range A-A", 144, 144),
    ("-m state --state NEW", 240, 240),
    ("-m state ! --state NEW", 240, 240),
    ("-m conntrack --ctstate NEW", 240, 240),
    ("-m conntrack --ctdir REPLY", 240, 240),
    ("-m connmark --mark 0x1", 88, 88),
    ("-m mark --mark 0x1", 88, 88),
    ("-j CONNMARK --save-mark", 48, 48),
    ("-j MARK --set-xmark 0x1/0xffffffff", 40, 40),
    ("-j NOTRACK", 104, 104),
    ("-j CT --notrack", 104, 104),
    ("-p icmp -m icmp --icmp-type 8", 80, 0),
    ("-p ipv6-icmp -m icmp6 --icmpv6-type 8", 0, 80),
    ("-j REJECT", 40, 40),
    ("-p tcp -j REJECT --reject-with tcp-reset", 40, 40),
    ("-j LOG", 64, 64),
    ("-j NFLOG", 112, 112),
    ("-m recent --set --name A", 304, 304),
    ("-m recent --rcheck --seconds 5 --reap --name A", 304, 304),
    ("-m recent --update --seconds 5 --hitcount 4 --name A", 304, 304),
    ("-m statistic --mode nth --every 3 --packet 0", 96, 96),
    ("-m statistic --mode random --probability 0.5", 96, 96),
    ("-m addrtype --dst-type LOCAL", 80, 80),
    ("-m addrtype --dst-type LOCAL --limit-iface-out", 80, 80),
    ("-j SNAT --to-source A", 56, 72),
    ("-j MASQUERADE", 56, 72),
    ("-j MASQUERADE --random-fully", 56, 72),
    ("-p tcp -j MASQUERADE --to-ports 5 --random-fully", 56, 72),
    ("-j DNAT --to-destination A", 80, 80),
    ("-p tcp -j REDIRECT --to-ports 5", 56, 72),
    ("-p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --clamp-mss-to-pmtu", 88, 88),
    ("-j TTL --ttl-set 64", 40, 0),
    ("-j HL --hl-set 64", 0, 40),
    ("-j CHECKSUM --checksum-fill", 40, 40),
    ("-j TRACE", 32, 32),
    ("-m rpfilter --validmark --invert", 80, 80),
    ("-m ttl --ttl-lt 5", 80, 0),
    ("-m hl --hl-lt 5", 0, 80),
    ("-m length --length 10:20", 80, 80),
    ("-m pkttype --pkt-type broadcast", 80, 80),
];

#[test]
fn every_extension_has_the_size_that_the_kernel_gave_it() {
    for &(rule, v4, v6) in MEASURED {
        for (family, bytes, addr) in [(Family::Ipv4, v4, "1.2.3.4"), (Family::Ipv6, v6, "fd00::4")] {
            if bytes == 0 {
                continue;
            }
            // `A` stands for an address where it is a word.
            let words = rule.split(' ').map(|word| match word {
                "A" if !rule.contains("--name") => addr.to_owned(),
                "A-A" => format!("{addr}-{addr}"),
                word => word.to_owned(),
            });
            let words: Vec<String> = words.collect();
            let text = format!("*mangle\n-A FORWARD {}\nCOMMIT\n", words.join(" "));
            let read = tables(&text, family);
            let rule_read = &read[0].chains[0].rules[0];
            assert_eq!(rule_bytes(rule_read, family) - entry_bytes(family), bytes, "{rule} {family:?}");
        }
    }
}

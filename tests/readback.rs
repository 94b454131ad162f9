//! What the real kernel gives back, read: rules that were printed and loaded are saved to a text that reads to the same
//! rules, and whatever a save says is printed again as it was.
//!
//! Needs what `tests/kernel/` needs; without it a test says so and passes, unless `CI=true`.

mod support;

use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::ipset;
use sim_models::kernel::rules::NodeRules;
use sim_models::proxy::{Dumps, Form, mode};
use support::lab::{able, counters, file, in_namespace, ipvs_parts, loadable, output_of, say};
use support::printed;

/// The recorded cluster, and one of 1,000 generated Services.
const CLUSTERS: [(&str, [&str; 4]); 2] = [
    ("rand-100", ["--from", "scenarios/clusters/rand-100.json", "--cluster-cidr", "10.244.0.0/16"]),
    ("generated-1000", ["--scenario", "scenarios/4k-services.toml", "--set", "cluster.services=1000"]),
];

const FAMILIES: [(Family, &str, &str); 2] =
    [(Family::Ipv4, "ipv4", "iptables"), (Family::Ipv6, "ipv6", "ip6tables")];

fn rules(cluster: &[&str], mode: &str, family: &str) -> String {
    printed(&[&["rules", "--mode", mode, "--family", family][..], cluster].concat())
}

#[track_caller]
fn read(mode: &dyn Dumps, what: &str, text: &str, family: Family) -> NodeRules {
    mode.read(text, family).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// `saved` reads to the rules of `loaded` and prints as it is.
#[track_caller]
fn same_rules(what: &str, loaded: &str, saved: &str, family: Family) {
    let mode = mode("iptables").and_then(|mode| mode.dumps()).expect("it is there");
    let [wanted, found] = [loaded, saved].map(|text| read(mode, what, text, family));
    assert_eq!(mode.print(&found, Form::Load), saved, "{what}");
    for (wanted, found) in [(&wanted, &found), (&found, &wanted)] {
        let differences = mode.diff(wanted, found, &ProxyConfig::default());
        assert!(differences.is_empty(), "{what}: {} differences, {}", differences.len(), differences[0]);
    }
}

#[test]
fn rules_loaded_into_either_backend_are_saved_to_the_same_rules() {
    let mut tested = 0;
    for backend in ["legacy", "nft"] {
        let tools = ["iptables", "ip6tables"].map(|tool| format!("{tool}-{backend}-save"));
        if !able(&format!("iptables-{backend}"), &[&tools[0], &tools[1], "iptables-legacy"]) {
            continue;
        }
        let probe = format!("iptables-{backend} -A INPUT -m comment --comment probe -j ACCEPT");
        if !in_namespace(&probe, &[]).status.success() {
            say(&format!("iptables-{backend}: skipped: this kernel has no such tables"));
            continue;
        }
        for (name, cluster) in CLUSTERS {
            for (family, flag, tool) in FAMILIES {
                let what = format!("{name} {flag} {backend}");
                let text = loadable(&what, &rules(&cluster, "iptables", flag));
                let path = file(&format!("{name}.{tool}.{backend}.readback"), &text);
                for option in ["", " -c"] {
                    let saved = output_of(
                        &format!(
                            "{}{tool}-{backend}-restore < \"$1\"\n{tool}-{backend}-save{option}",
                            counters(&text)
                        ),
                        &[&path],
                    );
                    same_rules(&what, &text, &saved, family);
                    tested += 1;
                }
            }
        }
    }
    say(&format!("readback: {tested} saves"));
}

/// Rules that other programs write, one a line, in FORWARD of table filter or where the line begins with a table and
/// its chain: those that this kernel takes are loaded.
const FOREIGN: &str = "\
-p tcp -m multiport --dports 80,443,8000:9000 -j ACCEPT
-p tcp -m multiport ! --sports 80,443 -j ACCEPT
-p udp -m multiport --ports 80 -j ACCEPT
-m limit --limit 5/min --limit-burst 7 -j LOG --log-prefix 'drop \"it\": '
-m limit
-m limit --limit 7/s
-m limit --limit 1000/s
-m limit --limit 100/day --limit-burst 1
-m physdev --physdev-in eth0 --physdev-is-bridged -j ACCEPT
-m physdev --physdev-is-in ! --physdev-is-out
-m physdev ! --physdev-in eth+ --physdev-out eth1 ! --physdev-is-in --physdev-is-out --physdev-is-bridged
-m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP
-m iprange ! --src-range 10.0.0.1 --dst-range 10.1.0.1-10.1.0.2
-m state --state NEW,ESTABLISHED -j ACCEPT
-m state ! --state NEW,UNTRACKED
-m connmark --mark 0x1/0xff -j RETURN
-m connmark ! --mark 1
-m conntrack --ctstate NEW,UNTRACKED,SNAT -j RETURN
-p tcp -m conntrack --ctstate NEW --ctproto 6 --ctorigsrc 10.0.0.0/8 --ctorigdst 1.2.3.4 --ctorigdstport 80
-m conntrack ! --ctstatus ASSURED,EXPECTED,SEEN_REPLY,CONFIRMED --ctexpire 5:9 --ctdir ORIGINAL
-m conntrack --ctreplsrc 1.1.1.1 ! --ctrepldst 2.2.2.2 --ctorigsrcport 4:5 ! --ctreplsrcport 9 --ctrepldstport 1:5
-m conntrack --ctstatus NONE --ctdir REPLY --ctexpire 4
-p tcp --syn -j DROP
-p tcp ! --syn
-p tcp --tcp-flags ALL NONE
-p tcp ! --tcp-option 8 --tcp-flags SYN,PSH PSH
-p tcp --sport 1024: --dport :80 -j DROP
-p icmp --icmp-type 8 -j ACCEPT
-p icmp ! --icmp-type 3/4
-p icmp --icmp-type any
-p icmp --icmp-type host-prohibited
-p 99 -j ACCEPT
-p gre
-p 58
! -p udplite
-f
! -f -p udp
! -p tcp -i eth+ ! -o docker0 -j ACCEPT
-s 10.0.0.1/255.0.255.0 -d 10.1.2.3/16 -p tcp -j ACCEPT
-p tcp -j REJECT --reject-with tcp-reset
-m mark --mark 1 -j REJECT --reject-with icmp-host-prohibited
-j REJECT --reject-with icmp-admin-prohibited
-j REJECT --reject-with net-unreach
-m comment --comment 'a \"b\" \\ c' -j DROP
-m comment --comment -m -j DROP
-m comment --comment x -m comment --comment '' -j DROP
-m u32 --u32 0>>22&0x3C@8&0xFFFF=0x1 -j DROP
-m recent --update --seconds 60 --hitcount 4 --name SSH --rsource -j DROP
-m recent ! --rcheck --seconds 60 --reap --rttl --name SSH --rdest --mask 255.255.255.0 -j DROP
-m recent --remove
-m recent ! --set --name x.y
-m statistic --mode nth --every 3 --packet 0 -j ACCEPT
-m statistic --mode nth ! --every 3 --packet 2
-m statistic --mode random ! --probability 0.1
-m addrtype --src-type LOCAL --dst-type BROADCAST -j ACCEPT
-m addrtype ! --src-type LOCAL,UNICAST ! --dst-type MULTICAST,BLACKHOLE,ANYCAST
-m addrtype --dst-type LOCAL --limit-iface-out
-m owner --uid-owner 0 -j ACCEPT
-m ttl --ttl-lt 5
-m ttl ! --ttl-eq 64
-m length --length 10:20
-m length ! --length 5
-m pkttype ! --pkt-type broadcast
-p sctp --dport 9 -j ACCEPT
-j LOG
-j LOG --log-level debug --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode
-j NFLOG --nflog-group 3 --nflog-prefix 'hi there' --nflog-threshold 2
raw PREROUTING -j NOTRACK
raw PREROUTING -j CT --notrack
raw OUTPUT -j CT --zone 5
raw PREROUTING -j TRACE
raw PREROUTING -m rpfilter --validmark --invert
mangle FORWARD -j CHECKSUM --checksum-fill
mangle FORWARD -j CONNMARK --save-mark
mangle FORWARD -j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x2
mangle FORWARD -j CONNMARK --restore-mark --mask 0xff
mangle FORWARD -j CONNMARK --set-mark 5
mangle FORWARD -j CONNMARK --and-mark 5
mangle FORWARD -j CONNMARK --xor-mark 5
mangle FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
mangle FORWARD -p tcp --syn -j TCPMSS --set-mss 1400
mangle FORWARD -j TTL --ttl-set 64
mangle FORWARD -j TTL --ttl-inc 1
nat POSTROUTING -j SNAT --to-source 1.2.3.4
nat POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:1000-2000 --random --persistent
nat POSTROUTING -p tcp -j SNAT --to-source :1000-2000 --random-fully
nat POSTROUTING -j MASQUERADE --random
nat POSTROUTING -p tcp -j MASQUERADE --to-ports 1000-2000 --random-fully
nat POSTROUTING -p tcp -j MASQUERADE --to-ports 1000
nat PREROUTING -p tcp -j DNAT --to-destination 1.2.3.4-1.2.3.8:80-90 --random --persistent
nat PREROUTING -p tcp -j DNAT --to-destination :80
nat PREROUTING -j DNAT --to-destination 1.2.3.4
nat PREROUTING -p tcp -j DNAT --to-destination 1.2.3.4:80-90/80
nat PREROUTING -p tcp -j REDIRECT --to-ports 80-90 --random
nat PREROUTING -p tcp -j REDIRECT
nat OUTPUT -p udp -j REDIRECT --to-ports 53";

/// The same over IPv6, where it is said in other words.
const FOREIGN_V6: &str = "\
-p icmpv6 --icmpv6-type 8
-p ipv6-icmp -m icmp6 ! --icmpv6-type neighbour-solicitation
-p icmpv6 --icmpv6-type 1/4
-m iprange --src-range fd00::1-fd00::9 -j DROP
-m hl --hl-lt 5
-m recent --set --name six --mask ffff:ffff:ffff:ffff::
-m conntrack --ctorigdst fd00::/64 ! --ctrepldst fd00::1
-m addrtype --dst-type LOCAL,UNICAST
-j REJECT --reject-with icmp6-adm-prohibited
-j REJECT --reject-with no-route
mangle FORWARD -j HL --hl-dec 1
nat POSTROUTING -j SNAT --to-source fd00::4
nat POSTROUTING -p tcp -j SNAT --to-source [fd00::4]:1000-2000 --random-fully
nat POSTROUTING -p tcp -j MASQUERADE --to-ports 1000-2000
nat PREROUTING -p tcp -j DNAT --to-destination [fd00::4-fd00::8]:80 --persistent
nat PREROUTING -j DNAT --to-destination fd00::4-fd00::8
nat PREROUTING -p tcp -j REDIRECT --to-ports 80-90";

#[test]
fn a_save_of_other_programs_rules_is_printed_as_it_was_and_loads_again() {
    for (backend, family, tool, rules) in [
        ("legacy", Family::Ipv4, "iptables", FOREIGN),
        ("legacy", Family::Ipv6, "ip6tables", FOREIGN_V6),
        ("nft", Family::Ipv4, "iptables", FOREIGN),
        ("nft", Family::Ipv6, "ip6tables", FOREIGN_V6),
    ] {
        let restore = format!("{tool}-{backend}-restore");
        let (tool, save) = (format!("{tool}-{backend}"), format!("{tool}-{backend}-save"));
        if !able(&save, &[&tool, &save, &restore]) {
            continue;
        }
        // Each on its own: what this kernel or machine lacks is left out.
        let script = rules.lines().map(|rule| {
            let is_option = rule.starts_with(['-', '!']);
            let (place, rule) = match rule.match_indices(' ').nth(1) {
                Some((at, _)) if !is_option => rule.split_at(at),
                _ => ("filter FORWARD", rule),
            };
            let words: Vec<String> = shell_words(rule);
            let (table, chain) = place.split_once(' ').expect("a table and a chain");
            let rule = words.join(" ");
            format!("{tool} -t {table} -A {chain} {rule} 2>/dev/null || echo lacks: {} >&2\n", words[0])
        });
        let saved = output_of(&format!("{}{save}", script.collect::<String>()), &[]);
        let count = saved.lines().filter(|line| line.starts_with("-A ")).count();
        say(&format!("{tool}: {count} of {} rules of other programs", rules.lines().count()));
        let mode = mode("iptables").and_then(|mode| mode.dumps()).expect("it is there");
        let found = read(mode, &tool, &saved, family);
        let printed = mode.print(&found, Form::Load);
        assert_eq!(printed, saved, "{tool}");
        let path = file(&format!("{tool}.foreign.readback"), &printed);
        let again = output_of(&format!("{restore} < \"$1\"\n{save}"), &[&path]);
        // A kernel lists tables in the order in which they were first used.
        let rules = |text: &str| {
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let of_table = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect();
            let mut tables: Vec<Vec<String>> = lines.split(|line| *line == "COMMIT").map(of_table).collect();
            tables.sort();
            tables
        };
        assert_eq!(rules(&again), rules(&saved), "{tool}");
    }
}

/// The words of a rule, as a shell takes them: what is in single quotes stays in them, all else gets them.
fn shell_words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in rule.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(format!("'{part}'"));
        } else {
            words.extend(part.split_whitespace().map(|word| format!("'{word}'")));
        }
    }
    words
}

#[test]
fn what_the_tools_of_ipvs_mode_list_reads_to_the_rules_that_were_loaded() {
    let Some(dummy) = ipvs_parts() else { return };
    let kind = if dummy { "dummy" } else { "veth" };
    let mode = mode("ipvs").and_then(|mode| mode.dumps()).expect("it is there");
    for (name, cluster) in CLUSTERS {
        let text = rules(&cluster, "ipvs", "ipv4");
        let wanted = read(mode, name, &text, Family::Ipv4);
        let tables = sim_models::kernel::xtables::print::iptables_save(&wanted);
        let addresses: String =
            wanted.dummy_addrs.iter().map(|addr| format!("addr add {addr}/32 dev kube-ipvs0\n")).collect();
        let device = format!("link add kube-ipvs0 type {kind}\n{addresses}");
        let [sets, tables, device] =
            [("ipset", &ipset::save(&wanted.ipsets)), ("ipt", &tables), ("addr", &device)]
                .map(|(part, text)| file(&format!("{name}.readback.{part}"), text));
        let mut listed = output_of(
            "ipset restore < \"$1\"\nipset save\niptables-legacy-restore < \"$2\"\niptables-legacy-save\n\
             ip -batch - < \"$3\"\nip -oneline addr show dev kube-ipvs0",
            &[&sets, &tables, &device],
        );
        // ipvsadm needs IPVS in the kernel; its lines are those that were printed.
        listed.push_str(&sim_models::kernel::ipvs::print::save(&wanted.ipvs));
        let found = read(mode, name, &listed, Family::Ipv4);
        let differences = mode.diff(&wanted, &found, &ProxyConfig::default());
        assert!(differences.is_empty(), "{name}: {} differences, {}", differences.len(), differences[0]);
    }
}

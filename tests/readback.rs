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
use support::lab::{able, counters, file, in_namespace, loadable, output_of, say};
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

/// Rules that other programs write, one a line: those that this kernel takes are loaded.
const FOREIGN: &str = "\
-p tcp -m multiport --dports 80,443,8000:9000 -j ACCEPT
-m limit --limit 5/min --limit-burst 7 -j LOG --log-prefix 'drop \"it\": '
-m physdev --physdev-in eth0 --physdev-is-bridged -j ACCEPT
-m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP
-m state --state NEW,ESTABLISHED -j ACCEPT
-m connmark --mark 0x1/0xff -j RETURN
-m conntrack --ctstate NEW,UNTRACKED,SNAT -j RETURN
-p tcp --syn -j DROP
-p tcp --sport 1024: --dport :80 -j DROP
-p icmp --icmp-type 8 -j ACCEPT
-p 99 -j ACCEPT
! -p tcp -i eth+ ! -o docker0 -j ACCEPT
-s 10.0.0.1/255.0.255.0 -d 10.1.2.3/16 -p tcp -j ACCEPT
-p tcp -j REJECT --reject-with tcp-reset
-m mark --mark 1 -j REJECT --reject-with icmp-host-prohibited
-m comment --comment 'a \"b\" \\ c' -j DROP
-m comment --comment -m -j DROP
-m comment --comment x -m comment --comment '' -j DROP
-m u32 --u32 0>>22&0x3C@8&0xFFFF=0x1 -j DROP
-m recent --update --seconds 60 --hitcount 4 --name SSH --rsource -j DROP
-m statistic --mode nth --every 3 --packet 0 -j ACCEPT
-m addrtype --src-type LOCAL --dst-type BROADCAST -j ACCEPT
-m owner --uid-owner 0 -j ACCEPT
-p sctp --dport 9 -j ACCEPT";

#[test]
fn a_save_of_other_programs_rules_is_printed_as_it_was() {
    for backend in ["legacy", "nft"] {
        let (tool, save) = (format!("iptables-{backend}"), format!("iptables-{backend}-save"));
        if !able(&save, &[&tool, &save]) {
            continue;
        }
        // Each on its own: what this kernel or machine lacks is left out.
        let script = FOREIGN.lines().map(|rule| {
            let words: Vec<String> = shell_words(rule);
            format!("{tool} -A FORWARD {} 2>/dev/null || echo lacks: {} >&2\n", words.join(" "), words[0])
        });
        let saved = output_of(&format!("{}{save}", script.collect::<String>()), &[]);
        let count = saved.lines().filter(|line| line.starts_with("-A ")).count();
        say(&format!("{tool}: {count} of {} rules of other programs", FOREIGN.lines().count()));
        let mode = mode("iptables").and_then(|mode| mode.dumps()).expect("it is there");
        let found = read(mode, &tool, &saved, Family::Ipv4);
        assert_eq!(mode.print(&found, Form::Load), saved, "{tool}");
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
    let tools = ["ipset", "iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save", "ip"];
    if !able("ipvs", &tools) {
        return;
    }
    if !in_namespace("ipset create probe hash:ip", &[]).status.success() {
        say("ipvs: skipped: needs a kernel with ip_set");
        return;
    }
    let kind =
        if in_namespace("ip link add probe type dummy", &[]).status.success() { "dummy" } else { "veth" };
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

//! One planted change is told once, with the right kind; what means nothing is not told.

use super::{diff, folder, text_of};
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;

const CASE: &str = "04-loadbalancer";

fn dump() -> String {
    text_of(&folder(CASE).join("iptables-save.txt"))
}

/// Lines of the dump after `change`.
fn changed(change: impl Fn(&mut Vec<String>)) -> String {
    let mut lines: Vec<String> = dump().lines().map(str::to_owned).collect();
    let before = lines.clone();
    change(&mut lines);
    assert_ne!(lines, before, "nothing was changed");
    lines.join("\n")
}

/// Position of the first line that contains all of `parts`.
fn at(lines: &[String], parts: &[&str]) -> usize {
    let found = lines.iter().position(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("no line with {parts:?}"))
}

/// The one difference as (kind, place, wanted, found).
#[track_caller]
fn the_only(text: &str) -> (&'static str, String, String, String) {
    let differences = diff(CASE, Family::Ipv4, text);
    assert_eq!(differences.len(), 1, "{differences:#?}");
    let difference = &differences[0];
    let text = |side: &Option<String>| side.clone().unwrap_or_default();
    (difference.kind(), difference.place.clone(), text(&difference.wanted), text(&difference.found))
}

#[track_caller]
fn nothing(text: &str) {
    let differences = diff(CASE, Family::Ipv4, text);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_missing_rule_is_missing_once() {
    for parts in [
        ["-A KUBE-SERVICES", "default/lb:http cluster IP"],
        ["-A KUBE-SVC-NPX46M4PTMTKRN6Y", "KUBE-MARK-MASQ"],
        ["-A KUBE-FW-QQNROL5V7PXTXB4C", "-s 198.51.100.0/24"],
        ["-A FORWARD", "kubernetes service portals"],
        ["-A KUBE-POSTROUTING", "RETURN"],
    ] {
        let mut line = String::new();
        let text = {
            let mut lines: Vec<String> = dump().lines().map(str::to_owned).collect();
            line.push_str(&lines.remove(at(&lines, &parts)));
            lines.join("\n")
        };
        let (kind, place, wanted, _) = the_only(&text);
        let chain = parts[0].strip_prefix("-A ").unwrap();
        assert_eq!((kind, &*wanted), ("missing", &*line));
        assert!(place.ends_with(&format!(" {chain}")), "{place}");
    }
}

#[test]
fn a_chain_that_is_stale_is_extra_with_its_rules() {
    let text = changed(|lines| {
        let chain = at(lines, &[":KUBE-SEP-DNTBDTEURPHCFC6B"]);
        lines.insert(chain, ":KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]".into());
        let rule = at(lines, &["-A KUBE-SEP-DNTBDTEURPHCFC6B"]);
        lines.insert(rule, "-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.9.9/32 -j KUBE-MARK-MASQ".into());
    });
    let (kind, place, _, found) = the_only(&text);
    assert_eq!((kind, &*place), ("extra", "nat KUBE-SEP-AAAAAAAAAAAAAAAA"));
    assert_eq!(found.lines().count(), 2);
}

#[test]
fn a_chain_that_is_gone_is_missing_once() {
    let text = changed(|lines| lines.retain(|line| !line.contains("KUBE-PROXY-CANARY")));
    let differences = diff(CASE, Family::Ipv4, &text);
    let places: Vec<&str> = differences.iter().map(|d| &*d.place).collect();
    assert_eq!(places, ["filter KUBE-PROXY-CANARY", "mangle KUBE-PROXY-CANARY", "nat KUBE-PROXY-CANARY"]);
    assert!(differences.iter().all(|d| d.kind() == "missing"));
}

#[test]
fn swapped_rules_inside_a_chain_are_changed_once() {
    for parts in [
        ["-A KUBE-SVC-QQNROL5V7PXTXB4C", "statistic"],
        ["-A KUBE-SEP-DNTBDTEURPHCFC6B", "-s 10.244.1.66"],
        ["-A KUBE-FORWARD", "INVALID"],
        ["-A INPUT", "kubernetes health check"],
        // Two rules of one Service.
        ["-A KUBE-NODEPORTS -d 127", "31087"],
    ] {
        let text = changed(|lines| {
            let first = at(lines, &parts);
            lines.swap(first, first + 1);
        });
        let (kind, place, wanted, found) = the_only(&text);
        assert_eq!(kind, "changed", "{parts:?}");
        assert_eq!(wanted, found);
        assert!(place.contains(", rule "), "{place}");
    }
}

#[test]
fn another_destination_is_one_changed_rule() {
    let text = changed(|lines| {
        let rule = at(lines, &["--to-destination 10.244.1.66:8080"]);
        lines[rule] = lines[rule].replace("10.244.1.66:8080", "10.244.1.66:8081");
    });
    let (kind, place, wanted, found) = the_only(&text);
    assert_eq!((kind, &*place), ("changed", "nat KUBE-SEP-DNTBDTEURPHCFC6B"));
    assert!(wanted.ends_with("10.244.1.66:8080") && found.ends_with("10.244.1.66:8081"));
}

#[test]
fn a_comment_that_says_something_else_is_a_changed_rule() {
    let text = changed(|lines| {
        let rule = at(lines, &["-A KUBE-SVC-NPX46M4PTMTKRN6Y", " -> 192.168.0.10:6443"]);
        lines[rule] = lines[rule].replace("192.168.0.10:6443", "192.168.0.11:6443");
    });
    assert_eq!(the_only(&text).0, "changed");
}

#[test]
fn a_rule_that_somebody_put_into_a_chain_of_kube_proxy_is_extra() {
    let rules = [
        ("-A KUBE-SERVICES -s 10.9.9.9/32 -j DROP", "-A KUBE-SERVICES"),
        ("-A KUBE-SVC-NPX46M4PTMTKRN6Y -m limit --limit 5/min -j LOG", "-A KUBE-SVC-NPX46M4PTMTKRN6Y"),
    ];
    for (rule, before) in rules {
        let text = changed(|lines| {
            let nat = at(lines, &["*nat"]);
            let place = nat + at(&lines[nat..], &[before]);
            lines.insert(place, rule.into());
        });
        let (kind, _, _, found) = the_only(&text);
        assert_eq!((kind, &*found), ("extra", rule));
    }
}

#[test]
fn the_order_of_services_means_nothing() {
    let text = changed(|lines| {
        let nat = at(lines, &["*nat"]);
        for (chain, table) in [("KUBE-SERVICES -d", nat..lines.len()), ("KUBE-PROXY-FIREWALL -d", 0..nat)] {
            let start = format!("-A {chain}");
            let places: Vec<usize> = table.filter(|&i| lines[i].starts_with(&start)).collect();
            let mut rules: Vec<String> = places.iter().map(|&i| lines[i].clone()).collect();
            // Stable: the rules of one Service keep their order.
            rules.sort_by_key(|rule| {
                std::cmp::Reverse(
                    rule.split("comment \"").nth(1).unwrap().split(' ').next().unwrap().to_owned(),
                )
            });
            for (place, rule) in places.into_iter().zip(rules) {
                lines[place] = rule;
            }
        }
    });
    nothing(&text);
}

#[test]
fn the_rule_for_node_ports_must_be_the_last() {
    let text = changed(|lines| {
        let last = at(lines, &["NOTE: this must be the last rule"]);
        lines.swap(last - 1, last);
    });
    let (kind, place, wanted, found) = the_only(&text);
    assert_eq!((kind, &*place), ("changed", "nat KUBE-SERVICES, last rule"));
    assert!(wanted.contains("must be the last") && !found.contains("must be the last"));
}

#[test]
fn even_a_dump_with_its_last_rule_misplaced_does_not_differ_from_itself() {
    let text = changed(|lines| {
        let last = at(lines, &["NOTE: this must be the last rule"]);
        lines.swap(last - 1, last);
    });
    let dumps = sim_models::proxy::mode("iptables").unwrap().dumps().unwrap();
    let rules = dumps.read(&text, Family::Ipv4).unwrap();
    assert_eq!(dumps.diff(&rules, &rules, &ProxyConfig::default()), []);
}

#[test]
fn rules_and_chains_of_others_are_not_looked_at() {
    let text = changed(|lines| {
        let forward = at(lines, &["-A FORWARD"]);
        lines.insert(forward, "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT".into());
        lines.insert(forward, "-A FORWARD -i docker0 -o docker0 -j ACCEPT".into());
        let nat = at(lines, &["*nat"]);
        let chain = nat + at(&lines[nat..], &[":KUBE-EXT"]);
        lines.insert(chain, ":KUBE-MARK-DROP - [0:0]".into());
        lines.insert(chain, ":CNI-HOSTPORT-DNAT - [0:0]".into());
        let rule = nat + at(&lines[nat..], &["-A PREROUTING"]);
        lines.insert(rule, "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT".into());
        let mark = "-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000";
        lines.insert(nat + at(&lines[nat..], &["-A KUBE-MARK-MASQ"]), mark.into());
        lines.extend(
            ["*raw", ":PREROUTING ACCEPT [5:6]", "-A PREROUTING -p udp -j CT --notrack", "COMMIT"]
                .map(str::to_owned),
        );
    });
    nothing(&text);
}

/// kubelet may have ensured its jumps before kube-proxy prepended its own, and older ones have one more rule.
#[test]
fn what_kubelet_does_in_the_shared_chain_is_no_difference() {
    let text = changed(|lines| {
        for chain in ["INPUT", "OUTPUT"] {
            let jump = lines.remove(at(lines, &[&format!("-A {chain} -j KUBE-FIREWALL")]));
            let last = lines.iter().rposition(|line| line.starts_with(&format!("-A {chain} -m"))).unwrap();
            let filter_last =
                if chain == "OUTPUT" { at(lines, &["-A KUBE-EXTERNAL"]) } else { at(lines, &["-A FORWARD"]) };
            lines.insert(filter_last.min(last + 1), jump);
        }
        let firewall = at(lines, &["-A KUBE-FIREWALL"]);
        lines.insert(
            firewall + 1,
            "-A KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark \
             --mark 0x8000/0x8000 -j DROP"
                .into(),
        );
    });
    nothing(&text);
}

#[test]
fn a_large_clusters_rules_may_lack_their_comments() {
    let text = changed(|lines| {
        for line in lines.iter_mut().filter(|line| line.starts_with("-A KUBE-SEP-") || line.contains(" -> "))
        {
            let comment = line.find(" -m comment").unwrap();
            let end = comment + 1 + line[comment + 1..].find("\" -").unwrap() + 1;
            line.replace_range(comment..end, "");
        }
    });
    nothing(&text);
}

#[test]
fn a_table_that_is_not_there_is_one_difference() {
    let text = changed(|lines| {
        let end = at(lines, &["COMMIT"]);
        lines.drain(..=end);
    });
    let (kind, place, ..) = the_only(&text);
    assert_eq!((kind, &*place), ("missing", "mangle"));
}

#[test]
fn counters_are_no_difference() {
    let text = changed(|lines| {
        for line in lines.iter_mut().filter(|line| line.starts_with("-A ")) {
            line.insert_str(0, "[12:3456] ");
        }
    });
    nothing(&text);
}

#[test]
fn a_node_whose_kernel_has_no_nfacct_has_no_rules_with_it() {
    let text = changed(|lines| {
        lines.retain(|line| !line.contains("localhost_nps_accepted_pkts"));
        for line in lines.iter_mut() {
            *line = line.replace(" -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts", "");
        }
    });
    nothing(&text);
    // One of many that is gone is missing all the same.
    let text = changed(|lines| {
        let one = at(lines, &["localhost_nps_accepted_pkts"]);
        lines.remove(one);
    });
    assert_eq!(the_only(&text).0, "missing");
}

//! Differences between the tables that we build and those that a node has.

use crate::json::{read, recorded, steps};
use sim_models::config::ProxyConfig;
use sim_models::kernel::dump::Difference;
use sim_models::kernel::nftables::diff::differences;
use sim_models::kernel::nftables::read::ruleset;
use sim_models::kernel::nftables::{ChainId, Table};
use sim_models::kernel::rules::NodeRules;
use sim_models::proxy::Dumps;
use sim_models::proxy::nftables::mode::Nftables;

fn tables(dump: &str) -> Vec<Table> {
    ruleset(dump, "kube-proxy").unwrap_or_else(|e| panic!("{e}")).tables
}

fn told(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

#[test]
fn recorded_nodes_have_what_their_objects_call_for() {
    for (folder, ours) in recorded() {
        for dump in ["nft.txt", "nft.json"] {
            for (ours, theirs) in ours.iter().zip(&tables(&read(folder.join(dump)))) {
                assert_eq!(ours.family, theirs.family);
                assert_eq!(differences(ours, theirs), [], "{}/{dump}", folder.display());
                assert_eq!(told(&differences(theirs, ours)), [""; 0], "{}/{dump}", folder.display());
            }
        }
    }
}

#[test]
fn stale_chains_are_named_and_are_no_difference() {
    let named: Vec<(String, Vec<String>)> = steps()
        .into_iter()
        .map(|(folder, ours)| {
            let theirs = tables(&read(folder.join("nft.txt")));
            let stale: Vec<String> = theirs[0].stale_chains().map(str::to_owned).collect();
            assert!(stale.iter().all(|name| ours[0].find_chain(name).is_none()), "{stale:?}");
            (folder.file_name().unwrap().to_str().unwrap().to_owned(), stale)
        })
        .filter(|(_, stale): &(_, Vec<_>)| !stale.is_empty())
        .collect();
    let of_step = |step: &str| named.iter().find(|(name, _)| name == step).map(|(_, stale)| stale.len());
    assert_eq!(of_step("02-delete-svc1-and-slice"), Some(1), "{named:?}");
    assert!(named.iter().flat_map(|(_, stale)| stale).all(|chain| chain.contains('/')), "{named:?}");
}

/// A recorded node's IPv4 table with text replaced, against what its objects call for.
fn with(case: &str, replacements: &[(&str, &str)]) -> Vec<Difference> {
    let (folder, ours) = recorded().into_iter().find(|(f, _)| f.ends_with(case)).unwrap();
    let mut dump = read(folder.join("nft.txt"));
    for (from, to) in replacements {
        assert!(dump.contains(from), "{from} is not in {dump}");
        // The IPv4 table is the first.
        dump = dump.replacen(from, to, 1);
    }
    differences(&ours[0], &tables(&dump)[0])
}

fn place_and_kind(differences: &[Difference]) -> Vec<(&str, &str)> {
    differences.iter().map(|d| (d.kind(), d.place.as_str())).collect()
}

const ONE: &str = "03-nodeport";

#[test]
fn a_changed_rule_is_told_with_both_texts() {
    let service = "chain service-KOO6QDKK-default/np-udp/udp/dns {\n\t\tmeta l4proto udp dnat ip";
    let all = with(ONE, &[(service, &service.replace("udp dnat", "tcp dnat"))]);
    assert_eq!(
        place_and_kind(&all),
        [("changed", "ip kube-proxy chain service-KOO6QDKK-default/np-udp/udp/dns")]
    );
    assert!(all[0].wanted.as_ref().unwrap().starts_with("meta l4proto udp dnat ip to numgen random mod "));
    assert!(all[0].found.as_ref().unwrap().starts_with("meta l4proto tcp dnat ip to numgen random mod "));
}

#[test]
fn an_extra_rule_between_the_others_is_one_difference() {
    let line = "\t\tct state new jump nodeport-endpoints-check\n";
    let all = with(ONE, &[(line, &format!("{line}\t\tcounter packets 4 bytes 240 drop\n"))]);
    assert_eq!(
        told(&all),
        ["extra: ip kube-proxy chain filter-input\n  + counter packets 4 bytes 240 drop\n"]
    );
}

#[test]
fn the_order_of_rules_in_a_chain_matters() {
    let (one, two) = (
        "\t\tct state new jump nodeport-endpoints-check\n",
        "\t\tct state new jump service-endpoints-check\n",
    );
    let input = format!("priority filter; policy accept;\n{one}{two}");
    let all = with(ONE, &[(&input, &format!("priority filter; policy accept;\n{two}{one}"))]);
    assert_eq!(
        place_and_kind(&all),
        [("changed", "ip kube-proxy chain filter-input, rule 1 found as rule 2")]
    );
}

#[test]
fn a_missing_element_and_a_wrong_verdict_are_told_as_elements() {
    let (folder, _) = recorded().into_iter().find(|(f, _)| f.ends_with("09-no-endpoints")).unwrap();
    let dump = read(folder.join("nft.txt"));
    let element = "10.96.9.1 . tcp . 80 comment \"default/e-cip:http\" : goto reject-chain,\n\t\t\t     ";
    assert!(dump.contains(element));
    let all = with("09-no-endpoints", &[(element, "")]);
    assert_eq!(
        told(&all),
        ["missing: ip kube-proxy map no-endpoint-services\n  \
          - 10.96.9.1 . tcp . 80 comment \"default/e-cip:http\" : goto reject-chain\n"]
    );
    let all = with("09-no-endpoints", &[(element, &element.replace("goto reject-chain", "drop"))]);
    assert_eq!(place_and_kind(&all), [("changed", "ip kube-proxy map no-endpoint-services")]);
}

#[test]
fn all_that_a_missing_service_lacks_is_told_by_place() {
    let (_, ours) = recorded().into_iter().find(|(f, _)| f.ends_with("08-affinity")).unwrap();
    let empty = recorded().into_iter().find(|(f, _)| f.ends_with("23-empty")).unwrap().1;
    let all = differences(&ours[0], &empty[0]);
    assert!(all.iter().all(|d| d.kind() == "missing"), "{:?}", told(&all));
    let places: Vec<_> = all.iter().map(|d| &d.place).collect();
    assert!(places.is_sorted());
    let affinity = all.iter().find(|d| d.place.contains("set affinity-S62ZV6DW")).unwrap();
    assert_eq!(
        affinity.wanted.as_deref(),
        Some(
            "set affinity-S62ZV6DW-default/aff/tcp/http__10.244.0.100/8080 { type ipv4_addr; flags dynamic,timeout; timeout 3h }"
        )
    );
    let endpoint = all.iter().find(|d| d.place.contains("chain endpoint-S62ZV6DW")).unwrap();
    assert_eq!(
        endpoint.wanted.as_deref(),
        Some(
            "chain endpoint-S62ZV6DW-default/aff/tcp/http__10.244.0.100/8080 { update @affinity-S62ZV6DW-default/aff/tcp/http__10.244.0.100/8080 { ip saddr }; meta l4proto tcp dnat to 10.244.0.100:8080 }"
        )
    );
    let extra = differences(&empty[0], &ours[0]);
    assert_eq!(extra.len(), all.len());
    assert!(extra.iter().all(|d| d.kind() == "extra"));
}

#[test]
fn clients_with_affinity_are_no_difference() {
    let set = "affinity-S62ZV6DW-default/aff/tcp/http__10.244.0.100/8080 {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n";
    let used = format!("{set}\t\telements = {{ 10.244.0.9 expires 2h59m3s14ms }}\n");
    assert_eq!(with("08-affinity", &[(set, &used)]), []);
}

#[test]
fn another_timeout_hook_or_comment_is_a_difference() {
    let set = "affinity-S62ZV6DW-default/aff/tcp/http__10.244.0.100/8080 {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n";
    let all = with("08-affinity", &[(set, &set.replace("3h", "1h"))]);
    assert_eq!(place_and_kind(&all).len(), 1);
    assert!(all[0].found.as_ref().unwrap().ends_with("timeout 1h"));
    let all = with(ONE, &[("priority srcnat; policy accept;", "priority srcnat + 1; policy accept;")]);
    assert_eq!(place_and_kind(&all), [("changed", "ip kube-proxy chain nat-postrouting")]);
    let all = with(ONE, &[("priority srcnat; policy accept;", "priority srcnat; policy drop;")]);
    assert_eq!(all[0].found.as_deref(), Some("type nat hook postrouting priority srcnat; policy drop;"));
    let text = "Reject traffic to invalid ports of ClusterIPs";
    let (folder, ours) = recorded().into_iter().find(|(f, _)| f.ends_with(ONE)).unwrap();
    let found = read(folder.join("nft.txt")).replace(text, "Reject");
    assert_eq!(differences(&ours[0], &tables(&found)[0]).len(), 1);
}

#[test]
fn foreign_objects_in_the_table_are_extra() {
    let head = "table ip kube-proxy {\n\tcomment \"rules for kube-proxy\"\n";
    let all = with(ONE, &[(head, &format!("{head}\tcounter hits {{\n\t\tpackets 0 bytes 0\n\t}}\n\n"))]);
    assert_eq!(place_and_kind(&all), [("extra", "ip kube-proxy counter hits")]);
}

#[test]
fn a_table_that_is_not_there_is_one_difference() {
    let (_, mut ours) = recorded().remove(0);
    let rules = NodeRules { nftables: Some(ours.remove(0)), ..NodeRules::default() };
    let all = Nftables.diff(&rules, &NodeRules::default(), &ProxyConfig::default());
    assert_eq!(told(&all), ["missing: ip kube-proxy\n  - table ip kube-proxy\n"]);
    let all = Nftables.diff(&NodeRules::default(), &rules, &ProxyConfig::default());
    assert_eq!(told(&all), ["extra: ip kube-proxy\n  + table ip kube-proxy\n"]);
    assert_eq!(Nftables.diff(&NodeRules::default(), &NodeRules::default(), &ProxyConfig::default()), []);
    assert_eq!(Nftables.diff(&rules, &rules, &ProxyConfig::default()), []);
}

#[test]
fn long_chains_are_compared_too() {
    let (_, mut ours) = recorded().remove(0);
    let mut wanted = ours.remove(0);
    let rule = wanted.chains[0].rules[0].clone();
    for i in 0..5000 {
        wanted.add_rule(ChainId(0), rule.clone().comment(&i.to_string()));
    }
    let mut found = wanted.clone();
    found.chains[0].rules.reverse();
    found.chains[0].rules.remove(7);
    let all = differences(&wanted, &found);
    assert!(all.len() >= 5000, "{}", all.len());
    assert!(all.iter().all(|d| d.place.contains("chain filter-prerouting-pre-dnat")));
}

#[test]
fn one_rule_of_many_that_moved_is_one_difference_and_says_where_it_is() {
    let (_, mut ours) = recorded().remove(0);
    let mut wanted = ours.remove(0);
    let rule = wanted.chains[0].rules[0].clone();
    wanted.chains[0].rules = (0..5000).map(|i| rule.clone().comment(&format!("{i}"))).collect();
    let mut found = wanted.clone();
    let moved = found.chains[0].rules.remove(7);
    found.chains[0].rules.insert(4000, moved);
    let all = differences(&wanted, &found);
    assert_eq!(all.len(), 1);
    assert!(all[0].place.ends_with(", rule 8 found as rule 4001"), "{}", all[0].place);
    assert_eq!(all[0].wanted, all[0].found);
}

#[test]
fn differences_in_a_chain_keep_the_order_of_its_rules() {
    let (_, mut ours) = recorded().remove(0);
    let mut wanted = ours.remove(0);
    let rule = wanted.chains[0].rules[0].clone();
    wanted.chains[0].rules = (0..30).map(|i| rule.clone().comment(&format!("{}", 30 - i))).collect();
    let mut found = wanted.clone();
    found.chains[0].rules.retain(|rule| !["20", "9", "3"].contains(&rule.comment.as_deref().unwrap()));
    let all = differences(&wanted, &found);
    let ends: Vec<&str> =
        all.iter().map(|d| d.wanted.as_deref().unwrap().rsplit_once(" comment ").unwrap().1).collect();
    assert_eq!(ends, ["\"20\"", "\"9\"", "\"3\""]);
}

#[test]
fn braces_around_one_range_and_the_former_name_of_a_port_are_no_difference() {
    let dump = |rule: &str, name: &str| {
        format!(
            "table ip kube-proxy {{\n\tmap no-endpoint-services {{\n\t\ttype ipv4_addr . inet_proto . inet_service : verdict\n\
             \t\telements = {{ 10.96.0.1 . tcp . 80 comment \"{name}\" : drop }}\n\t}}\n\n\tchain firewall-X-n/s/tcp/p {{\n\t\t{rule}\n\t}}\n}}\n"
        )
    };
    let one = tables(&dump("ip saddr != { 10.0.0.0/8 } drop", "n/s:old"));
    let other = tables(&dump("ip saddr != 10.0.0.0/8 drop", "n/s:new"));
    assert_eq!(told(&differences(&one[0], &other[0])), [""; 0]);
    let wider = tables(&dump("ip saddr != 10.0.0.0/7 drop", "n/s:new"));
    assert_eq!(differences(&one[0], &wider[0]).len(), 1);
}

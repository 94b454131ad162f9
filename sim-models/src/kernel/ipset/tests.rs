//! Sets against a naive oracle, and the shapes that the kernel's buckets take.

use super::*;
use ipnet::IpNet;
use proptest::prelude::*;
use sim_core::classify::Proto;
use std::net::IpAddr;

fn ip_port(n: u32) -> SetEntry {
    SetEntry::IpPort(IpAddr::from((0x0a60_0000 + n).to_be_bytes()), Proto::Tcp, 80)
}

fn set(kind: SetKind, elements: Vec<SetEntry>) -> IpSets {
    IpSets::new(&[IpSet { elements, ..IpSet::new("S", kind, Family::Ipv4) }], 7)
}

proptest! {
    #[test]
    fn a_set_holds_what_was_added_and_not_removed(
        steps in prop::collection::vec((any::<bool>(), 0u32..3_000), 1..4_000),
    ) {
        let mut oracle = std::collections::BTreeSet::new();
        let mut table = SetTable::new(SetKind::HashIpPort, Family::Ipv4, IpSet::DEFAULT_MAXELEM, 99);
        for (add, n) in steps {
            if add {
                prop_assert_eq!(table.add(&ip_port(n)), Ok(oracle.insert(n)));
            } else {
                prop_assert_eq!(table.remove(&ip_port(n)), oracle.remove(&n));
            }
        }
        prop_assert_eq!(table.len(), oracle.len());
        for n in 0..3_000 {
            prop_assert_eq!(table.test(&ip_port(n), &mut Work::new()), oracle.contains(&n));
        }
    }
}

/// The kernel of the recorded measurement had 32,768 buckets and 1.8 MB. At 16,384 about two buckets are
/// expected to overflow, so a few seeds do not grow.
#[test]
fn sixty_thousand_elements_usually_take_32768_buckets_and_1_8_megabytes() {
    let elements: Vec<SetEntry> = (0..60_000).map(ip_port).collect();
    let mut grown = 0;
    for initval in 0..8 {
        let mut table = SetTable::new(SetKind::HashIpPort, Family::Ipv4, IpSet::DEFAULT_MAXELEM, initval);
        assert!(elements.iter().all(|element| table.add(element) == Ok(true)));
        if table.buckets() == 32_768 {
            grown += 1;
            assert_eq!(table.memory_bytes() / 100_000, 17, "{}", table.memory_bytes());
        } else {
            assert_eq!(table.buckets(), 16_384);
        }
    }
    assert!(grown >= 5, "{grown} of 8 grew");
}

#[test]
fn a_test_counts_one_hash_and_the_elements_it_compares() {
    let sets = set(SetKind::HashIpPort, (0..2_048).map(ip_port).collect());
    let mut work = Work::new();
    assert!((0..2_048).all(|n| sets.test("S", &ip_port(n), &mut work) == Some(true)));
    assert_eq!((work[Unit::SetTests], work[Unit::Jhash]), (2_048, 2_048));
    // Two elements a bucket on average: a hit compares 1 + 2/2 of them.
    let steps = work[Unit::HashSteps];
    assert!((3_900..4_300).contains(&steps), "{steps}");
    assert!(work[Unit::LinesChase] >= 2 * 2_048);
    assert_eq!(sets.test("other", &ip_port(0), &mut work), None);
}

#[test]
fn elements_beyond_maxelem_are_silently_missing() {
    let small = IpSet {
        maxelem: 10,
        elements: (0..12).map(ip_port).collect(),
        ..IpSet::new("S", SetKind::HashIpPort, Family::Ipv4)
    };
    let sets = IpSets::new(&[small], 7);
    let there: Vec<bool> = (0..12).map(|n| sets.test_by_index(0, &ip_port(n), &mut Work::new())).collect();
    assert_eq!(there, [[true; 10].as_slice(), &[false; 2]].concat());
}

#[test]
fn a_full_set_takes_what_finds_a_deleted_elements_place() {
    let mut table = SetTable::new(SetKind::HashIpPort, Family::Ipv4, 2_000, 5);
    assert!((0..2_000).all(|n| table.add(&ip_port(n)) == Ok(true)));
    assert_eq!(table.add(&ip_port(5_000)), Err(AddError::Full));
    assert_eq!(table.add(&ip_port(7)), Ok(false), "what is there is no error of ipset -exist");
    // Two go, their places are free; one is taken again, and by more than went.
    table.remove(&ip_port(0));
    assert_eq!(table.add(&ip_port(0)), Ok(true));
    assert_eq!(table.len(), 2_000);
    table.remove(&ip_port(1));
    table.add(&ip_port(6_000)).unwrap();
    assert_eq!((table.len(), table.add(&ip_port(7_000))), (2_000, Err(AddError::Full)));
    // The place that was left in the first one's bucket, if it was not the last of its array, is nobody's yet.
    let taken = (10_000..40_000).filter(|&n| table.add(&ip_port(n)) == Ok(true)).count();
    assert!(taken <= 1, "{taken}");
}

#[test]
fn maxelem_is_counted_by_regions_so_a_large_set_may_go_a_little_beyond() {
    let mut table = SetTable::new(SetKind::HashIpPort, Family::Ipv4, 30_000, 3);
    let added = (0..40_000).filter(|&n| table.add(&ip_port(n)) == Ok(true)).count();
    assert_eq!(table.buckets(), 16_384);
    // Sixteen regions have a share of 1,875 each; those that are under theirs when the set is full are filled up.
    assert!((30_001..30_600).contains(&added), "{added}");
    let mut small = SetTable::new(SetKind::HashIpPort, Family::Ipv4, 2_000, 3);
    let added = (0..40_000).filter(|&n| small.add(&ip_port(n)) == Ok(true)).count();
    assert_eq!((small.buckets(), added), (1_024, 2_000), "one region");
}

#[test]
fn a_network_of_all_addresses_is_refused_and_missing() {
    let vip: IpAddr = "203.0.113.9".parse().unwrap();
    let all = SetEntry::IpPortNet(vip, Proto::Tcp, 80, "0.0.0.0/0".parse().unwrap());
    let mut table = SetTable::new(SetKind::HashIpPortNet, Family::Ipv4, 10, 5);
    assert_eq!(table.add(&all), Err(AddError::NoPrefix));
    assert_eq!(set(SetKind::HashIpPortNet, vec![all]).get(0).len(), 0);
}

/// The kernel counts free places only before the last element that was not deleted from the end.
#[test]
fn an_emptied_bucket_keeps_its_array_unless_it_was_emptied_from_its_end() {
    let mut table = SetTable::new(SetKind::HashIpPort, Family::Ipv4, 100_000, 5);
    let bytes = |table: &SetTable| table.memory_bytes();
    let empty = bytes(&table);
    let same_bucket = |table: &SetTable, n: u32| {
        (n + 1..)
            .find(|&other| table.bucket_of_entry(&ip_port(other)) == table.bucket_of_entry(&ip_port(n)))
            .unwrap()
    };
    let (first, second) = (0, same_bucket(&table, 0));
    for order in [[second, first], [first, second]] {
        table.add(&ip_port(first)).unwrap();
        table.add(&ip_port(second)).unwrap();
        order.into_iter().for_each(|n| assert!(table.remove(&ip_port(n))));
        assert_eq!(bytes(&table) == empty, order[0] == second);
    }
}

#[test]
fn a_network_set_tries_each_prefix_length_the_longest_first() {
    let vip: IpAddr = "203.0.113.9".parse().unwrap();
    let net = |text: &str| SetEntry::IpPortNet(vip, Proto::Tcp, 80, text.parse::<IpNet>().unwrap());
    let sets = set(SetKind::HashIpPortNet, vec![net("10.0.0.0/8"), net("10.1.0.0/16"), net("10.2.0.0/16")]);
    let rows = [("10.1.2.3", true, 1), ("10.9.9.9", true, 2), ("11.0.0.1", false, 2)];
    for (client, inside, hashes) in rows {
        let packet = Packet::tcp_syn(client.parse().unwrap(), 4_000, vip, 80);
        let mut work = Work::new();
        assert_eq!(sets.test_packet(0, &packet, &[false, false, true], &mut work), inside, "{client}");
        assert_eq!(work[Unit::Jhash], hashes, "{client}");
    }
}

#[test]
fn the_dimensions_come_from_the_side_that_the_rule_names() {
    let pod: IpAddr = "10.244.0.5".parse().unwrap();
    let hairpin = set(SetKind::HashIpPortIp, vec![SetEntry::IpPortIp(pod, Proto::Tcp, 8080, pod)]);
    let other: IpAddr = "10.244.0.6".parse().unwrap();
    let rows = [(pod, pod, true), (other, pod, false), (pod, other, false)];
    for (src, dst, inside) in rows {
        let packet = Packet::tcp_syn(src, 40_000, dst, 8080);
        let mut work = Work::new();
        assert_eq!(hairpin.test_packet(0, &packet, &[false, false, true], &mut work), inside);
    }
}

#[test]
fn a_port_bitmap_needs_no_hash_and_knows_no_sctp() {
    let sets = set(SetKind::BitmapPort, vec![SetEntry::Port(30_080)]);
    let mut packet = Packet::tcp_syn("10.0.0.1".parse().unwrap(), 1, "192.168.0.2".parse().unwrap(), 30_080);
    let mut work = Work::new();
    assert!(sets.test_packet(0, &packet, &[false], &mut work));
    assert_eq!((work[Unit::SetTests], work[Unit::Jhash]), (1, 0));
    packet.proto = Proto::Sctp;
    assert!(!sets.test_packet(0, &packet, &[false], &mut work));
    assert_eq!(sets.memory_bytes(), 8_192);
}

#[test]
fn a_set_of_one_family_never_matches_the_other() {
    let sets = set(SetKind::HashIp, vec![SetEntry::Ip("10.0.0.1".parse().unwrap())]);
    let packet = Packet::tcp_syn("fd00::1".parse().unwrap(), 1, "fd00::2".parse().unwrap(), 80);
    assert!(!sets.test_packet(0, &packet, &[false], &mut Work::new()));
}

#[test]
fn the_saved_form_is_ipsets() {
    let sets = [
        IpSet {
            elements: vec![ip_port(1)],
            ..IpSet::new("KUBE-CLUSTER-IP", SetKind::HashIpPort, Family::Ipv4)
        },
        IpSet {
            elements: vec![SetEntry::Port(30_080)],
            ..IpSet::new("N", SetKind::BitmapPort, Family::Ipv4)
        },
        IpSet::new("KUBE-6-IPVS-IPS", SetKind::HashIp, Family::Ipv6),
    ];
    let expected = "\
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536
add KUBE-CLUSTER-IP 10.96.0.1,tcp:80
create N bitmap:port range 0-65535
add N 30080
create KUBE-6-IPVS-IPS hash:ip family inet6 hashsize 1024 maxelem 65536
";
    assert_eq!(save(&sets), expected);
}

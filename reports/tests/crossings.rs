//! Where modes cross, and the words for it.
#![allow(dead_code, reason = "the builder is shared between test binaries")]

mod common;
use common::two;
use reports::crossover::{find, headline, words};
use sim_core::record::Fixed;

fn told(rows: &[(f64, f64, f64)]) -> Vec<String> {
    let points = two("cluster.services", rows);
    find(&points).iter().map(|crossover| words(crossover, &points)).collect()
}

#[test]
fn lines_that_cross_are_told_with_place_and_end() {
    let points =
        two("cluster.services", &[(100.0, 1000.0, 1100.0), (250.0, 1900.0, 1150.0), (16000.0, 105e3, 3.6e3)]);
    let found = find(&points);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].at, Some(Fixed::new(100.0 + 150.0 * 100.0 / 850.0)));
    assert_eq!(found[0].between, Some((Fixed::new(100.0), Fixed::new(250.0))));
    assert_eq!(
        words(&found[0], &points),
        "nftables beats iptables from about 118 Services on (between 100 and 250); at 16,000 Services its first packet \
         costs 3.60 us against 105 us, 29 times less."
    );
}

#[test]
fn lines_that_do_not_cross_tell_who_is_lower_everywhere() {
    assert_eq!(
        told(&[(250.0, 300.0, 200.0), (500.0, 400.0, 200.0)]),
        [
            "nftables beats iptables everywhere from 250 to 500 Services; at 500 Services its first packet costs 200 ns \
             against 400 ns, 2 times less."
        ]
    );
}

#[test]
fn every_crossing_is_told_and_a_mode_that_loses_again_costs_more_at_the_end() {
    let told = told(&[(1.0, 10.0, 20.0), (2.0, 20.0, 10.0), (3.0, 10.0, 20.0)]);
    assert_eq!(
        told,
        [
            "nftables beats iptables from about 1.50 Services on (between 1 and 2); at 3 Services its first packet costs 20 ns \
             against 10 ns, 2 times more.",
            "iptables beats nftables from about 2.50 Services on (between 2 and 3); at 3 Services its first packet costs 10 ns \
             against 20 ns, 2 times less.",
        ]
    );
}

#[test]
fn touching_is_no_crossing_but_crossing_at_a_measured_value_is_one_there() {
    let touching = find(&two("cluster.services", &[(1.0, 1.0, 2.0), (2.0, 2.0, 2.0), (3.0, 1.0, 2.0)]));
    assert_eq!((touching.len(), touching[0].at, touching[0].better.as_str()), (1, None, "iptables"));
    let through = find(&two("cluster.services", &[(1.0, 1.0, 2.0), (2.0, 2.0, 2.0), (3.0, 3.0, 2.0)]));
    assert_eq!((through.len(), through[0].at), (1, Some(Fixed::new(2.0))));
    assert_eq!(through[0].between, Some((Fixed::new(1.0), Fixed::new(3.0))));
}

#[test]
fn equal_lines_do_not_cross() {
    assert_eq!(
        told(&[(1.0, 5.0, 5.0), (2.0, 5.0, 5.0)]),
        [
            "iptables and nftables do not cross from 1 to 2 Services; at 2 Services its first packet costs 5 ns against 5 ns, the same."
        ]
    );
}

#[test]
fn a_single_point_has_no_crossing_and_modes_are_compared_instead() {
    assert!(find(&two("cluster.services", &[(250.0, 300.0, 200.0)])).is_empty());
    assert_eq!(
        headline(&common::single()),
        [
            "First packet, mean: ipvs 3.35 us, nftables 3.39 us, iptables 27.4 us. ipvs costs 8.2 times less than iptables."
        ]
    );
}

#[test]
fn instructions_and_unnamed_keys_are_told_as_such() {
    let mut points = two("network.latency", &[(1.0, 300.0, 2000.0), (2.0, 90_000.0, 2000.0)]);
    points.iter_mut().for_each(|point| point.metrics[0].unit = "instr".into());
    assert_eq!(
        find(&points).iter().map(|c| words(c, &points)).collect::<Vec<_>>(),
        [
            "nftables beats iptables from about network.latency = 1.02 on (between 1 and 2); at network.latency = 2 its first \
             packet costs 2,000 instr against 90,000 instr, 45 times less."
        ]
    );
}

#[test]
fn a_sweep_over_two_keys_is_cut_along_each() {
    let mut points = Vec::new();
    for nodes in [1.0, 2.0] {
        let mut part = two("cluster.services", &[(100.0, 1.0, 2.0), (200.0, 3.0, 2.0)]);
        part.iter_mut().for_each(|point| {
            point.axes.insert("cluster.nodes".into(), Fixed::new(nodes));
        });
        points.extend(part);
    }
    let axes: Vec<_> = find(&points).into_iter().map(|c| (c.axis, c.at)).collect();
    let at = Some(Fixed::new(150.0));
    assert_eq!(
        axes,
        [
            ("cluster.nodes at cluster.services = 100".to_owned(), None),
            ("cluster.nodes at cluster.services = 200".to_owned(), None),
            ("cluster.services at cluster.nodes = 1".to_owned(), at),
            ("cluster.services at cluster.nodes = 2".to_owned(), at),
        ]
    );
}

#[test]
fn a_crossing_that_the_record_carries_is_the_one_that_is_told() {
    let mut record = common::sweep();
    record.crossovers = find(&record.points);
    let own = headline(&record);
    record.crossovers.truncate(1);
    assert_eq!(headline(&record), own[..1]);
}

#[test]
fn modes_that_trade_places_often_are_told_in_one_sentence() {
    let mut record = common::empty();
    let rows = [(10.0, 1.0, 2.0), (20.0, 2.0, 1.0), (30.0, 1.0, 2.0), (40.0, 2.0, 1.0)];
    record.points = two("cluster.services", &rows);
    assert_eq!(
        headline(&record),
        [
            "nftables and iptables trade places 3 times, at 15, 25, 35 Services; at the end of the sweep nftables costs 2 times \
             less."
        ]
    );
}

//! What each scheduler chooses, and how many destinations it looks at.

use super::*;
use sim_core::rng::Stream;

/// Runs one scheduler over lists written as (weight, active, inactive).
struct Bench {
    scheduler: AnyScheduler,
    dests: Vec<Dest>,
    random: KernelRandom,
    flags: SchedulerFlags,
    packet: Packet,
    now: SimTime,
    steps: u32,
}

impl Bench {
    fn new(name: &str, dests: &[(u32, u32, u32)]) -> Self {
        let dest = |(n, &(weight, active, inactive)): (usize, &(u32, u32, u32))| {
            let addr = SocketAddr::from(([10, 244, 0, n as u8], 8080));
            Dest { active, inactive, ..Dest::new(addr, weight, n as u32) }
        };
        Bench {
            scheduler: by_name(name).expect("a scheduler of the table")(),
            dests: dests.iter().enumerate().map(dest).collect(),
            random: KernelRandom::new(Stream::new(1, "test", name)),
            flags: SchedulerFlags::default(),
            packet: Packet::tcp_syn([10, 244, 1, 5].into(), 40_000, [10, 96, 0, 1].into(), 80),
            now: SimTime::ZERO,
            steps: 0,
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let mut work = Work::new();
        let mut cx = ScheduleCx {
            packet: &self.packet,
            flags: self.flags,
            overhead: Overhead::Total,
            now: self.now,
            random: &mut self.random,
            work: &mut work,
        };
        let chosen = self.scheduler.schedule(&mut cx, &self.dests);
        self.steps = work[Unit::IpvsDestSteps];
        chosen
    }

    fn picks(&mut self, n: usize) -> Vec<usize> {
        (0..n).map(|_| self.pick().expect("somebody is eligible")).collect()
    }
}

#[test]
fn every_scheduler_file_is_in_the_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel/ipvs/scheduler");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder of this test")
        .map(|entry| entry.expect("readable").path().file_stem().expect("named").display().to_string())
        .filter(|name| name != "mod" && name != "tests")
        .collect();
    files.sort();
    let mut names: Vec<&str> = SCHEDULERS.iter().map(|&(name, ..)| name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
}

#[test]
fn no_scheduler_chooses_weight_zero() {
    for &(name, ..) in SCHEDULERS {
        let mut bench = Bench::new(name, &[(0, 0, 0), (2, 3, 0), (0, 0, 0), (3, 3, 5)]);
        for port in 1..200 {
            bench.packet.sport = port;
            bench.packet.src = [10, 1, 2, port as u8].into();
            if let Some(at) = bench.pick() {
                assert!(bench.dests[at].weight > 0, "{name} chose {at}");
            }
        }
        let mut none = Bench::new(name, &[(0, 0, 0), (0, 0, 0)]);
        assert_eq!(none.pick(), None, "{name} with no eligible destination");
        assert_eq!(Bench::new(name, &[]).pick(), None, "{name} with no destination at all");
    }
}

#[test]
fn rr_goes_through_the_list_and_round() {
    let mut bench = Bench::new("rr", &[(1, 0, 0); 3]);
    assert_eq!(bench.picks(7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(bench.steps, 1);
    bench.dests[1].weight = 0;
    assert_eq!((bench.pick(), bench.steps), (Some(2), 2));
}

#[test]
fn rr_keeps_its_place_when_the_list_changes() {
    let mut bench = Bench::new("rr", &[(1, 0, 0); 4]);
    assert_eq!(bench.picks(2), [0, 1]);
    bench.dests.remove(1);
    bench.scheduler.changed(&bench.dests, DestChange::Removed(1));
    assert_eq!(bench.picks(1), [1], "the one after the removed one");
    bench.dests.insert(0, Dest { slot: 9, ..bench.dests[0] });
    bench.scheduler.changed(&bench.dests, DestChange::Added);
    assert_eq!(bench.picks(2), [3, 0], "a new one waits for the next round");
}

#[test]
fn wrr_gives_each_its_weight_in_every_round() {
    let mut bench = Bench::new("wrr", &[(4, 0, 0), (3, 0, 0), (2, 0, 0)]);
    // The schedule of the LVS documentation for weights 4, 3 and 2: AABABCABC.
    assert_eq!(bench.picks(9), [0, 0, 1, 0, 1, 2, 0, 1, 2]);
    assert_eq!(bench.picks(9), [0, 0, 1, 0, 1, 2, 0, 1, 2]);
    let mut even = Bench::new("wrr", &[(2, 0, 0), (4, 0, 0)]);
    assert_eq!(even.picks(6), [1, 0, 1, 1, 0, 1]);
}

#[test]
fn lc_picks_the_fewest_and_looks_at_all() {
    let mut bench = Bench::new("lc", &[(1, 2, 0), (1, 1, 3), (1, 1, 2), (1, 1, 2), (0, 0, 0)]);
    assert_eq!((bench.pick(), bench.steps), (Some(2), 5));
}

#[test]
fn one_active_connection_outweighs_256_others_or_257_by_version() {
    let dest = Bench::new("lc", &[(1, 1, 3)]).dests[0];
    assert_eq!((dest.overhead(Overhead::Inactive), dest.overhead(Overhead::Total)), (259, 260));
}

#[test]
fn weights_divide_the_load_in_wlc_and_sed() {
    let dests = [(1, 3, 0), (4, 8, 0), (2, 5, 0)];
    assert_eq!(Bench::new("wlc", &dests).pick(), Some(1));
    assert_eq!(Bench::new("sed", &dests).pick(), Some(1));
    // (active + 1) / weight: 1/1 against 2/3.
    assert_eq!(Bench::new("sed", &[(1, 0, 0), (3, 1, 0)]).pick(), Some(1));
    assert_eq!(Bench::new("nq", &[(3, 1, 0), (1, 0, 0)]).pick(), Some(1), "nq prefers the idle one");
}

#[test]
fn nq_stops_at_the_first_idle_one_and_else_is_sed() {
    let mut idle = Bench::new("nq", &[(1, 4, 0), (1, 0, 70), (1, 0, 0)]);
    assert_eq!((idle.pick(), idle.steps), (Some(1), 2));
    let mut busy = Bench::new("nq", &[(1, 4, 0), (2, 3, 0), (1, 2, 0)]);
    assert_eq!((busy.pick(), busy.steps), (Some(1), 3));
}

#[test]
fn hashing_schedulers_keep_a_client_and_spread_clients() {
    for name in ["sh", "mh"] {
        let mut bench = Bench::new(name, &[(1, 0, 0); 4]);
        let mut share = [0u32; 4];
        for client in 0..=255u8 {
            bench.packet.src = [10, 244, client, 7].into();
            let first = bench.pick().unwrap();
            bench.packet.sport += 1;
            assert_eq!(bench.pick(), Some(first), "{name} hashes the address alone");
            share[first] += 1;
        }
        assert!(share.iter().all(|&n| (30..110).contains(&n)), "{name}: {share:?}");
        bench.flags.port = true;
        let ports: std::collections::BTreeSet<_> = (1..50)
            .map(|port| {
                bench.packet.sport = port;
                bench.pick()
            })
            .collect();
        assert!(ports.len() > 1, "{name} with its port flag hashes the port too");
    }
}

#[test]
fn a_hashed_destination_of_weight_zero_is_replaced_only_under_fallback() {
    for name in ["sh", "mh"] {
        let mut bench = Bench::new(name, &[(1, 0, 0); 4]);
        let home = bench.pick().unwrap();
        // Set without telling the scheduler, as the kernel's tables keep a destination whose weight changed.
        bench.dests[home].weight = 0;
        assert_eq!(bench.pick(), None, "{name}");
        bench.flags.fallback = true;
        assert_ne!(bench.pick().expect("another"), home, "{name}");
    }
}

#[test]
fn dh_sends_one_service_address_to_one_destination() {
    let mut bench = Bench::new("dh", &[(1, 0, 0); 4]);
    let home = bench.pick();
    for port in 1..100 {
        bench.packet.sport = port;
        assert_eq!(bench.pick(), home);
    }
}

#[test]
fn fo_takes_the_heaviest_and_ovf_until_it_is_full() {
    assert_eq!(Bench::new("fo", &[(1, 0, 0), (3, 90, 0), (3, 0, 0)]).pick(), Some(1));
    assert_eq!(Bench::new("ovf", &[(1, 0, 0), (3, 3, 0)]).pick(), Some(1));
    assert_eq!(Bench::new("ovf", &[(1, 0, 0), (3, 4, 0)]).pick(), Some(0));
    assert_eq!(Bench::new("ovf", &[(1, 2, 0), (3, 4, 0)]).pick(), None);
}

#[test]
fn lblc_stays_with_a_destination_until_it_is_overloaded() {
    for name in ["lblc", "lblcr"] {
        let mut bench = Bench::new(name, &[(2, 0, 0), (2, 0, 0), (2, 1, 0)]);
        assert_eq!(bench.picks(3), [0, 0, 0], "{name}");
        bench.dests[0].active = 2;
        assert_eq!(bench.pick(), Some(0), "{name}: as many connections as weight is no overload");
        bench.dests[0].active = 3;
        assert_eq!(bench.pick(), Some(1), "{name}: overloaded, and another is nearly idle");
    }
}

#[test]
fn twos_prefers_the_less_loaded_and_draws_two_numbers() {
    let mut bench = Bench::new("twos", &[(1, 9, 0), (1, 0, 0), (1, 0, 0)]);
    let picks = bench.picks(600);
    let share = |n| picks.iter().filter(|&&p| p == n).count();
    // The loaded one is chosen only when both draws name it; a draw of 0 counts for the first.
    assert!((90..210).contains(&share(0)), "{}", share(0));
    let mut work = Work::new();
    let mut cx = ScheduleCx {
        packet: &bench.packet,
        flags: bench.flags,
        overhead: Overhead::Total,
        now: bench.now,
        random: &mut bench.random,
        work: &mut work,
    };
    bench.scheduler.schedule(&mut cx, &bench.dests);
    assert_eq!(work[Unit::RngU32], 2);
}

/// Runs `n` connections from as many clients, each of which stays active at its destination; shares by destination.
fn shares(name: &str, weights: &[u32], n: u32) -> Vec<u32> {
    let dests: Vec<(u32, u32, u32)> = weights.iter().map(|&weight| (weight, 0, 0)).collect();
    let mut bench = Bench::new(name, &dests);
    let mut shares = vec![0; weights.len()];
    for client in 0..n {
        bench.packet.src = std::net::IpAddr::from((0x0af4_0000 + client).to_be_bytes());
        let at = bench.pick().expect("somebody is eligible");
        bench.dests[at].active += 1;
        shares[at] += 1;
    }
    shares
}

#[test]
fn each_scheduler_spreads_long_connections_as_its_name_says() {
    let weights = [1, 2, 3];
    let exact = |name| shares(name, &weights, 600);
    assert_eq!(exact("rr"), [200, 200, 200], "in turn, whatever they weigh");
    assert_eq!(exact("lc"), [200, 200, 200], "the fewest, whatever they weigh");
    for name in ["wrr", "wlc", "sed"] {
        assert_eq!(exact(name), [100, 200, 300], "{name}: by weight");
    }
    assert_eq!(exact("nq"), [100, 200, 300], "as sed once nobody is idle");
    assert_eq!(exact("fo"), [0, 0, 600], "the heaviest takes all");
    assert_eq!(exact("dh"), {
        let mut all = [0; 3];
        all[exact("dh").iter().position(|&n| n > 0).unwrap()] = 600;
        all
    });
    // Tables of 256 and of 4,093 slots by weight; the clients are as random as their hashes.
    for (name, within) in [("sh", 12), ("mh", 40)] {
        for (share, expected) in exact(name).into_iter().zip([100i32, 200, 300]) {
            assert!((share as i32 - expected).abs() <= within * 2, "{name}: {share} of {expected}");
        }
    }
    // Two choices by weight: close to the weights, and closer than one choice would be.
    for (share, expected) in exact("twos").into_iter().zip([100i32, 200, 300]) {
        assert!((share as i32 - expected).abs() <= 10, "twos: {share} of {expected}");
    }
    // The heaviest until it has as many connections as weight and one more, then the next, then nobody.
    assert_eq!(shares("ovf", &[10, 20, 30], 63), [11, 21, 31]);
}

#[test]
fn no_scheduler_chooses_a_destination_over_its_threshold() {
    for &(name, ..) in SCHEDULERS {
        let mut bench = Bench::new(name, &[(2, 0, 0), (2, 0, 0), (2, 0, 0)]);
        bench.dests[0].overloaded = true;
        bench.dests[2].overloaded = true;
        for client in 0..60u8 {
            bench.packet.src = [10, 1, 2, client].into();
            if let Some(at) = bench.pick() {
                assert_eq!(at, 1, "{name}");
            }
        }
        bench.dests[1].overloaded = true;
        // What lblc and lblcr remember, lblc alone uses without looking at thresholds.
        let kept = bench.pick();
        assert_eq!(kept, (name == "lblc").then_some(1), "{name}");
    }
}

#[test]
fn wrr_gives_up_after_one_round_for_weight_one_and_more() {
    let mut bench = Bench::new("wrr", &[(3, 0, 0), (1, 0, 0), (2, 0, 0)]);
    assert_eq!(bench.picks(2), [0, 0]);
    bench.dests.iter_mut().for_each(|d| d.overloaded = true);
    // Behind the first at weight 2; all at weight 1; that round ends at its end.
    assert_eq!((bench.pick(), bench.steps), (None, 5));
    bench.dests[1].overloaded = false;
    assert_eq!(bench.pick(), Some(1), "found at weight 1, after the heavier rounds");
}

/// What the rounds come to when destinations are added one after the other, as ipvsadm and kube-proxy do.
#[test]
fn wrr_begins_in_the_round_of_the_destination_that_was_added_first() {
    let mut bench = Bench::new("wrr", &[]);
    for (n, weight) in [(2u8, 4), (1, 3), (0, 2)] {
        let mut dest = Bench::new("wrr", &[(weight, 0, 0)]).dests[0];
        dest.addr = ([10, 244, 0, n], 8080).into();
        bench.dests.insert(0, dest);
        bench.scheduler.changed(&bench.dests, DestChange::Added);
    }
    // At weight 1 everybody is in the round; then the rounds fall from the top: 4, 3, 2, 1.
    assert_eq!(bench.picks(12), [0, 1, 2, 2, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn lblc_forgets_an_address_at_a_half_hours_look_after_a_day() {
    let hours = |n: u64| SimTime::ZERO + sim_core::units::SimSpan::from_secs(n * 3600);
    for (name, minute, kept) in
        [("lblc", 10, true), ("lblc", 40, false), ("lblcr", 10, true), ("lblcr", 40, false)]
    {
        let mut bench = Bench::new(name, &[(2, 0, 0), (2, 0, 0)]);
        assert_eq!(bench.pick(), Some(0));
        // Used last at five minutes past; the looks are at the half hours.
        bench.now = SimTime::ZERO + sim_core::units::SimSpan::from_secs(300);
        bench.pick();
        bench.dests[0].inactive = 50;
        bench.now = hours(24) + sim_core::units::SimSpan::from_secs(minute * 60);
        assert_eq!(bench.pick() == Some(0), kept, "{name} at 24 h and {minute} min");
    }
}

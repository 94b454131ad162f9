//! The indexed table against the plain walk: the same verdicts, marks, translations, steps, lists and random numbers,
//! and the same work in every unit, over random tables and packets, and after changes in place.

mod support;

use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::kernel::hook::Hook;
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::xtables::update::{TableChange, UpdateError};
use sim_models::kernel::xtables::{
    Chain, ChainId, Compiled, Match, Policy, Rule, Table, TableName, Target, Test,
};
use support::{addr, chain_name, compare, numbers, rule, sets, table};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn index_scan_and_plain_walk_tell_the_same_in_every_unit_of_work(
        table in table(),
        packets in prop::collection::vec(numbers(), 1..60),
    ) {
        let sets = sets(table.family);
        let compiled = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
        compare(&compiled, &table, &sets, &packets, |id| id)?;
    }
}

/// A change as numbers, to be made of whatever is there.
type Change = (u8, usize, usize, usize);

/// The same change in the table as data and in the compiled one; false if it cannot be made in place.
fn change(
    table: &mut Table,
    compiled: &mut Compiled,
    sets: &IpSets,
    (what, chain, at, count): Change,
    pool: &[Rule],
) -> bool {
    let in_place = |table: &Table, compiled: &Compiled, id: ChainId| {
        compiled.chain_id(0, &table.chains[id.0 as usize].name).expect("a chain")
    };
    let translated = |table: &Table, compiled: &Compiled, rule: &Rule| {
        let mut rule = rule.clone();
        if let Some(Target::Jump(to) | Target::Goto(to)) = &mut rule.target {
            *to = in_place(table, compiled, *to);
        }
        rule
    };
    let number = chain % table.chains.len();
    // Jumps come from built-in chains to chains without jumps only: others would make walks exponential.
    let is_leaf = |to: ChainId| {
        let chain = table.chains.get(to.0 as usize);
        to.0 >= 2
            && chain.is_some_and(|c| {
                !c.rules.iter().any(|r| matches!(r.target, Some(Target::Jump(_) | Target::Goto(_))))
            })
    };
    let fitting: Vec<&Rule> = pool
        .iter()
        .filter(|r| match r.target {
            Some(Target::Jump(to) | Target::Goto(to)) => number < 2 && is_leaf(to),
            _ => true,
        })
        .collect();
    let id = in_place(table, compiled, ChainId(number as u32));
    let len = table.chains[number].rules.len();
    match what % 5 {
        0 if !fitting.is_empty() => {
            let (at, new) = (at % (len + 1), fitting[count % fitting.len()].clone());
            let rule = translated(table, compiled, &new);
            if compiled.apply(0, TableChange::Insert { chain: id, at, rule }, sets)
                == Err(UpdateError::Numbered)
            {
                return false;
            }
            table.chains[number].rules.insert(at, new);
        }
        1 if len > 0 => {
            let at = at % len;
            if compiled.apply(0, TableChange::Delete { chain: id, at }, sets) == Err(UpdateError::Numbered) {
                return false;
            }
            table.chains[number].rules.remove(at);
        }
        2 => {
            let new: Vec<Rule> = fitting
                .iter()
                .cycle()
                .skip(at % 50)
                .take(count % 90 * fitting.len().min(1))
                .map(|&r| r.clone())
                .collect();
            let rules = new.iter().map(|r| translated(table, compiled, r)).collect();
            if compiled.apply(0, TableChange::Replace { chain: id, rules }, sets)
                == Err(UpdateError::Numbered)
            {
                return false;
            }
            table.chains[number].rules = new;
        }
        3 => {
            // At the end, so that jumps lead behind their chain; in the blob, behind any chain.
            let name = format!("NEW-{count}-{at}");
            if table.chains.iter().any(|c| *c.name == *name) {
                return true;
            }
            let last = in_place(table, compiled, ChainId(table.chains.len() as u32 - 1));
            compiled
                .apply(0, TableChange::Add { after: last, name: name.as_str().into() }, sets)
                .expect("a new chain");
            table.chains.push(Chain { name: name.into(), base: None, rules: Vec::new() });
        }
        _ => {
            // Jumps to the chain go first.
            if number < 2 {
                return true;
            }
            let leads = |rule: &Rule| match rule.target {
                Some(Target::Jump(to) | Target::Goto(to)) => to.0 as usize == number,
                _ => false,
            };
            for from in 0..number {
                while let Some(at) = table.chains[from].rules.iter().position(leads) {
                    let chain = in_place(table, compiled, ChainId(from as u32));
                    if compiled.apply(0, TableChange::Delete { chain, at }, sets)
                        == Err(UpdateError::Numbered)
                    {
                        return false;
                    }
                    table.chains[from].rules.remove(at);
                }
            }
            if compiled.apply(0, TableChange::Remove(id), sets) == Err(UpdateError::Numbered) {
                return false;
            }
            let name = table.chains[number].name.clone();
            table.remove_chain(&name);
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn changes_in_place_give_what_compiling_anew_gives(
        (mut table, pool) in table().prop_flat_map(|t| {
            let (family, chains) = (t.family, t.chains.len() as u32);
            let rules = (0..3u32).map(|c| prop::collection::vec(rule(family, c, chains), 1..12)).collect::<Vec<_>>();
            (Just(t), rules.prop_map(|r| r.concat()))
        }),
        changes in prop::collection::vec(any::<Change>(), 1..120),
        packets in prop::collection::vec(numbers(), 1..30),
    ) {
        let sets = sets(table.family);
        let mut compiled = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
        for round in changes.chunks(20) {
            for &numbers in round {
                if !change(&mut table, &mut compiled, &sets, numbers, &pool) {
                    // What the kernel's tool always does.
                    let anew = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
                    compiled = anew;
                }
            }
            let names: Vec<_> = compiled.chains(0).map(|(id, name)| (id, name.clone())).collect();
            prop_assert!(names.iter().map(|(_, n)| n).eq(table.chains.iter().map(|c| &c.name)));
            let anew = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
            prop_assert_eq!(compiled.memory_bytes(4), anew.memory_bytes(4));
            prop_assert_eq!(compiled.own_bytes().1, anew.own_bytes().1);
            let rename = |id| ChainId(names.iter().position(|&(of, _)| of == id).expect("a chain") as u32);
            compare(&compiled, &table, &sets, &packets, rename)?;
        }
    }
}

fn one_chain(family: Family, rules: Vec<Rule>) -> Table {
    let base = Some((Hook::Prerouting, Policy::Accept));
    let first = Chain { name: "PREROUTING".into(), base, rules };
    let output =
        Chain { name: "OUTPUT".into(), base: Some((Hook::Output, Policy::Accept)), rules: Vec::new() };
    Table { name: TableName::Nat, family, chains: vec![first, output] }
}

fn all_packets() -> Vec<support::Numbers> {
    let dsts =
        (0..60).flat_map(|dst| [(1, dst, 1, 1 + (dst % 9) as u16, 0, 0, true), (9, dst, 1, 3, 1, 1, true)]);
    // Every other packet goes to OUTPUT.
    dsts.flat_map(|p| [p, p]).collect()
}

/// Thousands of ports of one address, as an external IP of many Services has them.
#[test]
fn a_destination_with_more_rules_than_a_list_holds_is_walked_or_grouped_all_the_same() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let dst = Some(Test { invert: false, value: addr(family, 7).into() });
        let port = |n: u16| Match::Ports {
            proto: sim_core::classify::Proto::Tcp,
            sport: None,
            dport: Some(Test { invert: false, value: (n, n) }),
        };
        let proto = Some(Test { invert: false, value: sim_core::classify::Proto::Tcp });
        let with_ports =
            |n: u16| Rule { dst, proto, matches: [port(n)].into_iter().collect(), ..Rule::default() };
        let marks = |n: u16| {
            let mark = Match::Mark { value: n.into(), mask: 0xff, invert: true };
            Rule { dst, matches: [mark].into_iter().collect(), ..Rule::default() }
        };
        for rules in [(1..500).map(with_ports).collect::<Vec<_>>(), (1..500).map(marks).collect()] {
            let table = one_chain(family, rules);
            let sets = sets(family);
            let compiled = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
            compare(&compiled, &table, &sets, &all_packets(), |id| id).expect("the same");
        }
    }
}

#[test]
fn a_change_that_cannot_be_made_leaves_the_table_as_it_was() {
    let table = one_chain(Family::Ipv4, vec![Rule::default(); 40]);
    let sets = sets(Family::Ipv4);
    let mut compiled = Compiled::new(std::slice::from_ref(&table), &sets).expect("it compiles");
    let chain = compiled.chain_id(0, "PREROUTING").expect("there is one");
    let recent = Match::Recent { name: "LIST".into(), set: true, seconds: None };
    let recent = Rule { matches: [recent].into_iter().collect(), ..Rule::default() };
    let missing = Match::Set { name: "NONE".into(), from_src: [true].into_iter().collect(), invert: false };
    let missing = Rule { matches: [missing].into_iter().collect(), ..Rule::default() };
    let mut refused = |change| compiled.apply(0, change, &sets).expect_err("refused");
    assert_eq!(refused(TableChange::Insert { chain, at: 3, rule: recent.clone() }), UpdateError::Numbered);
    assert_eq!(refused(TableChange::Replace { chain, rules: vec![recent] }), UpdateError::Numbered);
    assert!(matches!(refused(TableChange::Insert { chain, at: 3, rule: missing }), UpdateError::Compile(_)));
    assert_eq!(refused(TableChange::Insert { chain, at: 41, rule: Rule::default() }), UpdateError::Missing);
    assert_eq!(refused(TableChange::Delete { chain, at: 40 }), UpdateError::Missing);
    assert_eq!(refused(TableChange::Remove(chain)), UpdateError::Missing);
    assert_eq!(refused(TableChange::Remove(ChainId(77))), UpdateError::Missing);
    assert_eq!(compiled.chain_id(0, &chain_name(5)), None);
    compare(&compiled, &table, &sets, &all_packets(), |id| id).expect("the same");
}

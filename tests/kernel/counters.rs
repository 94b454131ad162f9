//! The kernel's counters, as the tools list them.

use crate::predict::Hits;

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("no counter: {text}"))
}

/// Of `iptables-save -c`: rules of every table, and policies if wanted.
pub fn of_iptables(saved: &str, with_policies: bool) -> Hits {
    let mut hits = Hits::new();
    let mut table = String::new();
    let mut rules = std::collections::BTreeMap::<(String, String), usize>::new();
    let mut policies = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy, counts) = (words.next(), words.next(), words.next());
            let chain = (table.clone(), name.expect("a name").to_owned());
            if with_policies && policy != Some("-") {
                let counts = counts.and_then(|text| text.trim_matches(['[', ']']).split(':').next());
                policies.push((chain.clone(), number(counts.expect("a policy has counters"))));
            }
            rules.insert(chain, 0);
        } else if let Some((counts, rule)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] -A "))
        {
            let name = rule.split(' ').next().expect("a name");
            let place = rules.get_mut(&(table.clone(), name.to_owned())).expect("declared above");
            let packets = number(counts.split(':').next().expect("packets"));
            hits.insert((table.clone(), name.to_owned(), *place), packets);
            *place += 1;
        }
    }
    for (chain, packets) in policies {
        let last = rules[&chain];
        hits.insert((chain.0, chain.1, last), packets);
    }
    hits
}

/// A table of nft as `windtunnel rules` prints it, with a counter before each rule: it counts evaluations.
pub fn added_to_nft(text: &str) -> String {
    let mut in_chain = false;
    let lines = text.lines().map(|line| {
        let depth = line.len() - line.trim_start_matches('\t').len();
        if depth == 1 {
            in_chain = line.starts_with("\tchain ");
        }
        let rule = line.trim_start_matches('\t');
        let is_rule = in_chain && depth == 2 && !rule.starts_with("type ") && !rule.starts_with("comment ");
        if is_rule { format!("\t\tcounter {rule}\n") } else { format!("{line}\n") }
    });
    lines.collect()
}

/// Of `nft list table`, whose rules begin with counters.
pub fn of_nft(listed: &str) -> Hits {
    let mut hits = Hits::new();
    let mut chain = (String::new(), 0);
    for line in listed.lines() {
        if let Some(rest) = line.strip_prefix("\tchain ") {
            chain = (rest.split(' ').next().expect("a name").to_owned(), 0);
        } else if let Some(rest) = line.strip_prefix("\t\tcounter packets ") {
            let packets = number(rest.split(' ').next().expect("a number"));
            hits.insert(("nft".to_owned(), chain.0.clone(), chain.1), packets);
            chain.1 += 1;
        }
    }
    hits
}

//! A small `iptables-restore --noflush`: applies inputs to tables kept as text.
//!
//! Refuses what the real one would refuse: rules of chains that are not there, jumps to them, and deleting a chain
//! that is not empty or still jumped to.

use std::collections::BTreeMap;

/// Tables of chains of rules, each rule as it was written, without its chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    pub tables: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// Targets that are no chains.
const VERDICTS: [&str; 7] = ["ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "DNAT", "MASQUERADE"];

/// The chain that a rule jumps to.
pub fn jump(rule: &str) -> Option<&str> {
    let target = rule.split_once("-j ")?.1.split(' ').next()?;
    (!VERDICTS.contains(&target)).then_some(target)
}

impl Kernel {
    /// Runs one input, which is applied wholly or panics.
    pub fn restore(&mut self, stdin: &str) {
        let mut table: Option<&mut BTreeMap<String, Vec<String>>> = None;
        for line in stdin.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Some(self.tables.entry(name.to_owned()).or_default());
                continue;
            }
            let chains = table.as_mut().unwrap_or_else(|| panic!("no table before {line:?}"));
            if let Some(chain) = line.strip_prefix(':').and_then(|line| line.strip_suffix(" - [0:0]")) {
                chains.insert(chain.to_owned(), Vec::new());
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let (chain, rule) = rule.split_once(' ').unwrap();
                let rules = chains.get_mut(chain).unwrap_or_else(|| panic!("there is no chain for {line:?}"));
                rules.push(rule.to_owned());
            } else if let Some(chain) = line.strip_prefix("-X ") {
                let rules = chains.remove(chain).unwrap_or_else(|| panic!("there is no chain for {line:?}"));
                assert_eq!(rules, [""; 0], "{line:?} of a chain with rules");
            } else if line == "COMMIT" {
                // Inputs are applied table by table: jumps are checked where a table is complete.
                for rule in chains.values().flatten() {
                    let to = jump(rule);
                    assert!(to.is_none_or(|to| chains.contains_key(to)), "{rule:?} jumps nowhere");
                }
                table = None;
            } else {
                panic!("{line:?} is no line of a restore input");
            }
        }
        assert!(table.is_none(), "no COMMIT at the end");
    }

    /// The rules of a chain.
    pub fn rules(&self, table: &str, chain: &str) -> &[String] {
        &self.tables[table][chain]
    }

    /// The same without comments, which large clusters leave out only from what they write anew.
    pub fn without_comments(&self) -> Kernel {
        let mut kernel = self.clone();
        for rule in kernel.tables.values_mut().flat_map(BTreeMap::values_mut).flatten() {
            *rule = without_comment(rule);
        }
        kernel
    }
}

fn without_comment(rule: &str) -> String {
    let Some((before, after)) = rule.split_once("-m comment --comment ") else { return rule.to_owned() };
    let end = match after.strip_prefix('"') {
        Some(quoted) => quoted.find('"').unwrap() + 2,
        None => after.find(' ').unwrap_or(after.len()),
    };
    format!("{before}{}", after[end..].trim_start())
}

#[test]
fn comments_are_cut_whether_quoted_or_not() {
    for rule in ["-m comment --comment \"a b\" -s 1.2.3.4 -j X", "-m comment --comment a/b -s 1.2.3.4 -j X"] {
        assert_eq!(without_comment(rule), "-s 1.2.3.4 -j X");
    }
}

//! The words of one `-A` line as a [`Rule`].
//!
//! `iptables-save` prints addresses, devices and protocol, then each match with its options, then the target.
//! What people and kube-proxy write for `iptables-restore` mixes them (`-m tcp -p tcp -d 10.96.0.1 --dport 80`);
//! that is read too: an option belongs to the match that was named last, or to the protocol if none was.

use super::args::{self, Args};
use super::matches::MATCHES;
use super::targets::TARGETS;
use super::words::{Fault, Word, fault};
use crate::kernel::xtables::{Match, Rule, Target, Test};
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;

/// Options whose value is any word, even one that looks like an option: text is printed without quotes if it is
/// only letters, digits, `_` and `-`.
const TEXT_OPTIONS: [&str; 6] =
    ["--comment", "--log-prefix", "--nflog-prefix", "--string", "--name", "--ulog-prefix"];

/// Where the target of a jump leads.
pub(super) type FindChain<'f> = dyn Fn(&str) -> Option<Target> + 'f;

/// A match or target that is being read: its name and where its words are.
struct Open {
    name: usize,
    /// Position of `-m` or `-j`; of the name itself where the match is only implied.
    start: usize,
    /// The match that the protocol implies.
    implied: Option<&'static str>,
    words: SmallVec<[usize; 8]>,
}

pub(super) struct RuleReader<'r, 'a> {
    pub(super) line: &'a str,
    pub(super) words: &'r [Word<'a>],
    pub(super) family: Family,
    pub(super) chains: &'r FindChain<'r>,
}

impl<'a> RuleReader<'_, 'a> {
    /// Reads words `from..`, which follow the name of the chain.
    pub(super) fn read(&self, from: usize) -> Result<Rule, Fault> {
        let mut rule = Rule::default();
        let mut untyped_head: SmallVec<[usize; 8]> = SmallVec::new();
        let mut open: Option<Open> = None;
        let mut at = from;
        while let Some(word) = self.words.get(at) {
            let invert = usize::from(word.is("!"));
            let Some(word) = self.words.get(at + invert) else {
                return fault(word.end, "! has no option after it");
            };
            match &*word.text {
                "-s" | "-d" | "-i" | "-o" | "-p" | "-f" if !word.quoted => {
                    let end = at + invert + if word.text == "-f" { 1 } else { 2 };
                    if end > self.words.len() {
                        return fault(word.end, format!("{} has no value", word.text));
                    }
                    // Once something cannot be typed, all that follows is kept with it in order.
                    if !untyped_head.is_empty() || !self.head(&mut rule, at + invert, invert == 1)? {
                        untyped_head.extend(at..end);
                    }
                    at = end;
                }
                "-m" if !word.quoted && invert == 0 => {
                    self.close(open.take(), &mut rule)?;
                    if self.words.get(at + 1).is_none() {
                        return fault(word.end, "-m has no name of a match after it");
                    }
                    open = Some(Open { name: at + 1, start: at, implied: None, words: SmallVec::new() });
                    at += 2;
                }
                "-j" | "-g" if !word.quoted && invert == 0 => {
                    self.close(open.take(), &mut rule)?;
                    rule.target = Some(self.target(at)?);
                    at = self.words.len();
                }
                _ => {
                    if open.is_none() {
                        open = self.implied(&rule, at + invert);
                    }
                    let Some(open) = &mut open else {
                        return fault(
                            word.start,
                            format!(
                                "{} belongs to no match; allowed are -s -d -i -o -p -f -m -j -g",
                                word.text
                            ),
                        );
                    };
                    open.words.extend(at..=at + invert);
                    at += invert + 1;
                    // A value is any word.
                    if TEXT_OPTIONS.contains(&&*word.text) && at < self.words.len() {
                        open.words.push(at);
                        at += 1;
                    }
                }
            }
        }
        self.close(open.take(), &mut rule)?;
        if !untyped_head.is_empty() {
            rule.matches.insert(0, Match::Opaque(self.text(&untyped_head).into()));
        }
        Ok(rule)
    }

    /// Reads the option at `at` into the rule's head; `false` if it cannot be typed.
    fn head(&self, rule: &mut Rule, at: usize, invert: bool) -> Result<bool, Fault> {
        let option = &self.words[at];
        if option.text == "-f" {
            return match self.family {
                Family::Ipv4 if rule.fragment.replace(!invert).is_none() => Ok(true),
                Family::Ipv4 => fault(option.start, "-f is there twice"),
                Family::Ipv6 => fault(option.start, "-f is of IPv4 only"),
            };
        }
        let word = &self.words[at + 1];
        let twice = || fault(option.start, format!("{} is there twice", option.text));
        match &*option.text {
            side @ ("-s" | "-d") => {
                let Some(value) = args::net(word, self.family)? else { return Ok(false) };
                let slot = if side == "-s" { &mut rule.src } else { &mut rule.dst };
                if slot.replace(Test { invert, value }).is_some() {
                    return twice();
                }
            }
            side @ ("-i" | "-o") => {
                let slot = if side == "-i" { &mut rule.in_iface } else { &mut rule.out_iface };
                // `libxtables:xtables_parse_interface`.
                if word.text.len() > 15 {
                    return fault(word.start, format!("{:?}: a device has at most 15 characters", word.text));
                }
                if slot.replace(Test { invert, value: args::shared(word) }).is_some() {
                    return twice();
                }
            }
            _ => {
                if matches!(&*word.text, "all" | "0") {
                    return if invert { fault(word.start, "! -p all fits nothing") } else { Ok(true) };
                }
                let Some(value) = args::proto(&word.text) else { return Ok(false) };
                if rule.proto.replace(Test { invert, value }).is_some() {
                    return twice();
                }
            }
        }
        Ok(true)
    }

    /// The match that an option without `-m` belongs to: that of the protocol.
    fn implied(&self, rule: &Rule, at: usize) -> Option<Open> {
        let proto = rule.proto.filter(|test| !test.invert)?.value;
        let name = self.words[..at].iter().position(|word| word.is("-p"))? + 1;
        let of = if proto == Proto::Icmpv6 { "icmp6" } else { proto.name() };
        self.words[at].text.starts_with("--").then(|| Open {
            name,
            start: name,
            implied: Some(of),
            words: SmallVec::new(),
        })
    }

    /// Adds a match that is read whole.
    fn close(&self, open: Option<Open>, rule: &mut Rule) -> Result<(), Fault> {
        let Some(open) = open else { return Ok(()) };
        let name = &self.words[open.name];
        let of = open.implied.unwrap_or(&name.text);
        if let Some((_, read)) = MATCHES.iter().find(|(known, _)| *known == of) {
            let mut args = self.args(open.words.iter().copied(), name.end);
            if let Some(typed) = read(&mut args, self.family)? {
                rule.matches.push(typed);
                return Ok(());
            }
        }
        let mut words: SmallVec<[usize; 8]> = SmallVec::new();
        let mut text = match open.implied {
            Some(of) => format!("-m {of} "),
            None => {
                words.extend(open.start..=open.name);
                String::new()
            }
        };
        words.extend(open.words);
        text.push_str(&self.text(&words));
        rule.matches.push(Match::Opaque(text.into()));
        Ok(())
    }

    fn args<'s>(&'s self, words: impl Iterator<Item = usize>, start: usize) -> Args<'s, 'a> {
        Args { words: words.map(|at| &self.words[at]).collect(), at: 0, start }
    }

    /// The target whose `-j` or `-g` is at `at`, with all that follows.
    fn target(&self, at: usize) -> Result<Target, Fault> {
        let option = &self.words[at];
        let Some(name) = self.words.get(at + 1) else {
            return fault(option.end, format!("{} has no target after it", option.text));
        };
        let all: SmallVec<[usize; 8]> = (at..self.words.len()).collect();
        let chain = (self.chains)(&name.text);
        let is_extension =
            name.text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if chain.is_none() && (option.text == "-g" || !is_extension) {
            return fault(
                name.start,
                format!("{} is no target and no chain that is declared above", name.text),
            );
        }
        if let Some(jump) = chain {
            return match self.words.get(at + 2) {
                Some(more) => fault(more.start, "nothing follows a jump to a chain"),
                None if option.text == "-g" => Ok(match jump {
                    Target::Jump(to) => Target::Goto(to),
                    other => other,
                }),
                None => Ok(jump),
            };
        }
        if let Some((_, read)) = TARGETS.iter().find(|(known, _)| *known == name.text) {
            let mut args = self.args(at + 2..self.words.len(), name.end);
            if let Some(typed) = read(&mut args, self.family)? {
                return Ok(typed);
            }
        }
        Ok(Target::Opaque(self.text(&all).into()))
    }

    /// The text of these words as it stands in the line; a space where they are not neighbours.
    fn text(&self, words: &[usize]) -> String {
        let mut text = String::new();
        let mut last: Option<usize> = None;
        for &at in words {
            match last {
                Some(last) if last + 1 == at => {
                    text.push_str(&self.line[self.words[last].end..self.words[at].start]);
                }
                Some(_) => text.push(' '),
                None => {}
            }
            text.push_str(&self.line[self.words[at].start..self.words[at].end]);
            last = Some(at);
        }
        text
    }
}

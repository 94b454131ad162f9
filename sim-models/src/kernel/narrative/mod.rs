//! The steps of one packet as what a person reads: rules as the real tool's text, by hook, table and chain.
//!
//! [`trace::Step`](super::trace::Step)s hold indices; this looks them up in the rules they were taken through, and puts
//! each decision by chance beside the rule that took it. The result is data ([`Event`]), which `explain` prints as text
//! and JSON.
//!
//! Left out: the parts of a rule that were evaluated before one did not match.

mod effect;
mod event;

pub use event::{ChainName, Chance, Effect, Event, Outcome, RuleLine};

use super::draw::{Draw, DrawKind};
use super::explore::{Told, Walked};
use super::hook::{CtState, HookVerdict};
use super::nftables::expr::Flow;
use super::nftables::print::{ElementText, RuleText};
use super::nftables::{self, Field, KeyValue, Statement};
use super::rules::NodeRules;
use super::trace::Step;
use super::xtables::{self, Match, Policy};
use sim_core::classify::{Packet, Unit};
use std::net::SocketAddr;

/// The steps of `walked` in words; `before` is the packet as it came. With `full`, rules that did not match are told
/// one by one.
pub fn narrate(rules: &NodeRules, before: &Packet, walked: &Walked, full: bool) -> Vec<Event> {
    let mut teller = Teller { full, rules, draws: &walked.draws, told: 0, packet: *before, out: Vec::new() };
    let steps = &walked.steps;
    for (at, told) in steps.iter().enumerate() {
        teller.tell(told, steps.get(at + 1));
        teller.packet = told.packet;
    }
    teller.out
}

struct Teller<'a> {
    full: bool,
    rules: &'a NodeRules,
    draws: &'a [Draw],
    /// How many draws were told.
    told: usize,
    /// As it was before the step.
    packet: Packet,
    out: Vec<Event>,
}

impl<'a> Teller<'a> {
    fn tell(&mut self, told: &Told, next: Option<&Told>) {
        let drawn = told.work[Unit::RngU32] as usize;
        match told.step {
            Step::Hook(hook) => self.out.push(Event::Hook { hook: hook.chain_name() }),
            Step::Tracked(state) => self.out.push(Event::Conntrack { state: ct_name(state) }),
            Step::XtTable(_) | Step::NftChain(_) => {}
            Step::XtMissed { table, chain, from, to } => {
                let hit = next.map(|next| next.step);
                let hit_draws = match hit {
                    Some(Step::XtMatched { table: t, chain: c, rule }) if (t, c) == (table, chain) => {
                        usize::from(self.xt_rule(table, chain, rule).is_some_and(is_chance))
                    }
                    _ => 0,
                };
                let draws = self.draws_to(drawn.saturating_sub(hit_draws));
                self.xt_missed(table, chain, from, to, draws);
                // What is left is the next step's.
                return;
            }
            Step::XtMatched { table, chain, rule } => {
                let draws = self.draws_to(drawn);
                self.xt_matched(table, chain, rule, draws.last().copied());
            }
            Step::NftRule { chain, rule, flow } => {
                let draws = self.draws_to(drawn);
                self.nft_rule(chain, rule, flow, draws.last().copied());
            }
            Step::Destination(to) => self.out.push(Event::Destination { to, virtual_server: None }),
            Step::Source(from) => self.out.push(Event::Source { from }),
            Step::Routed { local } => self.out.push(Event::Routed { local }),
            Step::Ipvs(to) => {
                let virtual_server = Some(SocketAddr::new(self.packet.dst, self.packet.dport));
                self.out.push(Event::Destination { to, virtual_server });
            }
            Step::End(verdict) => self.out.push(Event::End { verdict: verdict_name(verdict) }),
        }
        // Draws between rules, as of a source port, are told by nobody.
        self.told = self.told.max(drawn.min(self.draws.len()));
    }

    /// The draws from the last one told up to the `end`th.
    fn draws_to(&mut self, end: usize) -> &'a [Draw] {
        let from = self.told.min(self.draws.len());
        let end = end.clamp(from, self.draws.len());
        self.told = end;
        &self.draws[from..end]
    }

    fn xt_rule(&self, table: usize, chain: xtables::ChainId, rule: u32) -> Option<&'a xtables::Rule> {
        self.rules.xtables[table].chains[chain.0 as usize].rules.get(rule as usize)
    }

    fn xt_name(&self, table: usize, chain: xtables::ChainId) -> ChainName {
        let table = &self.rules.xtables[table];
        let chain = &table.chains[chain.0 as usize];
        ChainName {
            table: table.name.name().to_owned(),
            name: chain.name.to_string(),
            base: chain.base.is_some(),
            rules: u32::try_from(chain.rules.len()).expect("fewer than 2^32 rules"),
        }
    }

    fn xt_line(&self, table: usize, chain: xtables::ChainId, rule: u32) -> RuleLine {
        let found = self.xt_rule(table, chain, rule).expect("a rule that was evaluated");
        let table = &self.rules.xtables[table];
        let mut text = String::new();
        xtables::print::write_rule(table, "", found, &mut text).expect("a string takes any text");
        let text = text.trim_start_matches("-A").trim_start().to_owned();
        let comment = found.matches.iter().find_map(|m| match m {
            Match::Comment(text) => Some(text.to_string()),
            _ => None,
        });
        let effect = effect::effect(found, self.packet.mark);
        let does = effect::words(found);
        RuleLine { number: rule + 1, text, comment, element: None, chance: None, effect, does }
    }

    fn xt_missed(&mut self, table: usize, chain: xtables::ChainId, from: u32, to: u32, draws: &[Draw]) {
        let by_chance: Vec<u32> =
            (from..to).filter(|rule| self.xt_rule(table, chain, *rule).is_some_and(is_chance)).collect();
        // A rule whose statistic match was not reached draws nothing: then which one drew is not known from here.
        let chances = if by_chance.len() == draws.len() {
            let line = |(rule, draw): (&u32, &Draw)| RuleLine {
                chance: Some(chance_of(draw)),
                ..self.xt_line(table, chain, *rule)
            };
            by_chance.iter().zip(draws).map(line).collect()
        } else {
            Vec::new()
        };
        let all = if self.full { from..to } else { 0..0 };
        let rules = all.map(|rule| self.xt_line(table, chain, rule)).collect();
        let chain = self.xt_name(table, chain);
        self.out.push(Event::Missed { chain, from: from + 1, to, chances, rules });
    }

    fn xt_matched(&mut self, table: usize, chain: xtables::ChainId, rule: u32, draw: Option<Draw>) {
        let name = self.xt_name(table, chain);
        if rule >= name.rules {
            let base = self.rules.xtables[table].chains[chain.0 as usize].base;
            let policy = match base {
                Some((_, Policy::Accept)) => "ACCEPT",
                Some((_, Policy::Drop)) => "DROP",
                None => "RETURN",
            };
            self.out.push(Event::ChainEnd { chain: name, policy });
            return;
        }
        let by_chance = self.xt_rule(table, chain, rule).is_some_and(is_chance);
        let mut line = self.xt_line(table, chain, rule);
        line.chance = draw.filter(|_| by_chance).map(|draw| chance_of(&draw));
        self.out.push(Event::Matched { chain: name, rule: line });
    }

    fn nft_rule(&mut self, chain: nftables::ChainId, rule: u32, flow: Flow, draw: Option<Draw>) {
        let table = self.rules.nftables.as_ref().expect("its rules were evaluated");
        let found = table.chain(chain);
        let name = ChainName {
            table: format!("{} {}", if self.packet.dst.is_ipv4() { "ip" } else { "ip6" }, table.name),
            name: found.name.to_string(),
            base: found.base.is_some(),
            rules: u32::try_from(found.rules.len()).expect("fewer than 2^32 rules"),
        };
        let rule_found = &found.rules[rule as usize];
        let text = RuleText(table, rule_found).to_string();
        let comment = rule_found.comment.as_ref().map(ToString::to_string);
        if flow == Flow::Break {
            let line = RuleLine {
                number: rule + 1,
                text,
                comment,
                element: None,
                chance: None,
                effect: Effect::Pass,
                does: None,
            };
            match self.out.last_mut() {
                Some(Event::Missed { chain, to, rules, .. }) if *chain == name && *to == rule => {
                    *to = rule + 1;
                    rules.extend(self.full.then_some(line));
                }
                _ => self.out.push(Event::Missed {
                    chain: name,
                    from: rule + 1,
                    to: rule + 1,
                    chances: Vec::new(),
                    rules: self.full.then_some(line).into_iter().collect(),
                }),
            }
            return;
        }
        let element = rule_found.statements.iter().find_map(|s| element_of(table, s, &self.packet));
        let line = RuleLine {
            number: rule + 1,
            text,
            comment,
            element,
            chance: draw.filter(|draw| draw.kind.options() > 1).map(|draw| chance_of(&draw)),
            effect: nft_effect(rule_found, flow, self.packet.mark),
            does: None,
        };
        self.out.push(Event::Matched { chain: name, rule: line });
    }
}

/// Whether chance has a say in a rule.
fn is_chance(rule: &xtables::Rule) -> bool {
    rule.matches.iter().any(|m| matches!(m, Match::Statistic { .. }))
}

fn chance_of(draw: &Draw) -> Chance {
    let (numerator, denominator) = draw.kind.share(draw.option);
    let outcome = match draw.kind {
        DrawKind::Chance { .. } if draw.option == 0 => Outcome::Yes,
        DrawKind::Chance { .. } => Outcome::No,
        _ => Outcome::Entry(draw.option),
    };
    Chance { numerator, denominator, outcome }
}

/// What a rule of nftables did: its last statement says, unless the verdict does.
fn nft_effect(rule: &nftables::Rule, flow: Flow, mark: u32) -> Effect {
    match flow {
        Flow::Reject => return Effect::Reject,
        Flow::Verdict(nftables::Verdict::Drop) => return Effect::Drop,
        _ => {}
    }
    let effect = |statement: &Statement| match statement {
        Statement::MarkOr(bits) => Some(Effect::Mark(mark | bits)),
        Statement::Dnat(_) | Statement::DnatNumgen(_) => Some(Effect::Dnat),
        Statement::Masquerade { .. } => Some(Effect::Masquerade),
        Statement::Update { .. } => Some(Effect::Affinity),
        _ => None,
    };
    let found = rule.statements.iter().rev().find_map(effect);
    found.unwrap_or(match flow {
        Flow::Verdict(nftables::Verdict::Accept) => Effect::Accept,
        _ => Effect::Pass,
    })
}

/// The element of the named set or map that a statement found the packet as.
fn element_of(table: &nftables::Table, statement: &Statement, packet: &Packet) -> Option<String> {
    let (fields, set) = match statement {
        Statement::Vmap { fields, map } => (fields, *map),
        Statement::InSet { fields, set } if fields.len() > 1 => (fields, *set),
        _ => return None,
    };
    let value = |field: &Field| match field {
        Field::SrcAddr => KeyValue::Addr(packet.src),
        Field::DstAddr => KeyValue::Addr(packet.dst),
        Field::L4Proto => KeyValue::Proto(packet.proto),
        Field::DstPort => KeyValue::Service(packet.dport),
    };
    let key: nftables::Key = fields.iter().map(value).collect();
    let set = &table.sets[set.0 as usize];
    let element = set.elements.iter().find(|element| element.key == key)?;
    Some(format!("@{}: {}", set.name, ElementText(table, element)))
}

fn ct_name(state: CtState) -> &'static str {
    match state {
        CtState::New => "NEW",
        CtState::Established => "ESTABLISHED",
        CtState::Related => "RELATED",
        CtState::Invalid => "INVALID",
        CtState::Untracked => "UNTRACKED",
    }
}

fn verdict_name(verdict: HookVerdict) -> &'static str {
    match verdict {
        HookVerdict::Accept => "ACCEPT",
        HookVerdict::Drop => "DROP",
        HookVerdict::Reject => "REJECT",
    }
}

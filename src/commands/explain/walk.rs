//! The walk as text: hook by hook, chain by chain, rule by rule; what did not match is folded into its number.

use super::text::{Paint, counted, probability, wrapped};
use sim_models::kernel::narrative::{ChainName, Chance, Effect, Event, Outcome, RuleLine};

/// Rules that chance decided against, shown one by one at most, from the first and to the last.
const CHANCES: usize = 2;

/// The walk.
pub fn walk(events: &[Event], paint: Paint) -> String {
    let mut writer = Writer { paint, out: String::new(), hook: "", due: None, chain: None };
    let mut at = 0;
    while at < events.len() {
        at += writer.event(&events[at..]);
    }
    writer.out
}

struct Writer<'a> {
    paint: Paint,
    out: String,
    /// The hook whose heading was written last.
    hook: &'static str,
    /// A hook that has not shown anything yet.
    due: Option<&'static str>,
    /// The chain whose heading was written last.
    chain: Option<&'a ChainName>,
}

impl<'a> Writer<'a> {
    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Writes the first of `events`; how many it took.
    fn event(&mut self, events: &'a [Event]) -> usize {
        match &events[0] {
            Event::Hook { hook } => {
                if *hook != self.hook {
                    self.due = Some(hook);
                    self.chain = None;
                }
            }
            Event::Conntrack { state } => {
                let words = match *state {
                    "NEW" => "no connection known: this is the first packet of one (NEW)",
                    "ESTABLISHED" => {
                        "belongs to a known connection (ESTABLISHED): NAT rules are not asked again"
                    }
                    "INVALID" => "no connection can be made of it (INVALID): NAT rules are not asked",
                    "UNTRACKED" => "not asked (UNTRACKED): NAT rules are not asked either",
                    other => other,
                };
                self.line(&format!("conntrack: {words}"));
            }
            Event::Missed { chain, from, to, chances, rules } => {
                self.missed(chain, (*from, *to), chances, rules, events);
            }
            Event::Matched { chain, rule } => {
                let led = led_nowhere(events, chain);
                if led.is_empty() {
                    self.heading(chain);
                    self.rule(rule);
                    return 1;
                }
                let whole = rule.number == 1
                    && led.len() == chain.rules as usize
                    && self.chain != Some(chain)
                    && chain.base;
                let chains: Vec<String> = led
                    .iter()
                    .enumerate()
                    .map(|(i, (name, rules, _))| match i {
                        0 => format!("{name} ({})", counted(u64::from(*rules), "rule")),
                        _ => format!("{name} ({rules})"),
                    })
                    .collect();
                let text = match &chains[..] {
                    [_] => {
                        let (name, rules, _) = led[0];
                        let what = match rules {
                            0 => "which is empty".to_owned(),
                            1 => "whose only rule did not match".to_owned(),
                            n => format!("where none of {} matched", counted(u64::from(n), "rule")),
                        };
                        format!("rule {} led to {name}, {what}", rule.number)
                    }
                    _ => format!(
                        "rules {}-{} led to chains without a match: {}",
                        rule.number,
                        rule.number as usize + led.len() - 1,
                        chains.join(", ")
                    ),
                };
                if whole {
                    self.hook_heading();
                    self.chain = None;
                    let name = format!("{} {}", chain.table, chain.name);
                    let lines = wrapped("  ", &format!("{name}: {text}"));
                    for (i, line) in lines.into_iter().enumerate() {
                        let line =
                            if i == 0 { line.replacen(&name, &self.paint.strong(&name), 1) } else { line };
                        self.line(&line);
                    }
                } else {
                    self.heading(chain);
                    for line in wrapped("      ", &format!("… {text}")) {
                        let line = self.paint.dim(&line);
                        self.line(&line);
                    }
                }
                return led.iter().map(|(_, _, taken)| taken).sum();
            }
            Event::ChainEnd { chain, policy: "DROP" } => {
                self.heading(chain);
                let text = self.paint.bad("policy DROP");
                self.line(&format!("         {text}"));
            }
            Event::ChainEnd { .. } | Event::End { .. } => {}
            Event::Destination { to, virtual_server } => {
                self.hook_heading();
                let by = virtual_server.map_or("NAT".to_owned(), |server| format!("IPVS server {server}"));
                let text = self.paint.change(&format!("{by}: the destination becomes {to}"));
                self.line(&format!("  {text}"));
            }
            Event::Source { from } => {
                self.hook_heading();
                let text = self.paint.change(&format!("NAT: the source becomes {from}"));
                self.line(&format!("  {text}"));
            }
            Event::Routed { local } => {
                let to = if *local { "to this node itself" } else { "onwards, to a pod or another machine" };
                self.line(&format!("routing: {to}"));
                self.chain = None;
            }
        }
        1
    }

    fn hook_heading(&mut self) {
        if let Some(hook) = self.due.take() {
            self.hook = hook;
            let text = self.paint.strong(hook);
            self.line(&text);
        }
    }

    fn heading(&mut self, chain: &'a ChainName) {
        self.hook_heading();
        if self.chain != Some(chain) {
            self.chain = Some(chain);
            let text = self.paint.strong(&format!("{} {}", chain.table, chain.name));
            self.line(&format!("  {text}"));
        }
    }

    fn missed(
        &mut self,
        chain: &'a ChainName,
        (from, to): (u32, u32),
        chances: &[RuleLine],
        rules: &[RuleLine],
        events: &'a [Event],
    ) {
        let number = u64::from(to + 1 - from);
        if !rules.is_empty() {
            self.heading(chain);
            for rule in rules {
                let chance = chances.iter().find(|c| c.number == rule.number).and_then(|c| c.chance);
                self.plain_rule(rule, chance);
            }
            return;
        }
        let whole = from == 1 && to == chain.rules;
        let is_last = !events[1..]
            .iter()
            .take(1)
            .any(|next| matches!(next, Event::Matched { chain: c, .. } if c == chain));
        if whole && is_last && chances.is_empty() && self.chain != Some(chain) {
            self.hook_heading();
            let name = format!("{} {}", chain.table, chain.name);
            let none = match number {
                1 => "its only rule did not match".to_owned(),
                n => format!("none of its {} matched", counted(n, "rule")),
            };
            let line = format!("  {}: {}", self.paint.strong(&name), self.paint.dim(&none));
            self.line(&line);
            // A heading for what follows in another chain.
            self.chain = None;
            return;
        }
        self.heading(chain);
        let plain = number - chances.len() as u64;
        if plain > 0 {
            let text = self.paint.dim(&format!("… {} did not match", counted(plain, "rule")));
            self.line(&format!("      {text}"));
        }
        let hidden = chances.len().saturating_sub(2 * CHANCES);
        for (i, rule) in chances.iter().enumerate() {
            if hidden > 1 && i == CHANCES {
                let text = self
                    .paint
                    .dim(&format!("… {} more that chance decided against", counted(hidden as u64, "rule")));
                self.line(&format!("      {text}"));
            }
            if hidden > 1 && (CHANCES..CHANCES + hidden).contains(&i) {
                continue;
            }
            self.plain_rule(rule, rule.chance);
        }
    }

    /// A rule that did not match.
    fn plain_rule(&mut self, rule: &RuleLine, chance: Option<Chance>) {
        let lines = wrapped(&format!("  {:>5}  ", rule.number), &rule.text);
        for line in lines {
            let line = self.paint.dim(&line);
            self.line(&line);
        }
        if let Some(chance) = chance {
            self.chance(chance);
        }
    }

    /// A rule that matched.
    fn rule(&mut self, rule: &RuleLine) {
        for line in wrapped(&format!("  {:>5}  ", rule.number), &rule.text) {
            self.line(&line);
        }
        if let Some(element) = &rule.element {
            for line in wrapped("         ", &format!("= {element}")) {
                self.line(&line);
            }
        }
        if let Some(chance) = rule.chance {
            self.chance(chance);
        }
        if let Some(does) = &rule.does {
            for line in wrapped("         ", does) {
                let line = self.paint.change(&line);
                self.line(&line);
            }
        }
        if let Effect::Mark(mark) = rule.effect {
            let text = self.paint.change(&format!("the mark becomes {mark:#x}"));
            self.line(&format!("         {text}"));
        }
    }

    fn chance(&mut self, chance: Chance) {
        let p = chance.numerator as f64 / chance.denominator as f64;
        let outcome = match chance.outcome {
            Outcome::Yes => "yes".to_owned(),
            Outcome::No => "no".to_owned(),
            Outcome::Entry(n) => format!("entry {n}"),
        };
        let text = self.paint.change(&format!("by chance {outcome}, {}", probability(p)));
        self.line(&format!("         {text}"));
    }
}

/// The chains that the first of `events`, rules of `from` that matched one after another, led to if nothing happened
/// there: name, rules, and how many events each took with the rule itself.
fn led_nowhere<'a>(events: &'a [Event], from: &ChainName) -> Vec<(&'a str, u32, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(Event::Matched { chain, rule }) = events.get(at)
        && chain == from
        && rule.effect == Effect::Pass
        && rule.element.is_none()
        && let Some((name, rules, taken)) = uneventful(&events[at + 1..], from)
    {
        out.push((name, rules, taken + 1));
        at += taken + 1;
    }
    out
}

/// The chain that a rule of `from` led to, if nothing happened there: its name, rules, and how many events that was.
fn uneventful<'a>(events: &'a [Event], from: &ChainName) -> Option<(&'a str, u32, usize)> {
    let (chain, mut taken) = match events.first()? {
        Event::Missed { chain, from: 1, to, chances, rules } if *to == chain.rules => {
            (chances.is_empty() && rules.is_empty()).then_some((chain, 1))?
        }
        Event::ChainEnd { chain, .. } if chain.rules == 0 => (chain, 0),
        _ => return None,
    };
    match events.get(taken) {
        Some(Event::ChainEnd { chain: c, .. }) if c == chain => taken += 1,
        Some(Event::Matched { chain: c, .. } | Event::Missed { chain: c, .. }) if c == chain => return None,
        _ => {}
    }
    (chain != from && !chain.base).then_some((&*chain.name, chain.rules, taken))
}

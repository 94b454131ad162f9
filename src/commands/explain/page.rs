//! One explanation as text: packet, walk, verdict, reasons, work, cost.

use super::report::{Explained, Explanation, Outcome, entered};
use super::text::{Paint, cost, counted, probability, short_fraction, thousands, wrapped};
use super::walk;
use sim_models::kernel::narrative::Event;
use std::fmt::Write as _;

/// A blank at which no line is broken.
const TIED: char = '\u{a0}';

/// Outcomes that are shown one by one.
const OUTCOMES: usize = 12;

/// The whole page.
pub fn page(explained: &Explained, paint: Paint) -> String {
    let data = &explained.data;
    let mut out = String::new();
    let flags = data.flags.as_ref().map_or(String::new(), |flags| format!(" {flags}"));
    let mark = if data.mark == 0 { String::new() } else { format!(", mark {:#x}", data.mark) };
    let _ = writeln!(out, "{}", paint.strong(&format!("{}{flags}{mark}", data.packet)));
    for line in wrapped("", &format!("{}; {}", entered(data.origin), data.rules)) {
        let _ = writeln!(out, "{line}");
    }
    if let Some(flow) = &data.flow {
        let _ = writeln!(out, "after {flow} was answered");
    }
    out.push('\n');
    out.push_str(&walk::walk(&data.walk, paint));
    out.push('\n');
    out.push_str(&verdict(data, paint));
    listed(&mut out, "why", &data.reasons, paint);
    if let Some(affinity) = &data.affinity {
        listed(&mut out, "affinity", std::slice::from_ref(affinity), paint);
    }
    listed(&mut out, "next", &data.hints, paint);
    out.push_str(&work(explained, paint));
    out.push_str(&costs(data, paint));
    out
}

/// A label, and lines behind it.
fn listed(out: &mut String, label: &str, lines: &[String], paint: Paint) {
    for (i, text) in lines.iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        let indent = text.len() - text.trim_start().len();
        let first = format!("{label:<10}{}", " ".repeat(indent));
        for (j, line) in wrapped(&first, text.trim_start()).into_iter().enumerate() {
            let line = if i + j == 0 { line.replacen(label, &paint.strong(label), 1) } else { line };
            let _ = writeln!(out, "{line}");
        }
    }
}

/// What becomes of it.
fn verdict(data: &Explanation, paint: Paint) -> String {
    let mut out = String::new();
    let head = match (data.verdict, data.outcomes.len()) {
        ("DNAT", 1) => format!("DNAT to {}{}", to(&data.outcomes[0]), manner(&data.outcomes[0])),
        ("DNAT", n) if data.ipvs.is_some() => {
            let ipvs = data.ipvs.as_ref().expect("it was looked at");
            let lost = if data.blackhole { ", but lost" } else { "" };
            format!("DNAT by IPVS ({}) to one of {}{lost}", ipvs.scheduler, counted(n as u64, "real server"))
        }
        ("DNAT", n) => format!("DNAT to one of {}", counted(n as u64, "backend")),
        ("ACCEPT", _) if data.walk.iter().any(|e| matches!(e, Event::Routed { local: true })) => {
            "ACCEPT, delivered to this node itself".to_owned()
        }
        ("ACCEPT", _) if data.blackhole => format!("ACCEPT, but lost: leaves as {}", data.leaves_as),
        ("ACCEPT", _) => format!("ACCEPT, leaves as {}", data.leaves_as),
        (other, _) => other.to_owned(),
    };
    let painted = match data.verdict {
        "DROP" | "REJECT" => paint.bad(&head),
        _ if data.blackhole => paint.bad(&head),
        _ => paint.good(&head),
    };
    let _ = writeln!(out, "{}   {painted}", paint.strong("verdict"));
    if data.outcomes.len() > 1 {
        for outcome in data.outcomes.iter().take(OUTCOMES) {
            let _ = writeln!(out, "{}", outcome_line(outcome, data));
        }
        let rest = &data.outcomes[data.outcomes.len().min(OUTCOMES)..];
        // The one that is shown is told wherever it stands.
        for outcome in rest.iter().filter(|outcome| outcome.shown) {
            let _ = writeln!(out, "{}", outcome_line(outcome, data));
        }
        let (mut others, mut together) = (0, 0.0);
        for outcome in rest.iter().filter(|outcome| !outcome.shown) {
            others += 1;
            together += outcome.probability.unwrap_or_default();
        }
        if others > 0 {
            let together = format!("{:.2} % together", together * 100.0);
            let _ = writeln!(out, "          … and {} more, {together}", thousands(others));
        }
    }
    if data.unexplored > 0.0 {
        let text = format!(
            "not all ways were followed, there are too many: {:.4} % of the probability is in the others",
            data.unexplored * 100.0
        );
        let _ = writeln!(out, "          {text}");
    }
    if data.outcomes.iter().any(|o| o.probability.is_none()) {
        let _ = writeln!(out, "          which one depends on the connections that the node has");
    } else if data.ipvs.is_some() && data.outcomes.len() > 1 {
        let _ = writeln!(
            out,
            "          shares are those of the long run; shown is the next one of a node without connections"
        );
    }
    out
}

fn outcome_line(outcome: &Outcome, data: &Explanation) -> String {
    let p = outcome.probability.map_or("?".to_owned(), |p| {
        match outcome.exact.as_ref().and_then(short_fraction) {
            Some(text) if p < 1.0 => text,
            _ => probability(p),
        }
    });
    let who = outcome.who.as_ref().map_or(String::new(), |who| format!("  {who}"));
    let what = if outcome.to.is_some() { to(outcome) } else { outcome.verdict.to_owned() };
    let shown = if outcome.shown && data.outcomes.len() > 1 { "  <- shown" } else { "" };
    format!("          {p:>9}  {what}{who}{}{shown}", manner(outcome))
}

fn to(outcome: &Outcome) -> String {
    outcome.to.map_or(String::new(), |to| to.to_string())
}

fn manner(outcome: &Outcome) -> &'static str {
    match (outcome.hairpin, outcome.masquerade) {
        (true, true) => ", hairpin, masqueraded",
        (true, false) => ", hairpin",
        (false, true) => ", masqueraded",
        (false, false) => "",
    }
}

/// Units in columns.
fn work(explained: &Explained, paint: Paint) -> String {
    let cells: Vec<String> = explained
        .work
        .iter()
        .map(|(unit, n)| format!("{}{TIED}{}", unit.name(), thousands(u64::from(n))))
        .collect();
    let mut out = String::new();
    listed(&mut out, "work", &[cells.join(", ")], paint);
    out.replace(TIED, " ")
}

/// A line a profile.
fn costs(data: &Explanation, paint: Paint) -> String {
    let lines: Vec<String> = data
        .cost
        .iter()
        .map(|c| {
            let about = if c.extrapolated { "~" } else { "" };
            let value = |v: f64| format!("{about}{}", cost(v, &c.unit));
            let mut text = match (c.shared, c.cold) {
                (Some(shared), Some(cold)) => {
                    format!("{} hot, {} shared cache, {} cold", value(c.hot), value(shared), value(cold))
                }
                _ => value(c.hot),
            };
            if (c.mean_hot - c.hot).abs() > c.hot * 0.005 {
                text.push_str(&format!("; {} on average over all outcomes", value(c.mean_hot)));
            }
            format!("{text} ({})", c.profile)
        })
        .collect();
    let mut out = String::new();
    listed(&mut out, "cost", &lines, paint);
    out
}

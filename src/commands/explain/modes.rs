//! The same packet under every mode, side by side.

use super::node::{self, Subject};
use super::packet::Written;
use super::report::{self, Explained, Explanation};
use super::text::{Paint, cost, thousands, wrapped};
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::commands::rules::setup::Setup;
use crate::exit::{Exit, Failure};
use crate::terminal;
use serde::Serialize;
use sim_core::classify::Unit;
use sim_models::proxy::MODES;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What `-o json` prints.
#[derive(Serialize)]
struct SideBySide {
    version: u32,
    packet: String,
    /// Whether all modes that were walked agree on verdict and possible backends.
    agree: bool,
    modes: Vec<Explanation>,
    /// Modes that packets are not walked through, each with the reason.
    left_out: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LeftOut {
    mode: &'static str,
    reason: String,
}

/// Prints the packet under every mode.
pub fn side_by_side(
    args: &ExplainArgs,
    setup: &Setup,
    written: &Written,
    paint: Paint,
) -> Result<Exit, Failure> {
    let family = written.packet.family();
    let (mut modes, mut left_out): (Vec<Explained>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    for mode in MODES.iter().copied() {
        let explained = node::walkable(mode).and_then(|()| {
            let setup = setup.in_mode(&args.cluster, mode).map_err(|failure| told(&failure))?;
            let subject = Subject::of_setup(&setup, family);
            report::explain(args, &subject, written.packet, written.flow).map_err(|failure| told(&failure))
        });
        match explained {
            Ok(explained) => modes.push(explained),
            Err(reason) => left_out.push(LeftOut { mode: mode.name(), reason }),
        }
    }
    setup.tell_notes();
    let agree = modes.windows(2).all(|pair| what(&pair[0].data) == what(&pair[1].data));
    let text = match args.output {
        ExplainFormat::Json => {
            let all = SideBySide {
                version: 1,
                packet: written.packet.to_string(),
                agree,
                modes: modes.into_iter().map(|explained| explained.data).collect(),
                left_out,
            };
            serde_json::to_string_pretty(&all).expect("numbers are finite and keys are text") + "\n"
        }
        ExplainFormat::Text => table(&modes, &left_out, agree, paint),
    };
    terminal::print(&text)?;
    Ok(Exit::Fine)
}

/// A failure in one line.
fn told(failure: &Failure) -> String {
    let text = match failure {
        Failure::Input(text) | Failure::Ours(text) => text.clone(),
        Failure::Interrupted | Failure::ClosedPipe => String::new(),
    };
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.strip_prefix("packets cannot be walked through these rules: ").unwrap_or(line).to_owned()
}

/// What becomes of the packet: verdict, and backends with the way they are reached.
fn what(data: &Explanation) -> (&'static str, bool, BTreeSet<(Option<SocketAddr>, bool)>) {
    (data.verdict, data.blackhole, data.outcomes.iter().map(|o| (o.to, o.masquerade)).collect())
}

fn table(modes: &[Explained], left_out: &[LeftOut], agree: bool, paint: Paint) -> String {
    let mut out = String::new();
    let Some(first) = modes.first() else { return out };
    let data = &first.data;
    let flags = data.flags.as_ref().map_or(String::new(), |flags| format!(" {flags}"));
    let _ = writeln!(out, "{}", paint.strong(&format!("{}{flags}", data.packet)));
    let _ = writeln!(out, "{}\n", report::entered(data.origin));
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once(String::new()).chain(modes.iter().map(|m| m.data.mode.to_owned())).collect()];
    let mut row = |label: &str, cell: &dyn Fn(&Explained) -> String| {
        rows.push(std::iter::once(label.to_owned()).chain(modes.iter().map(cell)).collect());
    };
    row("verdict", &|m| if m.data.blackhole { "lost".to_owned() } else { m.data.verdict.to_owned() });
    row("backends", &|m| m.data.outcomes.iter().filter(|o| o.to.is_some()).count().to_string());
    row("masqueraded", &|m| {
        let n = m.data.outcomes.iter().filter(|o| o.masquerade).count();
        match n {
            0 => "no".to_owned(),
            n if n == m.data.outcomes.len() => "yes".to_owned(),
            _ => "some".to_owned(),
        }
    });
    row("rules evaluated", &|m| {
        thousands(u64::from(m.work[Unit::RuleEvals]) + u64::from(m.work[Unit::NftRules]))
    });
    row("hash lookups", &|m| {
        let units = [Unit::NftLookup, Unit::SetTests, Unit::IpvsSvcLookup, Unit::IpvsConnLookup];
        thousands(units.iter().map(|unit| u64::from(m.work[*unit])).sum())
    });
    row("random numbers", &|m| m.work[Unit::RngU32].to_string());
    row("cache lines", &|m| {
        thousands(u64::from(m.work[Unit::LinesStream]) + u64::from(m.work[Unit::LinesChase]))
    });
    for i in 0..data.cost.len() {
        let of = |m: &Explained, pick: fn(&super::cost::Cost) -> Option<f64>| {
            let c = &m.data.cost[i];
            pick(c).map_or("-".to_owned(), |v| {
                format!("{}{}", if c.extrapolated { "~" } else { "" }, cost(v, &c.unit))
            })
        };
        let name = &data.cost[i].profile;
        if data.cost[i].cold.is_some() {
            row(&format!("{name}, hot"), &|m| of(m, |c| Some(c.hot)));
            row(&format!("{name}, cold"), &|m| of(m, |c| c.cold));
        } else {
            row(name, &|m| of(m, |c| Some(c.hot)));
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (i, row) in rows.iter().enumerate() {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(out, "{}", if i == 0 { paint.strong(&line) } else { line });
        if i == 0 {
            let _ = writeln!(out, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
        }
    }
    out.push('\n');
    if agree {
        let _ = writeln!(out, "{}", paint.good("All modes agree on the verdict and the backends."));
        let shown: Vec<String> = data.outcomes.iter().filter_map(|o| Some(o.to?.to_string())).collect();
        let more = if shown.len() > 8 { format!(" and {} more", shown.len() - 8) } else { String::new() };
        let reasons = data.reasons.iter().filter(|_| shown.is_empty()).cloned();
        let backends = shown.iter().take(8).cloned().collect::<Vec<_>>().join(", ") + &more;
        for text in reasons.chain((!shown.is_empty()).then_some(backends)) {
            for line in wrapped("  ", &text) {
                let _ = writeln!(out, "{line}");
            }
        }
    } else {
        let _ = writeln!(out, "{}", paint.bad("The modes differ:"));
        for m in modes {
            let backends: Vec<String> =
                m.data.outcomes.iter().filter_map(|o| o.to).take(6).map(|to| to.to_string()).collect();
            let to = if backends.is_empty() { String::new() } else { format!(" to {}", backends.join(", ")) };
            for line in wrapped(&format!("  {:<10}", m.data.mode), &format!("{}{to}", m.data.verdict)) {
                let _ = writeln!(out, "{line}");
            }
            for reason in m.data.reasons.iter().take(1) {
                for line in wrapped("            ", reason) {
                    let _ = writeln!(out, "{line}");
                }
            }
        }
    }
    for left in left_out {
        for line in wrapped(&format!("{}: ", left.mode), &left.reason) {
            let _ = writeln!(out, "{}", paint.dim(&line));
        }
    }
    out
}

//! Texts that nobody's tools printed: an error with a place, or an answer, and never a panic.

use super::{dumps, iptables};
use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::{ipset, ipvs};
use sim_models::proxy::{Form, mode};

/// Something to put into a text.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,4}",
        prop::sample::select(vec![
            "\n",
            "\"",
            "\\",
            "!",
            " ! ",
            "-A ",
            "-m ",
            "-j ",
            "-p ",
            "*nat\n",
            "COMMIT\n",
            ":X - [0:0]\n",
            "[1:",
            "0x",
            "/",
            ":",
            ",",
            "-s ::1 ",
            "--dport 99999",
            "-m tcp",
            "\u{0}",
            "é",
            "create ",
            "add ",
            "-a -t ",
        ])
        .prop_map(str::to_owned),
    ]
}

/// Cuts, repeats and insertions at random places.
fn mutate(text: &str, edits: &[(prop::sample::Index, u16, String)]) -> String {
    let mut text = text.to_owned();
    for (index, length, piece) in edits {
        if text.is_empty() {
            break;
        }
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let from = boundary(index.index(text.len()));
        let to = boundary((from + usize::from(*length)).min(text.len()));
        text.replace_range(from..to, piece);
    }
    text
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u16, String)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0u16..40, piece()), 1..6)
}

/// Reads `text`; an error points into it, and what was read can be printed, compared and read again.
fn try_all(text: &str, family: Family) {
    for name in ["iptables", "ipvs", "userspace"] {
        let mode = mode(name).unwrap().dumps().unwrap();
        match mode.read(text, family) {
            Ok(rules) => {
                let printed = mode.print(&rules, Form::Load);
                assert_eq!(mode.diff(&rules, &rules, &ProxyConfig::default()), [], "{text:?}");
                let again = mode.read(&printed, family).unwrap_or_else(|e| panic!("{e}\n{printed}"));
                assert_eq!(mode.print(&again, Form::Load), printed);
            }
            Err(error) => {
                let lines = text.lines().count().max(1);
                assert!((1..=lines).contains(&error.line), "{error} of {lines}");
                let columns = text.lines().nth(error.line - 1).map_or(0, |line| line.chars().count());
                assert!((1..=columns + 1).contains(&error.column), "{error} of {columns}");
                assert!(!error.message.is_empty());
            }
        }
    }
    let _ = ipset::parse::parse(text).map(|saved| saved.print());
    let _ = ipvs::parse::parse(text).map(|servers| ipvs::print::save(&servers));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_mutated_dump_is_an_error_with_a_place_or_is_read(
        edits in edits(), case in prop::sample::select(vec!["02-multiport-proto", "08-affinity", "14-dualstack"]), file in 0usize..4,
    ) {
        let (_, family, text) = dumps(case).swap_remove(file);
        try_all(&mutate(&text, &edits), family);
    }

    #[test]
    fn a_mutated_dump_of_ipvs_mode_is_an_error_with_a_place_or_is_read(edits in edits(), v6: bool) {
        let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
        try_all(&mutate(&super::ipvs::text(family), &edits), family);
    }

    #[test]
    fn any_text_is_an_error_with_a_place_or_is_read(pieces in prop::collection::vec(piece(), 0..20)) {
        try_all(&pieces.concat(), Family::Ipv4);
        try_all(&format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {}\nCOMMIT\n", pieces.concat()), Family::Ipv6);
    }
}

/// No deep nesting, no long token and no repetition makes reading slow or fail.
#[test]
fn a_line_of_a_megabyte_is_read() {
    let rules = ["\"".to_owned() + &"\\\"".repeat(500_000) + "\"", "a".repeat(1_000_000)];
    for comment in rules {
        let text = format!(
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment {comment} -j DROP\nCOMMIT\n"
        );
        let read = iptables().read(&text, Family::Ipv4).unwrap();
        assert_eq!(iptables().print(&read, Form::Load), text);
    }
    let many = format!(
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {}-j DROP\nCOMMIT\n",
        "-m comment --comment x ".repeat(50_000)
    );
    assert_eq!(
        iptables().read(&many, Family::Ipv4).unwrap().xtables[0].chains[0].rules[0].matches.len(),
        50_000
    );
}

//! Recorded dumps with random damage: an answer or an error, never a panic, and what is read says the same in both forms.

use crate::json::read;
use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::kernel::nftables::diff::differences;
use sim_models::kernel::nftables::json::document;
use sim_models::kernel::nftables::read::ruleset;
use sim_models::kernel::nftables::{Opaque, Table};
use std::path::Path;
use std::sync::LazyLock;

/// Dumps with all kinds of statements and elements.
static DUMPS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy");
    let cases = ["04-loadbalancer", "08-affinity", "09-no-endpoints", "14-dualstack"];
    let files = cases.iter().flat_map(|case| ["nft.txt", "nft.json"].map(|file| root.join(case).join(file)));
    files.map(|file| read(file).into_bytes()).collect()
});

/// Pieces that mean something to a reader.
const PIECES: &[&str] = &[
    "{",
    "}",
    "\"",
    ",",
    " : ",
    "\n",
    "\n}\n",
    "\t}\n",
    "[",
    "]",
    "null",
    " comment \"x\"",
    "# handle 4",
    "@",
    "table ip kube-proxy {\n",
    "elements = { ",
    "type ",
    "flags interval\n",
    "counter packets 1 bytes 2 ",
    "0",
    "-1",
    "4294967296",
    "::1",
    "10.0.0.1/33",
    "\u{e9}",
    "chain c {\n",
    "goto ",
    "numgen random mod 2 ",
    "expires 3s",
    "timeout 1d",
    "priority filter + 70000;",
    "\\u0022",
    "1e999",
];

/// One damage: where, as a share of the file; what; how much.
fn damage() -> impl Strategy<Value = (u16, u8, u8)> {
    (any::<u16>(), any::<u8>(), any::<u8>())
}

fn apply(text: &mut Vec<u8>, (place, what, size): (u16, u8, u8)) {
    let at = text.len() * usize::from(place) / usize::from(u16::MAX);
    let end = (at + usize::from(size)).min(text.len());
    match what % 5 {
        0 => drop(text.drain(at..end)),
        1 => {
            let copy = text[at..end].to_vec();
            text.splice(at..at, copy);
        }
        2 => text.iter_mut().skip(at).take(1).for_each(|b| *b = size),
        3 => text.truncate(at.max(1)),
        _ => {
            let piece = PIECES[usize::from(size) % PIECES.len()];
            text.splice(at..at, piece.bytes());
        }
    }
}

/// Reads any bytes as a dump and, if that succeeds, checks that both forms of what was read say the same.
fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(first) = ruleset(&text, "kube-proxy") else { return };
    // The notes are made of any dump.
    for family in [Family::Ipv4, Family::Ipv6] {
        assert!(first.notes("kube-proxy", family).iter().all(|note| !note.contains(char::is_control)));
    }
    let has_json = |table: &Table| table.opaque().any(|opaque| matches!(opaque, Opaque::Json(_)));
    if !first.tables.iter().any(has_json) {
        let printed: String = first.tables.iter().map(ToString::to_string).collect();
        let again = ruleset(&printed, "kube-proxy").unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert_eq!(first.tables, again.tables, "{printed}");
    }
    let json = document(&first.tables);
    let again = ruleset(&json, "kube-proxy").unwrap_or_else(|e| panic!("{e}\n{json}"));
    assert_eq!(json, document(&again.tables));
    for table in &first.tables {
        assert_eq!(differences(table, table), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_dump_gets_an_answer_or_an_error(which in any::<prop::sample::Index>(), damages in prop::collection::vec(damage(), 1..4)) {
        let mut text = which.get(&DUMPS).clone();
        for one in damages {
            // Truncating says little more than once.
            apply(&mut text, one);
        }
        check(&text);
    }

    #[test]
    fn damage_within_lines_is_read_or_told(which in any::<prop::sample::Index>(), places in prop::collection::vec((any::<u16>(), any::<u8>()), 1..3)) {
        let mut text = which.get(&DUMPS).clone();
        for (place, size) in places {
            apply(&mut text, (place, 4, size));
        }
        check(&text);
    }
}

#[test]
fn recorded_dumps_themselves_pass() {
    for dump in DUMPS.iter() {
        check(dump);
    }
    check(b"");
    check(b"\xff\xfe{");
}
